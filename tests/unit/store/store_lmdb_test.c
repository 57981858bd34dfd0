/* The LMDB store on a disk that fails it: damage, truncation, kills, no room. What it answers when
 * all is well is in store_model_test.c. */
#include "store/lmdb_internal.h"

#include "base/errors.h"
#include "base/log.h"
#include "lib/scratch.h"
#include "lib/store_batches.h"
#include "lib/store_digest.h"
#include "lib/store_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILD_FINE = 0, CHILD_FAULT = 1, CHILD_CORRUPT = 3, CHILD_WRONG = 4 };
#define COPY_BYTES_MIN (16u << 20)
#define MAP_BYTES (UINT64_C(256) << 20)

struct fixture {
    char dir[64];
    char file[96];
    char mark[96];
    struct store_batches *batches;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    scratch_make_dir(fixture->dir, sizeof(fixture->dir), "store-lmdb");
    snprintf(fixture->file, sizeof(fixture->file), "%s/data.mdb", fixture->dir);
    snprintf(fixture->mark, sizeof(fixture->mark), "%s/%s", fixture->dir, STORE_SUSPECT_FILE);
    fixture->batches = malloc(sizeof(*fixture->batches));
    store_batches_init(fixture->batches, 1, 30);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", fixture->dir);
    assert_int_equal(system(command), 0);
    store_batches_finish(fixture->batches);
    free(fixture->batches);
    free(fixture);
    return 0;
}

static int try_open(const char *dir, bool is_untrusted, struct store **out, char *error,
                    size_t error_size)
{
    struct store_lmdb_options options = {
        .dir = dir, .map_bytes_max = MAP_BYTES, .is_untrusted = is_untrusted};
    return store_lmdb_open(&options, out, error, error_size);
}

static struct store *must_open(const char *dir)
{
    struct store *store = NULL;
    char error[256] = "";
    if (try_open(dir, false, &store, error, sizeof(error)) != 0) {
        fail_msg("%s", error);
    }
    return store;
}

static void assert_open_fails(struct fixture *fixture, int code, const char *words)
{
    struct store *store = NULL;
    char error[256] = "";
    assert_int_equal(try_open(fixture->dir, false, &store, error, sizeof(error)), code);
    assert_non_null(strstr(error, fixture->file));
    if (strstr(error, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error, words);
    }
}

static int commit(struct store *store, const struct store_batch *batch)
{
    return store->ops->commit(store, batch);
}

static void fill(struct fixture *fixture, struct store *store, int commits)
{
    for (int i = 0; i < commits; i++) {
        assert_int_equal(commit(store, store_batches_next(fixture->batches, 100, 20)), 0);
    }
}

static int scrub(struct store *store)
{
    bool is_done = false;
    int rc = 0;
    while (rc == 0 && !is_done) {
        rc = store_lmdb_scrub(store, 50, &is_done);
    }
    return rc;
}

static uint64_t digest_of(struct store *store)
{
    uint64_t digest;
    struct store_meta meta;
    assert_int_equal(store_digest(store, &digest, &meta), 0);
    return digest;
}

/* A filled store in the fixture's directory, closed; its digest. */
static uint64_t make_store(struct fixture *fixture)
{
    struct store *store = must_open(fixture->dir);
    ((struct lmdb_store *)store)->recent_rows = 300;
    fill(fixture, store, 20);
    uint64_t digest = digest_of(store);
    assert_int_equal(scrub(store), 0);
    store->ops->close(store);
    return digest;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static uint8_t *read_whole(const char *path, size_t *size)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*size);
    assert_int_equal(fread(data, 1, *size, file), *size);
    fclose(file);
    return data;
}

