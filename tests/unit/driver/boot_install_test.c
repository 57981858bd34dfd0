/* A process that dies anywhere in the installation of a snapshot starts with the old state or the
 * new one, whole. On real files, with the real store. */
#include "base/errors.h"
#include "base/log.h"
#include "driver/boot.h"
#include "lib/scratch.h"
#include "storage/snapshot.h"
#include "store/lmdb.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { OLD_INDEX = 10, NEW_INDEX = 50, OLD_TERM = 1, NEW_TERM = 2 };
#define MAP_BYTES (64u << 20)

static char base[64];
static struct store_lmdb_kind lmdb;

/* ---- a file system that ends the process at its n-th change ---- */

struct deadly {
    struct fs fs;
    uint64_t countdown;
};

static struct deadly deadly;

static void count(void)
{
    if (deadly.countdown > 0 && --deadly.countdown == 0) {
        _exit(99);
    }
}

static int deadly_open(struct fs *fs, const char *path, enum fs_open_mode mode,
                       struct fs_file **out)
{
    count();
    return fs_posix()->ops->open(fs_posix(), path, mode, out);
}

static int deadly_write_at(struct fs *fs, struct fs_file *file, uint64_t offset, const void *data,
                           size_t size)
{
    count();
    return fs_posix()->ops->write_at(fs_posix(), file, offset, data, size);
}

static int deadly_sync(struct fs *fs, struct fs_file *file)
{
    count();
    return fs_posix()->ops->sync(fs_posix(), file);
}

static int deadly_rename(struct fs *fs, const char *from, const char *to)
{
    count();
    return fs_posix()->ops->rename(fs_posix(), from, to);
}

static int deadly_remove(struct fs *fs, const char *path)
{
    count();
    return fs_posix()->ops->remove(fs_posix(), path);
}

static int deadly_sync_dir(struct fs *fs, const char *path)
{
    count();
    return fs_posix()->ops->sync_dir(fs_posix(), path);
}

static struct fs_ops deadly_ops;

static struct fs *deadly_fs(uint64_t countdown)
{
    deadly_ops = *fs_posix()->ops;
    deadly_ops.open = deadly_open;
    deadly_ops.write_at = deadly_write_at;
    deadly_ops.sync = deadly_sync;
    deadly_ops.rename = deadly_rename;
    deadly_ops.remove = deadly_remove;
    deadly_ops.sync_dir = deadly_sync_dir;
    deadly = (struct deadly){.fs = {.ops = &deadly_ops}, .countdown = countdown};
    return &deadly.fs;
}

/* ---- a node's files ---- */

static void make_store(const char *dir, uint64_t last, uint64_t term)
{
    char error[256];
    struct store *store;
    struct chat *chat;
    const struct store_place place = {.dir = dir};
    assert_int_equal(lmdb.kind.open(&lmdb.kind, &place, &store, error, sizeof(error)), 0);
    assert_int_equal(chat_create(store, &chat), 0);
    chat_apply_begin(chat);
    for (uint64_t index = chat_applied(chat) + 1; index <= last; index++) {
        struct command_result result;
        struct bytes none = {0};
        assert_int_equal(chat_apply(chat, index, term, none, &result), 0);
    }
    chat_apply_end(chat);
    while (chat_durable_applied(chat) < last) {
        assert_int_equal(chat_flush(chat, CHAT_FLUSH_NOW, 1), 0);
    }
    chat_destroy(chat);
    store->ops->close(store);
}

