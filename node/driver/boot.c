/* Opens what a node has on disk, and repairs or sets aside what is damaged. */
#include "driver/boot.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/random.h"
#include "driver/node.h"
#include "storage/snapshot.h"
#include "store/file.h"

#include <stdio.h>
#include <string.h>

static int open_log(struct boot *boot, const struct boot_options *options,
                    struct wal_report *report, char *error, size_t error_size)
{
    struct wal_options log = {
        .fs = boot->dir.fs,
        .dir = boot->dir.log_path,
        .segment_bytes = options->log_segment_bytes,
    };
    int rc = wal_open(&log, &boot->wal, report);
    if (rc != 0) {
        snprintf(error, error_size, "%s: the log cannot be opened: %s%s%s", boot->dir.log_path,
                 error_text(rc), report->description[0] == '\0' ? "" : ": ", report->description);
    }
    return rc;
}

static int open_store(struct boot *boot, const struct boot_options *options, char *error,
                      size_t error_size)
{
    struct store_kind *kind = options->store_kind;
    const struct store_place place = {.dir = boot->dir.store_path};
    return kind->open(kind, &place, &boot->store, error, error_size);
}

static void close_store(struct boot *boot)
{
    bool is_replaced = boot->chat != NULL && chat_has_replaced_store(boot->chat);
    chat_destroy(boot->chat);
    boot->chat = NULL;
    if (is_replaced) {
        boot->store = NULL;
    }
    if (boot->store != NULL) {
        boot->store->ops->close(boot->store);
        boot->store = NULL;
    }
}

static uint64_t new_incarnation(const struct boot_options *options)
{
    if (options->new_incarnation != NULL) {
        return options->new_incarnation(options->context);
    }
    uint64_t incarnation = 0;
    while (incarnation == 0) {
        random_bytes(&incarnation, sizeof(incarnation));
    }
    return incarnation;
}

static int set_aside(struct boot *boot, const struct boot_options *options, bool is_log_kept,
                     bool is_store_kept, char *error, size_t error_size)
{
    int64_t wall_ms = clock_wall_ms(options->clock != NULL ? options->clock : clock_system());
    int rc = data_dir_set_aside(&boot->dir, wall_ms, is_log_kept, is_store_kept);
    if (rc != 0) {
        snprintf(error, error_size, "%s: damaged files cannot be set aside: %s", boot->dir.path,
                 error_text(rc));
    }
    return rc;
}

static int refuse_alone(const struct boot *boot, const char *what, char *error, size_t error_size)
{
    snprintf(error, error_size,
             "%s: %s; a cluster of one has no copy to recover from: restore the directory from a "
             "backup",
             boot->dir.path, what);
    return ERR_CORRUPT;
}

/* Begins a new log with a new incarnation after durable_applied. The node is recovering until the
 * other nodes admit it. */
static int begin_recovering(struct boot *boot, const struct boot_options *options,
                            const struct wal_hard_state *old, char *error, size_t error_size)
{
    struct wal_report report;
    int rc = open_log(boot, options, &report, error, error_size);
    if (rc != 0) {
        return rc;
    }
    CHECK(report.condition == WAL_NEW);
    struct wal_hard_state state = {
        .term = old->term,
        .incarnation = new_incarnation(options),
        .is_recovering = true,
    };
    memcpy(state.cluster_id, old->cluster_id, sizeof(state.cluster_id));
    rc = wal_stage_hard_state(boot->wal, &state);
    if (rc == 0) {
        rc = wal_commit(boot->wal);
    }
    struct store_meta meta = {0};
    if (boot->chat != NULL) {
        chat_get_meta(boot->chat, &meta);
    }
    if (rc == 0 && meta.applied_index > 0) {
        rc = wal_reset(boot->wal, meta.applied_index, meta.applied_term);
    }
    if (rc != 0) {
        snprintf(error, error_size, "%s: a new log cannot be created: %s", boot->dir.log_path,
                 error_text(rc));
    }
    return rc;
}