static void write_whole(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int wait_for(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* ---- life ---- */

static void test_new_store_is_empty(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = must_open(fixture->dir);
    struct store_read *read;
    struct store_meta meta;
    struct store_meta zero = {0};
    struct store_channel channel;
    struct bytes value;
    struct message *message;
    uint64_t sequence;
    assert_int_equal(store->ops->read_begin(store, &read), 0);
    assert_int_equal(store->ops->read_meta(read, &meta), 0);
    assert_memory_equal(&meta, &zero, sizeof(meta));
    struct bytes name = bytes_of_text("x");
    assert_int_equal(store->ops->get_channel(read, name, &channel), ERR_NOT_FOUND);
    assert_int_equal(store->ops->get_channel(read, (struct bytes){0}, &channel), ERR_NOT_FOUND);
    assert_int_equal(store->ops->seek_channel(read, name, false, &channel), ERR_NOT_FOUND);
    assert_int_equal(store->ops->next_message(read, 1, 0, &message), ERR_NOT_FOUND);
    assert_int_equal(store->ops->next_message(read, 1, UINT64_MAX, &message), ERR_NOT_FOUND);
    assert_int_equal(store->ops->get_dedupe(read, 1, name, &sequence), ERR_NOT_FOUND);
    assert_int_equal(store->ops->get_value(read, name, &value), ERR_NOT_FOUND);
    store->ops->read_end(read);
    assert_int_equal(scrub(store), 0);
    store->ops->close(store);
}

static void test_committed_state_is_there_after_reopening(void **state)
{
    struct fixture *fixture = *state;
    uint64_t digest = make_store(fixture);
    struct store *store = must_open(fixture->dir);
    assert_true(digest_of(store) == digest);
    fill(fixture, store, 5);
    assert_int_equal(scrub(store), 0);
    struct store_stats stats;
    store->ops->get_stats(store, &stats);
    assert_int_equal(stats.commits, 5);
    assert_int_equal(stats.bytes_max, MAP_BYTES);
    assert_in_range(stats.bytes_used, 1, MAP_BYTES);
    assert_true(stats.last_commit_ns > 0);
    store->ops->close(store);
}

static void test_largest_rows_fit(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = must_open(fixture->dir);
    char longest[ROW_KEY_BYTES_MAX + 2];
    memset(longest, 'k', sizeof(longest));
    size_t size = 3u << 20;
    uint8_t *payload = malloc(size);
    memset(payload, 'p', size);
    struct bytes id = {longest, 256};
    struct message *message = message_create(1, INT64_MAX, id, id, (struct bytes){payload, size});
    struct store_channel channel = {.number = UINT64_MAX,
                                    .id = {longest, ROW_KEY_BYTES_MAX},
                                    .name = {longest, 300},
                                    .last_sequence = 1,
                                    .last_timestamp_ms = INT64_MIN};
    struct store_value value = {.key = {longest, ROW_KEY_BYTES_MAX}, .value = {payload, size}};
    struct store_meta meta = {.channel_count = 1,
                              .message_count = 1,
                              .value_count = 1,
                              .config_size = STORE_CONFIG_BYTES_MAX};
    struct store_message row = {.channel_number = UINT64_MAX, .message = message};
    struct store_batch batch = {&channel, 1, &row, 1, &value, 1, &meta};
    assert_int_equal(commit(store, &batch), 0);
    digest_of(store);
    struct store_read *read;
    assert_int_equal(store->ops->read_begin(store, &read), 0);
    struct store_channel found;
    assert_int_equal(store->ops->get_channel(read, channel.id, &found), 0);
    assert_true(found.last_timestamp_ms == INT64_MIN);
    struct bytes too_long = {longest, sizeof(longest)};
    assert_int_equal(store->ops->get_channel(read, too_long, &found), ERR_NOT_FOUND);
    assert_int_equal(store->ops->seek_channel(read, too_long, false, &found), ERR_NOT_FOUND);
    store->ops->read_end(read);
    assert_int_equal(scrub(store), 0);
    message_unref(message);
    free(payload);
    store->ops->close(store);
}

static void test_reads_beyond_the_limit_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct store_lmdb_options options = {
        .dir = fixture->dir, .map_bytes_max = MAP_BYTES, .readers_max = 8};
    struct store *store;
    char error[256];
    assert_int_equal(store_lmdb_open(&options, &store, error, sizeof(error)), 0);
    struct store_read *reads[1000];
    size_t count = 0;
    int rc = 0;
    while (rc == 0 && count < 1000) {
        rc = store->ops->read_begin(store, &reads[count]);
        count += rc == 0;
    }
    assert_int_equal(rc, ERR_FULL);
    assert_true(count >= 8);
    store->ops->read_end(reads[--count]);
    assert_int_equal(store->ops->read_begin(store, &reads[count++]), 0);
    while (count > 0) {
        store->ops->read_end(reads[--count]);
    }
    store->ops->close(store);
}

static void test_copy_is_the_same_store(void **state)
{
    struct fixture *fixture = *state;
    uint64_t digest = make_store(fixture);
    struct store *store = must_open(fixture->dir);
    char dir[96], path[128], error[256];
    snprintf(dir, sizeof(dir), "%s/copy", fixture->dir);
    snprintf(path, sizeof(path), "%s/data.mdb", dir);
    assert_int_equal(store_lmdb_copy(store, path, NULL), ERR_IO); /* no such directory */
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(store_lmdb_copy(store, path, NULL), 0);
    struct store *copy;
    assert_int_equal(try_open(dir, true, &copy, error, sizeof(error)), 0);
    struct store_meta meta, copied;
    uint64_t copied_digest;
    assert_int_equal(store_digest(store, &copied_digest, &meta), 0);
    assert_int_equal(store_digest(copy, &copied_digest, &copied), 0);
    assert_true(copied_digest == digest);
    assert_memory_equal(&meta, &copied, sizeof(meta));
    assert_int_equal(scrub(copy), 0);
    fill(fixture, copy, 3);
    copy->ops->close(copy);
    store->ops->close(store);
}

struct copy_job {
    struct store *store;
    const char *path;
    struct store_copying *copying;
    int rc;
};

static void *run_copy(void *context)
{
    struct copy_job *job = context;
    job->rc = store_lmdb_copy(job->store, job->path, job->copying);
    return NULL;
}

/* Into a pipe that takes only so much: the copy cannot be done when it is cancelled. */
static void test_a_copy_ends_soon_when_it_is_cancelled(void **state)
{
    struct fixture *fixture = *state;
    signal(SIGPIPE, SIG_IGN);
    struct store *store = must_open(fixture->dir);
    struct store_stats stats = {0};
    while (stats.bytes_used < COPY_BYTES_MIN) {
        fill(fixture, store, 1);
        store->ops->get_stats(store, &stats);
    }
    char path[128];
    snprintf(path, sizeof(path), "%s/pipe", fixture->dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    struct store_copying copying;
    store_copying_init(&copying);
    struct copy_job job = {.store = store, .path = path, .copying = &copying};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_copy, &job), 0);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    uint8_t bytes[4096];
    assert_true(read(fd, bytes, sizeof(bytes)) > 0);
    store_copying_cancel(&copying);
    uint64_t taken = 0;
    for (ssize_t n = 1; n > 0; taken += (uint64_t)n) {
        n = read(fd, bytes, sizeof(bytes));
        assert_true(n >= 0);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(fd);
    assert_int_equal(job.rc, ERR_CLOSED);
    assert_true(taken < COPY_BYTES_MIN / 2);
    assert_int_equal(access(path, F_OK), -1);
    /* The store is as it was, and none begins any more. */
    snprintf(path, sizeof(path), "%s/copy.mdb", fixture->dir);
    assert_int_equal(store_lmdb_copy(store, path, &copying), ERR_CLOSED);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(store_lmdb_copy(store, path, NULL), 0);
    assert_int_equal(scrub(store), 0);
    store_copying_finish(&copying);
    store->ops->close(store);
}

static void test_the_kind_opens_copies_scrubs_and_marks(void **state)
{
    struct fixture *fixture = *state;
    make_store(fixture);
    struct store_lmdb_kind lmdb;
    store_lmdb_kind_init(&lmdb, MAP_BYTES);
    struct store_kind *kind = &lmdb.kind;
    char dir[96], path[128], error[256];
    snprintf(dir, sizeof(dir), "%s/copy", fixture->dir);
    snprintf(path, sizeof(path), "%s/data.mdb", dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    struct store *store, *copy;
    const struct store_place place = {.dir = fixture->dir};
    const struct store_place received = {.dir = dir, .home = fixture->dir, .is_untrusted = true};
    assert_int_equal(kind->open(kind, &place, &store, error, sizeof(error)), 0);
    assert_int_equal(kind->copy(kind, store, path), 0);
    assert_int_equal(kind->open(kind, &received, &copy, error, sizeof(error)), 0);
    bool is_done = false;
    while (!is_done) {
        assert_int_equal(kind->scrub(copy, 100, &is_done), 0);
    }
    kind->mark_suspect(copy); /* in its home */
    copy->ops->close(copy);
    snprintf(path, sizeof(path), "%s/" STORE_SUSPECT_FILE, fixture->dir);
    assert_int_equal(access(path, F_OK), 0);
    kind->cancel_copies(kind);
    snprintf(path, sizeof(path), "%s/other.mdb", fixture->dir);
    assert_int_equal(kind->copy(kind, store, path), ERR_CLOSED);
    assert_int_equal(kind->mark_outvoted(store), 0);
    store->ops->close(store);
    assert_int_equal(kind->open(kind, &place, &store, error, sizeof(error)), ERR_CORRUPT);
    store_lmdb_kind_finish(&lmdb);
}

static void test_newer_format_is_refused(void **state)
{
    struct fixture *fixture = *state;
    make_store(fixture);
    struct store *store = must_open(fixture->dir);
    struct lmdb_store *lmdb = (struct lmdb_store *)store;
    MDB_txn *txn;
    assert_int_equal(mdb_txn_begin(lmdb->env, NULL, 0, &txn), 0);
    uint8_t value[ROW_CHECKSUM_BYTES + 100] = {0};
    store_u32(value + ROW_CHECKSUM_BYTES, STORE_FORMAT_VERSION + 1);
    row_seal(ROW_META, bytes_of_text("format"), value, sizeof(value));
    MDB_val key = store_val(bytes_of_text("format"));
    MDB_val row = {.mv_size = sizeof(value), .mv_data = value};
    assert_int_equal(mdb_put(txn, lmdb->databases[ROW_META], &key, &row, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    store->ops->close(store);
    assert_open_fails(fixture, ERR_VERSION, error_text(ERR_VERSION));
}

/* ---- no room ---- */

static void test_full_map_changes_nothing_and_a_larger_one_goes_on(void **state)
{
    struct fixture *fixture = *state;
    struct store_lmdb_options options = {.dir = fixture->dir, .map_bytes_max = 512 << 10};
    struct store *store;
    char error[256];
    assert_int_equal(store_lmdb_open(&options, &store, error, sizeof(error)), 0);
    uint64_t digest = digest_of(store);
    int rc = 0;
    while (rc == 0) {
        rc = commit(store, store_batches_next(fixture->batches, 100, 20));
        digest = rc == 0 ? digest_of(store) : digest;
    }
    assert_int_equal(rc, ERR_NO_SPACE);
    assert_true(digest_of(store) == digest);
    assert_int_equal(commit(store, store_batches_again(fixture->batches)), ERR_NO_SPACE);
    assert_int_equal(scrub(store), 0);
    store->ops->close(store);
    store = must_open(fixture->dir);
    assert_true(digest_of(store) == digest);
    assert_int_equal(commit(store, store_batches_again(fixture->batches)), 0);
    fill(fixture, store, 5);
    assert_int_equal(scrub(store), 0);
    digest_of(store);
    store->ops->close(store);
}

static void test_full_disk_changes_nothing_and_room_lets_it_go_on(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = must_open(fixture->dir);
    fill(fixture, store, 3);
    uint64_t digest = digest_of(store);
    struct stat stat;
    assert_int_equal(lstat(fixture->file, &stat), 0);
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    signal(SIGXFSZ, SIG_IGN);
    store_batches_next(fixture->batches, 3000, 20);
    /* Behind the last page, within one, and after some: a write may find room for its beginning. */
    const rlim_t room[] = {0, 2048, 5 * 4096, 5 * 4096 + 100, 20 * 4096 + 4095};
    for (size_t i = 0; i < sizeof(room) / sizeof(room[0]); i++) {
        limit.rlim_cur = (rlim_t)stat.st_size + room[i];
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        int rc = commit(store, store_batches_again(fixture->batches));
        uint64_t digest_then = digest_of(store);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(rc, ERR_NO_SPACE);
        assert_true(digest_then == digest);
    }
    assert_int_equal(commit(store, store_batches_again(fixture->batches)), 0);
    assert_int_equal(scrub(store), 0);
    digest_of(store);
    store->ops->close(store);
}

/* ---- lost and foreign rows ---- */

/* Replaces one row of a database by another that is valid in itself, so that the count stays. */
static void swap_row(struct fixture *fixture, enum row_database database, bool put_another)
{
    struct store *store = must_open(fixture->dir);
    struct lmdb_store *lmdb = (struct lmdb_store *)store;
    MDB_txn *txn;
    MDB_cursor *cursor;
    assert_int_equal(mdb_txn_begin(lmdb->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_cursor_open(txn, lmdb->databases[database], &cursor), 0);
    MDB_val key, value;
    assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_LAST), 0);
    uint8_t channel[16];
    struct row_item item = {.first = 1, .position = 1};
    if (store_has_items(database)) {
        memcpy(channel, key.mv_data, key.mv_size);
        assert_true(row_get_ordered(channel, key.mv_size, &item.channel_number) > 0);
    }
    MDB_val channel_key = {key.mv_size, channel};
    assert_int_equal(mdb_cursor_del(cursor, 0), 0);
    if (put_another && store_has_items(database)) {
        struct row_key row = row_item_key(&item);
        uint8_t sealed[ROW_SEALED_ITEM_BYTES];
        row_item_seal(database, &row, sealed);
        MDB_val sealed_item = {sizeof(sealed), sealed};
        assert_int_equal(mdb_cursor_put(cursor, &channel_key, &sealed_item, 0), 0);
    } else if (put_another) {
        uint8_t row[ROW_CHECKSUM_BYTES + 3] = {0};
        row_seal(database == ROW_RECENT ? ROW_DEDUPE : database, bytes_of_text("zz"), row,
                 sizeof(row));
        MDB_val other = store_val(bytes_of_text("zz"));
        MDB_val body = {sizeof(row), row};
        assert_int_equal(mdb_cursor_put(cursor, &other, &body, 0), 0);
    }
    mdb_cursor_close(cursor);
    assert_int_equal(mdb_txn_commit(txn), 0);
    store->ops->close(store);
}

static void test_missing_row_is_noticed_at_open(void **state)
{
    struct fixture *fixture = *state;
    make_store(fixture);
    swap_row(fixture, ROW_MESSAGES, false);
    assert_open_fails(fixture, ERR_CORRUPT, error_text(ERR_CORRUPT));
}

static void test_row_lost_while_running_is_found_by_the_scrub(void **state)
{
    struct fixture *fixture = *state;
    make_store(fixture);
    struct store *store = must_open(fixture->dir);
    struct lmdb_store *lmdb = (struct lmdb_store *)store;
    MDB_txn *txn;
    assert_int_equal(mdb_txn_begin(lmdb->env, NULL, 0, &txn), 0);
    struct row_key position = row_position_key(77);
    MDB_val key = {position.size, position.data};
    assert_int_equal(mdb_del(txn, lmdb->databases[ROW_MESSAGES], &key, NULL), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    assert_int_equal(scrub(store), ERR_CORRUPT);
    uint64_t digest;
    struct store_meta meta;
    assert_int_equal(store_digest(store, &digest, &meta), ERR_CORRUPT);
    store->ops->close(store);
}

static void test_exchanged_row_is_found_by_the_scrub(void **state)
{
    struct fixture *fixture = *state;
    make_store(fixture);
    size_t size;
    uint8_t *good = read_whole(fixture->file, &size);
    for (size_t i = ROW_CHANNELS; i < ROW_DATABASES; i++) {
        write_whole(fixture->file, good, size);
        swap_row(fixture, i, true);
        struct store *store = must_open(fixture->dir);
        assert_int_equal(scrub(store), ERR_CORRUPT);
        assert_int_equal(scrub(store), ERR_CORRUPT); /* and by the next pass */
        store->ops->close(store);
    }
    free(good);
}

/* ---- damage ---- */

/* In a child: cmocka's handlers would carry on with its tests there. */
static void be_a_child(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        signal(signals[i], SIG_DFL);
    }
    struct rlimit no_core = {0};
    setrlimit(RLIMIT_CORE, &no_core);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
}

/* In a child: whatever the file holds, an answer that is right or an error. */
static int look_at(const char *dir, bool is_untrusted, uint64_t digest)
{
    struct store *store;
    char error[256];
    int rc = try_open(dir, is_untrusted, &store, error, sizeof(error));
    if (rc != 0) {
        return rc == ERR_CORRUPT || rc == ERR_VERSION ? CHILD_CORRUPT : CHILD_WRONG;
    }
    uint64_t found;
    struct store_meta meta;
    int scrub_rc = scrub(store);
    rc = store_digest(store, &found, &meta);
    if (rc == ERR_CORRUPT || scrub_rc == ERR_CORRUPT) {
        return CHILD_CORRUPT;
    }
    return rc == 0 && scrub_rc == 0 && found == digest ? CHILD_FINE : CHILD_WRONG;
}

static int status_of_look(const char *dir, bool is_untrusted, uint64_t digest)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        be_a_child();
        store_lmdb_install_fault_handler();
        _exit(look_at(dir, is_untrusted, digest));
    }
    return wait_for(child);
}

/* Flips bits all over the file. `seen` counts the exit codes. */
static void flip_bits(struct fixture *fixture, bool is_untrusted, int flips, int seen[5])
{
    uint64_t digest = make_store(fixture);
    size_t size;
    uint8_t *data = read_whole(fixture->file, &size);
    struct random random;
    random_seed(&random, 42 + is_untrusted);
    for (int i = 0; i < flips; i++) {
        /* Every second one near the beginning of a page, where LMDB keeps what it trusts. */
        size_t at = (size_t)random_below(&random, size);
        at = i % 2 == 0 ? at : at / 4096 * 4096 + at % 64;
        uint8_t bit = (uint8_t)(1u << random_below(&random, 8));
        data[at] ^= bit;
        write_whole(fixture->file, data, size);
        int status = status_of_look(fixture->dir, is_untrusted, digest);
        if (!WIFEXITED(status) || WEXITSTATUS(status) == CHILD_WRONG) {
            fail_msg("bit %#x of byte %zu: status %#x", bit, at, status);
        }
        seen[WEXITSTATUS(status)]++;
        if (WEXITSTATUS(status) == CHILD_FAULT) {

            /* The mark makes the next start look at the pages first. */
            assert_true(exists(fixture->mark));
            status = status_of_look(fixture->dir, false, digest);
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), CHILD_CORRUPT);
            assert_true(exists(fixture->mark));
            unlink(fixture->mark);
        }
        data[at] ^= bit;
    }
    free(data);
}

