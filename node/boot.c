#include "boot.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/random.h"
#include "chat/store_lmdb.h"
#include "node.h"

#include <stdio.h>
#include <string.h>

static int open_log(struct boot *boot, struct wal_report *report, char *error, size_t error_size)
{
    struct wal_options options = {.fs = boot->dir.fs, .dir = boot->dir.log_path};
    int rc = wal_open(&options, &boot->wal, report);
    if (rc != 0) {
        snprintf(error, error_size, "%s: the log cannot be opened: %s%s%s", boot->dir.log_path,
                 error_text(rc), report->description[0] == '\0' ? "" : ": ", report->description);
    }
    return rc;
}

static int open_store(struct boot *boot, const struct boot_options *options, char *error,
                      size_t error_size)
{
    struct store_lmdb_options store = {
        .dir = boot->dir.store_path,
        .map_bytes_max = options->store_bytes_max,
        .readers_max = options->readers_max,
    };
    return store_lmdb_open(&store, &boot->store, error, error_size);
}

static void close_store(struct boot *boot)
{
    chat_destroy(boot->chat);
    boot->chat = NULL;
    if (boot->store != NULL) {
        boot->store->ops->close(boot->store);
        boot->store = NULL;
    }
}

static uint64_t new_incarnation(void)
{
    uint64_t incarnation = 0;
    while (incarnation == 0) {
        random_bytes(&incarnation, sizeof(incarnation));
    }
    return incarnation;
}

static int set_aside(struct boot *boot, bool is_log_kept, bool is_store_kept, char *error,
                     size_t error_size)
{
    int64_t wall_ms = clock_wall_ms(clock_system());
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

/* A new log with a new incarnation that begins behind what the store has: the node is recovering
 * until the others have admitted it. */
static int begin_recovering(struct boot *boot, const struct wal_hard_state *old, char *error,
                            size_t error_size)
{
    struct wal_report report;
    int rc = open_log(boot, &report, error, error_size);
    if (rc != 0) {
        return rc;
    }
    CHECK(report.condition == WAL_NEW);
    struct wal_hard_state state = {
        .term = old->term,
        .incarnation = new_incarnation(),
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
        snprintf(error, error_size, "%s: a new log cannot be begun: %s", boot->dir.log_path,
                 error_text(rc));
    }
    return rc;
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
    struct wal_hard_state old = *wal_hard_state(boot->wal);
    if (!report->has_hard_state) {
        old = (struct wal_hard_state){0};
        memcpy(old.cluster_id, meta.cluster_id, sizeof(old.cluster_id));
    }
    wal_close(boot->wal);
    boot->wal = NULL;
    int rc = set_aside(boot, false, true, error, error_size);
    if (rc != 0) {
        return rc;
    }
    log_warn("boot", "the log is set aside: recovering from the other nodes");
    return begin_recovering(boot, &old, error, error_size);
}

/* The store cannot be used; `error` says why. */
static int mend_store(struct boot *boot, const struct boot_options *options,
                      const struct wal_report *report, char *error, size_t error_size)
{
    log_error("boot", "the store is damaged", LOG_STR("reason", error));
    bool is_log_whole = report->condition != WAL_DAMAGED && wal_first_index(boot->wal) == 1;
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
    int rc = set_aside(boot, is_log_whole, false, error, error_size);
    if (rc != 0) {
        return rc;
    }
    if (is_log_whole) {
        log_warn("boot", "the store is set aside: the log is replayed from its beginning");
    } else {
        log_warn("boot", "log and store are set aside: recovering from the other nodes");
        rc = begin_recovering(boot, &old, error, error_size);
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

static int open_all(const struct boot_options *options, struct boot *boot, char *error,
                    size_t error_size)
{
    struct wal_report report;
    int rc = open_log(boot, &report, error, error_size);
    if (rc != 0) {
        return rc;
    }
    if (report.condition == WAL_TORN) {
        log_info("boot", "an unfinished last write was cut off: nothing of it was acknowledged",
                 LOG_STR("where", report.description));
    }
    bool is_mended = false;
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
    if (rc != 0) {
        return rc;
    }
    boot->incarnation = node_prepare_log(boot->wal, new_incarnation());
    if (boot->incarnation == 0) {
        snprintf(error, error_size, "%s: the log cannot be written", boot->dir.log_path);
        return ERR_IO;
    }
    return 0;
}

int boot_open(const struct boot_options *options, struct boot *boot, char *error, size_t error_size)
{
    *boot = (struct boot){0};
    int rc = data_dir_open(&boot->dir, fs_posix(), options->data_dir, options->node_id, error,
                           error_size);
    if (rc != 0) {
        return rc;
    }
    store_lmdb_install_sigbus_handler();
    rc = open_all(options, boot, error, error_size);
    if (rc != 0) {
        boot_close(boot);
    }
    return rc;
}

void boot_close(struct boot *boot)
{
    close_store(boot);
    if (boot->wal != NULL) {
        wal_close(boot->wal);
        boot->wal = NULL;
    }
    data_dir_close(&boot->dir);
}