/* Sets the log aside and keeps the store. */
static int replace_log(struct boot *boot, const struct boot_options *options, bool has_hard_state,
                       char *error, size_t error_size)
{
    struct store_meta meta;
    chat_get_meta(boot->chat, &meta);
    struct wal_hard_state old = *wal_hard_state(boot->wal);
    if (!has_hard_state) {
        old = (struct wal_hard_state){0};
        memcpy(old.cluster_id, meta.cluster_id, sizeof(old.cluster_id));
    }
    wal_close(boot->wal);
    boot->wal = NULL;
    int rc = set_aside(boot, options, false, true, error, error_size);
    if (rc != 0) {
        return rc;
    }
    log_warn("boot", "the log is set aside: recovering from the other nodes");
    return begin_recovering(boot, options, &old, error, error_size);
}

static int mend_log(struct boot *boot, const struct boot_options *options,
                    const struct wal_report *report, char *error, size_t error_size)
{
    struct store_meta meta;
    chat_get_meta(boot->chat, &meta);
    log_error("boot", "the log is damaged", LOG_STR("where", report->description),
              LOG_U64("first_index", report->damage_first),
              LOG_U64("last_index", report->damage_last),
              LOG_U64("durable_applied", meta.applied_index));
    if (report->has_hard_state && report->damage_last <= meta.applied_index &&
        wal_drop_damaged_prefix(boot->wal, meta.applied_index, meta.applied_term) == 0) {
        log_warn("boot", "the damaged part was in the store already: nothing is lost");
        return 0;
    }
    if (options->is_alone) {
        return refuse_alone(boot, report->description, error, error_size);
    }
    return replace_log(boot, options, report->has_hard_state, error, error_size);
}

static bool has_store_file(struct boot *boot, const char *name)
{
    struct fs *fs = boot->dir.fs;
    char path[PATH_MAX + 32];
    snprintf(path, sizeof(path), "%s/%s", boot->dir.store_path, name);
    struct fs_file *file;
    int rc = fs->ops->open(fs, path, FS_OPEN_READ, &file);
    if (rc == 0) {
        fs->ops->close(fs, file);
    }
    return rc != ERR_NOT_FOUND;
}

static bool is_outvoted(struct boot *boot)
{
    return has_store_file(boot, STORE_OUTVOTED_FILE);
}

/* Handles a store that cannot be used. `error` says why. */
static int mend_store(struct boot *boot, const struct boot_options *options,
                      const struct wal_report *report, char *error, size_t error_size)
{
    log_error("boot", "the store is damaged", LOG_STR("reason", error));
    /* An empty log beside a store with entries means that the log was lost. */
    /* If most nodes disagree with this one, the log may already be wrong. */
    bool is_log_whole = report->condition != WAL_DAMAGED && report->condition != WAL_NEW &&
                        wal_first_index(boot->wal) == 1 && !is_outvoted(boot);
    if (options->is_alone && !is_log_whole) {
        char what[256];
        snprintf(what, sizeof(what), "the store is damaged: %.200s", error);
        return refuse_alone(boot, what, error, error_size);
    }
    struct wal_hard_state old = *wal_hard_state(boot->wal);
    if (!is_log_whole) {
        wal_close(boot->wal);
        boot->wal = NULL;
    }
    int rc = set_aside(boot, options, is_log_whole, false, error, error_size);
    if (rc != 0) {
        return rc;
    }
    if (is_log_whole) {
        log_warn("boot", "the store is set aside: the log is replayed from its beginning");
    } else {
        log_warn("boot", "log and store are set aside: recovering from the other nodes");
        rc = begin_recovering(boot, options, &old, error, error_size);
    }
    return rc == 0 ? open_store(boot, options, error, error_size) : rc;
}

static int open_chat(struct boot *boot, char *error, size_t error_size)
{
    int rc = chat_create(boot->store, &boot->chat);
    if (rc != 0) {
        snprintf(error, error_size, "%s: the store cannot be read: %s", boot->dir.store_path,
                 error_text(rc));
    }
    return rc;
}

/* Handles a log and a store that are intact but do not fit together: one of them was lost or comes
 * from elsewhere. `what` says how they differ. */