static void test_flipped_bits_are_noticed_or_harmless(void **state)
{
    int seen[5] = {0};
    flip_bits(*state, false, 400, seen);
    print_message("harmless %d, noticed %d, faults %d\n", seen[CHILD_FINE], seen[CHILD_CORRUPT],
                  seen[CHILD_FAULT]);
    assert_true(seen[CHILD_CORRUPT] > 100);
}

static void test_untrusted_file_never_faults(void **state)
{
    int seen[5] = {0};
    flip_bits(*state, true, 400, seen);
    assert_int_equal(seen[CHILD_FAULT], 0);
    assert_true(seen[CHILD_CORRUPT] > 100);
}

static void test_truncated_file_is_an_error_at_open(void **state)
{
    struct fixture *fixture = *state;
    make_store(fixture);
    size_t size;
    uint8_t *data = read_whole(fixture->file, &size);
    for (size_t cut = 1; cut < size; cut = cut * 2 + 777) {
        write_whole(fixture->file, data, size - cut);
        struct store *store = NULL;
        char error[256];
        int rc = try_open(fixture->dir, false, &store, error, sizeof(error));
        if (rc == 0) {
            /* Only unused pages can have been cut off. */
            digest_of(store);
            assert_int_equal(scrub(store), 0);
            store->ops->close(store);
        } else {
            assert_int_equal(rc, ERR_CORRUPT);
        }
        assert_true(rc != 0 || cut < size / 2);
    }
    free(data);
}