static void remove_all(const char *path)
{
    char command[512];
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

static int open_boot(const char *path, struct boot *boot, char *error)
{
    struct boot_options options = {.data_dir = path, .node_id = "node1", .store_kind = &lmdb.kind};
    return boot_open(&options, boot, error, 256);
}

/* The store at OLD_INDEX, a log that ends at `log_last`, a complete snapshot in incoming/. */
static uint64_t make_node(const char *path, uint64_t log_last)
{
    char error[256];
    char dir[300];
    struct boot boot;
    remove_all(path);
    assert_int_equal(open_boot(path, &boot, error), 0);
    uint64_t incarnation = boot.incarnation;
    for (uint64_t index = 1; index <= log_last; index++) {
        struct wal_entry entry = {.index = index, .term = OLD_TERM, .data = {"entry", 5}};
        assert_int_equal(wal_stage_entry(boot.wal, &entry), 0);
    }
    assert_int_equal(wal_commit(boot.wal), 0);
    boot_close(&boot);
    snprintf(dir, sizeof(dir), "%s/store", path);
    make_store(dir, OLD_INDEX, OLD_TERM);
    snprintf(dir, sizeof(dir), "%s/incoming", path);
    make_store(dir, NEW_INDEX, NEW_TERM);
    return incarnation;
}

/* Installs the snapshot in the same steps as snapshot_receive.c. */
static void switch_files(const char *path, uint64_t countdown)
{
    char error[256];
    struct fs *fs = deadly_fs(0);
    struct data_dir dir;
    struct wal *wal;
    struct wal_report report;
    assert_int_equal(data_dir_open(&dir, fs, path, "node1", error, sizeof(error)), 0);
    struct wal_options options = {.fs = fs, .dir = dir.log_path};
    assert_int_equal(wal_open(&options, &wal, &report), 0);
    deadly.countdown = countdown;
    if (data_dir_begin_install(&dir) == 0 && wal_reset(wal, NEW_INDEX, NEW_TERM) == 0 &&
        data_dir_swap_store(&dir) == 0 && data_dir_end_install(&dir) == 0) {
        _exit(0);
    }
    _exit(1);
}

/* The exit status of a child that switches and dies at the n-th change. */
static int die_switching(const char *path, uint64_t countdown)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        switch_files(path, countdown);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool has_entry(const char *path, const char *prefix)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    bool has = false;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        has = has || strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    }
    closedir(dir);
    return has;
}

/* Returns where the store stands. */
static uint64_t check_start(const char *path, uint64_t incarnation, uint64_t log_last)
{
    char error[256] = "";
    struct boot boot;
    int rc = open_boot(path, &boot, error);
    if (rc != 0) {
        fail_msg("the node does not start: %s", error);
    }
    uint64_t applied = chat_durable_applied(boot.chat);
    uint64_t first = wal_first_index(boot.wal);
    uint64_t last = wal_last_index(boot.wal);
    if (applied == NEW_INDEX) {
        assert_int_equal(first, NEW_INDEX + 1);
        assert_int_equal(last, NEW_INDEX);
        assert_int_equal(wal_term(boot.wal, NEW_INDEX), NEW_TERM);
    } else {
        assert_int_equal(applied, OLD_INDEX);
        assert_int_equal(first, 1);
        assert_int_equal(last, log_last);
    }
    assert_int_equal(boot.incarnation, incarnation); /* nothing was taken for damage */
    assert_false(has_entry(path, "damaged-"));
    assert_false(has_entry(path, "install"));
    boot_close(&boot);
    return applied;
}

static void run_crashes(uint64_t log_last)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/node", base);
    uint64_t olds = 0;
    uint64_t news = 0;
    int status = 99;
    for (uint64_t countdown = 1; status == 99; countdown++) {
        uint64_t incarnation = make_node(path, log_last);
        status = die_switching(path, countdown);
        assert_true(status == 99 || status == 0);
        uint64_t applied = check_start(path, incarnation, log_last);
        /* What it has once it keeps. */
        assert_int_equal(check_start(path, incarnation, log_last), applied);
        olds += applied == OLD_INDEX;
        news += applied == NEW_INDEX;
    }
    assert_int_equal(status, 0);
    assert_true(olds >= 1);
    assert_true(news >= 5);
}

static void test_a_crash_anywhere_boots_into_old_or_new_behind_a_short_log(void **state)
{
    run_crashes(OLD_INDEX + 2);
}

static void
test_a_crash_anywhere_boots_into_old_or_new_behind_a_longer_log_that_disagrees(void **state)
{
    run_crashes(NEW_INDEX + 10);
}

static void test_log_and_store_that_do_not_fit_make_a_recovering_node(void **state)
{
    char path[128];
    char dir[300];
    char error[256] = "";
    snprintf(path, sizeof(path), "%s/node", base);
    const char *lost[] = {"store", "log"};
    for (size_t i = 0; i < 2; i++) {
        uint64_t incarnation = make_node(path, OLD_INDEX + 2);
        assert_int_equal(die_switching(path, 0), 0); /* the log begins at NEW_INDEX + 1 */
        snprintf(dir, sizeof(dir), "%s/%s", path, lost[i]);
        remove_all(dir);
        struct boot boot;
        assert_int_equal(open_boot(path, &boot, error), 0);
        uint64_t applied = chat_durable_applied(boot.chat);
        assert_int_equal(applied, i == 0 ? 0 : NEW_INDEX);
        assert_int_equal(wal_first_index(boot.wal), applied + 1);
        assert_int_not_equal(boot.incarnation, incarnation);
        assert_true(wal_hard_state(boot.wal)->is_recovering);
        boot_close(&boot);
    }
}