static int mend_misfit(struct boot *boot, const struct boot_options *options,
                       const struct wal_report *report, const char *what, char *error,
                       size_t error_size)
{
    if (options->is_alone) {
        return refuse_alone(boot, what, error, error_size);
    }
    log_error("boot", "log and store do not fit together", LOG_STR("reason", what));
    if (wal_last_index(boot->wal) < chat_durable_applied(boot->chat)) {
        return replace_log(boot, options, report->condition != WAL_NEW, error, error_size);
    }
    close_store(boot);
    struct wal_report none = {.condition = WAL_DAMAGED};
    snprintf(error, error_size, "%s", what);
    int rc = mend_store(boot, options, &none, error, error_size);
    return rc == 0 ? open_chat(boot, error, error_size) : rc;
}

/* Completes an installation: the process ended while a snapshot was being installed, and the store
 * is already the file of the snapshot. */
static int reset_log(struct boot *boot, char *error, size_t error_size)
{
    struct store_meta meta;
    chat_get_meta(boot->chat, &meta);
    log_info("boot", "the log now begins after the snapshot that was being installed",
             LOG_U64("index", meta.applied_index));
    int rc = wal_reset(boot->wal, meta.applied_index, meta.applied_term);
    if (rc != 0) {
        snprintf(error, error_size, "%s: the log cannot be reset: %s", boot->dir.log_path,
                 error_text(rc));
    }
    return rc;
}

/* Checks that the log holds every entry after durable_applied, and that both agree where they meet.
 */
static int fit_together(struct boot *boot, const struct boot_options *options,
                        const struct wal_report *report, char *error, size_t error_size)
{
    char what[128];
    int rc = node_check_fit(boot->wal, boot->chat, what, sizeof(what));
    if (rc != 0) {
        rc = data_dir_is_installing(&boot->dir)
                 ? reset_log(boot, error, error_size)
                 : mend_misfit(boot, options, report, what, error, error_size);
    }
    if (rc != 0) {
        return rc;
    }
    rc = data_dir_end_install(&boot->dir);
    if (rc != 0) {
        snprintf(error, error_size, "%s: cannot be written: %s", boot->dir.path, error_text(rc));
    }
    return rc;
}

/* Completes the part of an interrupted installation that comes before the store is opened, and
 * removes files that are no longer needed. */
static int tidy(struct boot *boot, char *error, size_t error_size)
{
    int rc = snapshot_clear_dir(boot->dir.fs, boot->dir.snapshots_path);
    if (rc == 0 && data_dir_is_installing(&boot->dir)) {
        /* A killed process may have left changes that are not synced. The mark is synced first. */
        rc = data_dir_begin_install(&boot->dir);
        if (rc == 0) {
            rc = data_dir_swap_store(&boot->dir);
            rc = rc == ERR_NOT_FOUND ? 0 : rc;
        }
    }
    if (rc != 0) {
        snprintf(error, error_size, "%s: snapshots cannot be tidied up: %s", boot->dir.path,
                 error_text(rc));
    }
    return rc;
}

/* Gives a new data_dir its incarnation, durably. */
static int settle_incarnation(struct boot *boot, uint64_t fresh)
{
    struct wal_hard_state state = *wal_hard_state(boot->wal);
    int rc = 0;
    if (state.incarnation == 0) {
        state.incarnation = fresh;
        rc = wal_stage_hard_state(boot->wal, &state);
        if (rc == 0) {
            rc = wal_commit(boot->wal);
        }
    }
    boot->incarnation = state.incarnation;
    return rc;
}

/* Creates an empty store. Its contents come from the log, or from the other nodes if the log was
 * cut. */
static void say_if_store_is_missing(struct boot *boot)
{
    if (!has_store_file(boot, SNAPSHOT_DATA_NAME) && wal_last_index(boot->wal) > 0) {
        log_warn("boot", "the store is missing: creating an empty one",
                 LOG_STR("dir", boot->dir.store_path),
                 LOG_U64("log_begins_at", wal_first_index(boot->wal)));
    }
}