static void test_garbage_is_an_error_and_a_blank_file_is_new(void **state)
{
    struct fixture *fixture = *state;
    uint8_t data[3 * 4096] = {0};
    memset(data, 'x', sizeof(data));
    write_whole(fixture->file, data, sizeof(data));
    assert_open_fails(fixture, ERR_CORRUPT, "meta page");
    write_whole(fixture->file, data, 100);
    assert_open_fails(fixture, ERR_CORRUPT, "meta page");
    memset(data, 0, sizeof(data));
    write_whole(fixture->file, data, sizeof(data));
    assert_open_fails(fixture, ERR_CORRUPT, "meta page");
    write_whole(fixture->file, data, 2 * 4096);
    struct store *store = must_open(fixture->dir);
    assert_int_equal(scrub(store), 0);
    store->ops->close(store);
}

/* ---- SIGBUS ---- */

static void read_truncated(struct fixture *fixture)
{
    be_a_child();
    char path[128];
    snprintf(path, sizeof(path), "%s/stderr", fixture->dir);
    int log = open(path, O_CREAT | O_WRONLY, 0600);
    dup2(log, STDERR_FILENO);
    struct store *store = must_open(fixture->dir);
    store_lmdb_install_fault_handler();
    if (truncate(fixture->file, 4096 * 4) != 0) {
        _exit(CHILD_WRONG);
    }
    uint64_t digest;
    struct store_meta meta;
    store_digest(store, &digest, &meta);
    _exit(CHILD_WRONG);
}