static void test_alone_a_misfit_is_refused_with_the_remedy(void **state)
{
    char path[128];
    char dir[300];
    char error[256] = "";
    snprintf(path, sizeof(path), "%s/node", base);
    (void)make_node(path, OLD_INDEX + 2);
    assert_int_equal(die_switching(path, 0), 0);
    snprintf(dir, sizeof(dir), "%s/store", path);
    remove_all(dir);
    struct boot boot;
    struct boot_options options = {
        .data_dir = path, .node_id = "node1", .is_alone = true, .store_kind = &lmdb.kind};
    assert_int_equal(boot_open(&options, &boot, error, sizeof(error)), ERR_CORRUPT);
    assert_non_null(strstr(error, "backup"));
}

static void spoil(const char *path)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    uint8_t junk[16384];
    memset(junk, 0xa5, sizeof(junk));
    assert_int_equal(pwrite(fd, junk, sizeof(junk), 0), (ssize_t)sizeof(junk));
    close(fd);
}

/* Without a log that could be replayed, a damaged store is no reason to begin anew. */
static void test_a_lost_log_beside_a_damaged_store_never_makes_a_fresh_node(void **state)
{
    char path[128];
    char inside[300];
    char error[256] = "";
    snprintf(path, sizeof(path), "%s/node", base);
    for (int is_alone = 0; is_alone < 2; is_alone++) {
        (void)make_node(path, OLD_INDEX + 2);
        snprintf(inside, sizeof(inside), "%s/log", path);
        remove_all(inside);
        snprintf(inside, sizeof(inside), "%s/store/data.mdb", path);
        spoil(inside);
        struct boot boot;
        struct boot_options options = {.data_dir = path,
                                       .node_id = "node1",
                                       .is_alone = is_alone == 1,
                                       .store_kind = &lmdb.kind};
        int rc = boot_open(&options, &boot, error, sizeof(error));
        if (is_alone == 1) {
            assert_int_equal(rc, ERR_CORRUPT);
            assert_non_null(strstr(error, "backup"));
            /* Nor at the second try: nothing was made meanwhile that looks like a log. */
            rc = boot_open(&options, &boot, error, sizeof(error));
            assert_int_equal(rc, ERR_CORRUPT);
            assert_false(has_entry(path, "damaged-"));
        } else {
            assert_int_equal(rc, 0);
            assert_true(wal_hard_state(boot.wal)->is_recovering);
            assert_true(has_entry(path, "damaged-"));
            boot_close(&boot);
        }
    }
}

/* What the others have outvoted is sound to look at, and set aside all the same; and its log with
 * it, which may be where it went wrong. */
static void test_an_outvoted_store_is_set_aside_with_its_log(void **state)
{
    char path[128];
    char error[256] = "";
    snprintf(path, sizeof(path), "%s/node", base);
    (void)make_node(path, OLD_INDEX + 2);
    struct boot boot;
    assert_int_equal(open_boot(path, &boot, error), 0);
    assert_int_equal(chat_durable_applied(boot.chat), OLD_INDEX);
    assert_int_equal(lmdb.kind.mark_outvoted(boot.store), 0);
    boot_close(&boot);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(open_boot(path, &boot, error), 0);
        assert_int_equal(chat_durable_applied(boot.chat), 0);
        assert_int_equal(wal_last_index(boot.wal), 0);
        assert_true(wal_hard_state(boot.wal)->is_recovering);
        assert_true(has_entry(path, "damaged-"));
        boot_close(&boot);
    }
}

static int make_base(void **state)
{
    scratch_make_dir(base, sizeof(base), "raftogram-boot");
    return 0;
}

static int remove_base(void **state)
{
    remove_all(base);
    return 0;
}

int main(void)
{
    store_lmdb_kind_init(&lmdb, MAP_BYTES);
    log_init(false, LOG_LEVEL_ERROR);
    log_set_fd(open("/dev/null", O_WRONLY));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crash_anywhere_boots_into_old_or_new_behind_a_short_log),
        cmocka_unit_test(
            test_a_crash_anywhere_boots_into_old_or_new_behind_a_longer_log_that_disagrees),
        cmocka_unit_test(test_log_and_store_that_do_not_fit_make_a_recovering_node),
        cmocka_unit_test(test_alone_a_misfit_is_refused_with_the_remedy),
        cmocka_unit_test(test_an_outvoted_store_is_set_aside_with_its_log),
        cmocka_unit_test(test_a_lost_log_beside_a_damaged_store_never_makes_a_fresh_node),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