static int open_all(const struct boot_options *options, struct boot *boot, char *error,
                    size_t error_size)
{
    struct wal_report report = {0};
    int rc = tidy(boot, error, error_size);
    if (rc == 0) {
        rc = open_log(boot, options, &report, error, error_size);
    }
    if (rc != 0) {
        return rc;
    }
    if (report.mended[0] != '\0') {
        static const char text[] = "files of the log were missing or incomplete: created again";
        if (strcmp(report.mended, "spare") == 0) {
            /* The spare segment is also missing if a process ended just after it began a new
             * segment. */
            log_info("boot", text, LOG_STR("files", report.mended),
                     LOG_STR("dir", boot->dir.log_path));
        } else {
            log_warn("boot", text, LOG_STR("files", report.mended),
                     LOG_STR("dir", boot->dir.log_path));
        }
    }
    if (report.condition == WAL_TORN) {
        log_info("boot", "an unfinished last write was cut off: nothing of it was acknowledged",
                 LOG_STR("where", report.description));
    }
    bool is_mended = false;
    say_if_store_is_missing(boot);
    rc = open_store(boot, options, error, error_size);
    if (rc == 0) {
        rc = open_chat(boot, error, error_size);
    }
    if (rc == ERR_CORRUPT) {
        close_store(boot);
        rc = mend_store(boot, options, &report, error, error_size);
        is_mended = true;
        if (rc == 0) {
            rc = open_chat(boot, error, error_size);
        }
    }
    if (rc == 0 && report.condition == WAL_DAMAGED && !is_mended) {
        rc = mend_log(boot, options, &report, error, error_size);
    }
    if (rc == 0) {
        rc = fit_together(boot, options, &report, error, error_size);
    }
    if (rc != 0) {
        return rc;
    }
    if (settle_incarnation(boot, new_incarnation(options)) != 0) {
        snprintf(error, error_size, "%s: the log cannot be written", boot->dir.log_path);
        return ERR_IO;
    }
    return 0;
}

/* Appends a remedy if the reason does not name one. */
static void add_remedy(const struct boot_options *options, int rc, char *error, size_t error_size)
{
    if (strstr(error, "; ") != NULL) {
        return;
    }
    const char *remedy = options->is_alone ? "check its disk, or restore a copy of the data_dir"
                                           : "check its disk, or move the data_dir away: the "
                                             "other nodes fill an empty one";
    switch (rc) {
    case ERR_NO_SPACE:
        remedy = "make room on its disk";
        break;
    case ERR_ACCESS:
        remedy = "make it readable and writable for this user";
        break;
    case ERR_READ_ONLY:
        remedy = "mount its file system writable, or change cluster.data_dir";
        break;
    case ERR_FILES:
        remedy = "raise the limit of open files (LimitNOFILE, ulimit -n)";
        break;
    case ERR_NOMEM:
        remedy = "free some memory, or lower limits.store_size";
        break;
    case ERR_VERSION:
        remedy = "upgrade this node";
        break;
    default:
        break;
    }
    size_t size = strlen(error);
    snprintf(error + size, error_size - size, "; %s", remedy);
}

int boot_open(const struct boot_options *options, struct boot *boot, char *error, size_t error_size)
{
    *boot = (struct boot){0};
    struct fs *fs = options->fs != NULL ? options->fs : fs_posix();
    int rc = data_dir_open(&boot->dir, fs, options->data_dir, options->node_id, error, error_size);
    if (rc != 0) {
        add_remedy(options, rc, error, error_size);
        return rc;
    }
    if (boot->dir.identity_mended[0] != '\0') {
        log_warn("boot", "the data_dir's identity is written again",
                 LOG_STR("reason", boot->dir.identity_mended), LOG_STR("dir", boot->dir.path));
    }
    rc = open_all(options, boot, error, error_size);
    if (rc != 0) {
        add_remedy(options, rc, error, error_size);
        boot_close(boot);
    }
    return rc;
}

void boot_close(struct boot *boot)
{
    close_store(boot);
    if (boot->wal != NULL) {
        (void)wal_mark(boot->wal);
        wal_close(boot->wal);
        boot->wal = NULL;
    }
    data_dir_close(&boot->dir);
}