static void test_page_lost_under_the_map_ends_the_process_with_one_line(void **state)
{
    struct fixture *fixture = *state;
    uint64_t digest = make_store(fixture);
    size_t size;
    uint8_t *data = read_whole(fixture->file, &size);
    pid_t child = fork();
    if (child == 0) {
        read_truncated(fixture);
    }
    int status = wait_for(child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    char path[128];
    snprintf(path, sizeof(path), "%s/stderr", fixture->dir);
    size_t line_size;
    char *line = (char *)read_whole(path, &line_size);
    assert_memory_equal(line, "raftogram: ", 11);
    assert_ptr_equal(memchr(line, '\n', line_size), line + line_size - 1);
    free(line);
    assert_true(exists(fixture->mark));

    assert_open_fails(fixture, ERR_CORRUPT, "truncated");
    assert_true(exists(fixture->mark));
    write_whole(fixture->file, data, size);
    struct store *store = must_open(fixture->dir);
    assert_true(digest_of(store) == digest);
    assert_false(exists(fixture->mark));
    store->ops->close(store);
    free(data);
}

static void test_suspect_store_whose_file_is_gone_is_not_new(void **state)
{
    struct fixture *fixture = *state;
    make_store(fixture);
    write_whole(fixture->mark, (const uint8_t *)"", 0);
    unlink(fixture->file);
    assert_open_fails(fixture, ERR_CORRUPT, "missing");
}

static void test_other_bus_errors_end_the_process_as_ever(void **state)
{
    struct fixture *fixture = *state;
    pid_t child = fork();
    if (child == 0) {
        be_a_child();
        struct store *store = must_open(fixture->dir);
        store_lmdb_install_fault_handler();
        char path[128];
        snprintf(path, sizeof(path), "%s/empty", fixture->dir);
        int fd = open(path, O_CREAT | O_RDWR, 0600);
        volatile char *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        char byte = page[0];
        store->ops->close(store);
        _exit(CHILD_WRONG + byte);
    }
    int status = wait_for(child);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != CHILD_WRONG);
#else
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
#endif
    assert_false(exists(fixture->mark));
}

/* ---- kills ---- */

static void commit_for_ever(struct fixture *fixture)
{
    struct store *store = must_open(fixture->dir);
    ((struct lmdb_store *)store)->recent_rows = 500;
    struct store_read *read;
    struct store_meta meta;
    if (store->ops->read_begin(store, &read) != 0 || store->ops->read_meta(read, &meta) != 0) {
        _exit(CHILD_WRONG);
    }
    store->ops->read_end(read);
    while (fixture->batches->index < meta.applied_index) {
        store_batches_next(fixture->batches, 40, 10);
    }
    for (;;) {
        if (commit(store, store_batches_next(fixture->batches, 40, 10)) != 0) {
            _exit(CHILD_WRONG);
        }
    }
}

static void test_killed_store_stands_at_the_end_of_a_commit(void **state)
{
    struct fixture *fixture = *state;
    struct store *model;
    assert_int_equal(store_memory_create(&model), 0);
    struct random random;
    random_seed(&random, 7);
    struct store *store = must_open(fixture->dir);
    store->ops->close(store);
    uint64_t commits = 0;
    for (int round = 0; round < 25; round++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            be_a_child();
            commit_for_ever(fixture);
        }
        struct timespec pause = {.tv_nsec = (long)random_below(&random, 60000000)};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
        int status = wait_for(child);
        assert_true(WIFSIGNALED(status));
        store = must_open(fixture->dir);
        uint64_t digest, expected;
        struct store_meta meta, model_meta;
        assert_int_equal(store_digest(store, &digest, &meta), 0);
        assert_int_equal(scrub(store), 0);
        store->ops->close(store);
        while (fixture->batches->index < meta.applied_index) {
            assert_int_equal(commit(model, store_batches_next(fixture->batches, 40, 10)), 0);
            commits++;
        }
        assert_int_equal(store_digest(model, &expected, &model_meta), 0);
        assert_true(meta.applied_index == 0 || digest == expected);
    }
    assert_true(commits > 0);
    model->ops->close(model);
}

/* ---- threads ---- */

struct shared {
    struct store *store;
    atomic_bool is_stopping;
    atomic_int failures;
    atomic_int digests;
};

static void *read_for_ever(void *context)
{
    struct shared *shared = context;
    while (!atomic_load(&shared->is_stopping)) {
        uint64_t digest;
        struct store_meta meta;
        if (store_digest(shared->store, &digest, &meta) != 0) {
            atomic_fetch_add(&shared->failures, 1);
        }
        atomic_fetch_add(&shared->digests, 1);
    }
    return NULL;
}

static void test_readers_see_whole_commits_while_others_are_made(void **state)
{
    struct fixture *fixture = *state;
    struct shared shared = {.store = must_open(fixture->dir)};
    ((struct lmdb_store *)shared.store)->recent_rows = 300;
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_for_ever, &shared), 0);
    }
    for (int i = 0; i < 60; i++) {
        fill(fixture, shared.store, 1);
        bool is_done;
        assert_int_equal(store_lmdb_scrub(shared.store, 500, &is_done), 0);
        struct store_stats stats;
        shared.store->ops->get_stats(shared.store, &stats);
    }
    atomic_store(&shared.is_stopping, true);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(shared.failures, 0);
    assert_true(shared.digests > 0);
    shared.store->ops->close(shared.store);
}

int main(void)
{
    log_set_fd(open("/dev/null", O_WRONLY));
    signal(SIGXFSZ, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_new_store_is_empty),
        TEST(test_committed_state_is_there_after_reopening),
        TEST(test_largest_rows_fit),
        TEST(test_reads_beyond_the_limit_are_refused),
        TEST(test_copy_is_the_same_store),
        TEST(test_a_copy_ends_soon_when_it_is_cancelled),
        TEST(test_the_kind_opens_copies_scrubs_and_marks),
        TEST(test_newer_format_is_refused),
        TEST(test_full_map_changes_nothing_and_a_larger_one_goes_on),
        TEST(test_full_disk_changes_nothing_and_room_lets_it_go_on),
        TEST(test_missing_row_is_noticed_at_open),
        TEST(test_row_lost_while_running_is_found_by_the_scrub),
        TEST(test_exchanged_row_is_found_by_the_scrub),
        TEST(test_flipped_bits_are_noticed_or_harmless),
        TEST(test_untrusted_file_never_faults),
        TEST(test_truncated_file_is_an_error_at_open),
        TEST(test_garbage_is_an_error_and_a_blank_file_is_new),
        TEST(test_page_lost_under_the_map_ends_the_process_with_one_line),
        TEST(test_suspect_store_whose_file_is_gone_is_not_new),
        TEST(test_other_bus_errors_end_the_process_as_ever),
        TEST(test_killed_store_stands_at_the_end_of_a_commit),
        TEST(test_readers_see_whole_commits_while_others_are_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
