/* The data_dir: lock, identity, setting aside, and the steps of an installation. */
#include "storage/data_dir.h"

#include "base/buf.h"
#include "base/checksum.h"
#include "base/errors.h"
#include "storage/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define IDENTITY_BYTES_MAX 1024

static int read_identity(struct data_dir *dir, const char *path, char *text, size_t text_size,
                         size_t *out_size)
{
    struct fs *fs = dir->fs;
    struct fs_file *file;
    int rc = fs->ops->open(fs, path, FS_OPEN_READ, &file);
    if (rc != 0) {
        return rc;
    }
    uint64_t size = 0;
    rc = fs->ops->size(fs, file, &size);
    if (rc == 0 && size >= text_size) {
        rc = ERR_CORRUPT;
    }
    if (rc == 0) {
        rc = fs->ops->read_at(fs, file, 0, text, size);
    }
    fs->ops->close(fs, file);
    *out_size = rc == 0 ? size : 0;
    text[*out_size] = '\0';
    return rc;
}

/* Writes through a temporary file, so that the identity is complete or absent. */
static int write_identity(struct data_dir *dir, const char *path, const char *text)
{
    struct fs *fs = dir->fs;
    char temporary[PATH_MAX];
    snprintf(temporary, sizeof(temporary), "%s/identity.new", dir->path);
    (void)fs->ops->remove(fs, temporary);
    struct fs_file *file;
    int rc = fs->ops->open(fs, temporary, FS_OPEN_CREATE, &file);
    if (rc != 0) {
        return rc;
    }
    rc = fs->ops->write_at(fs, file, 0, text, strlen(text));
    if (rc == 0) {
        rc = fs->ops->sync(fs, file);
    }
    fs->ops->close(fs, file);
    if (rc == 0) {
        rc = fs->ops->rename(fs, temporary, path);
    }
    return rc == 0 ? fs->ops->sync_dir(fs, dir->path) : rc;
}

static const char *remedy_of(int rc)
{
    switch (rc) {
    case ERR_NO_SPACE:
        return "make room on its disk";
    case ERR_READ_ONLY:
        return "mount its file system writable, or change cluster.data_dir";
    case ERR_FILES:
        return "raise the limit of open files (LimitNOFILE, ulimit -n)";
    case ERR_NOMEM:
        return "free some memory";
    case ERR_IO:
        return "check its disk";
    default:
        return "make it writable for this user";
    }
}

static int found_name(void *context, const char *name)
{
    bool *has_any = context;
    *has_any = true;
    return 1;
}

/* True if a node has used the directory. */
static bool is_in_use(struct data_dir *dir)
{
    bool has_any = false;
    (void)dir->fs->ops->list_dir(dir->fs, dir->log_path, found_name, &has_any);
    return has_any;
}

#define CHECKSUM_LABEL "checksum: "

struct identity {
    char text[IDENTITY_BYTES_MAX]; /* the checksum covers this text */
    char line[64];                 /* of the checksum */
    char whole[IDENTITY_BYTES_MAX + 64];
};

static void make_identity(const char *node_id, struct identity *out)
{
    snprintf(out->text, sizeof(out->text), "raftogram data_dir %d\nnode_id: %s\n",
             DATA_DIR_FORMAT_VERSION, node_id);
    snprintf(out->line, sizeof(out->line), CHECKSUM_LABEL "%016" PRIx64 "\n",
             checksum64(out->text, strlen(out->text)));
    snprintf(out->whole, sizeof(out->whole), "%s%s", out->text, out->line);
}

/* The identity as read, as far as it can be parsed. */
struct found {
    char text[IDENTITY_BYTES_MAX + 64];
    size_t size;
    int version; /* 0: not readable */
    char owner[IDENTITY_BYTES_MAX];
    bool has_valid_checksum;
};

static void parse_identity(struct found *found)
{
    found->version = 0;
    found->owner[0] = '\0';
    found->has_valid_checksum = false;
    int length = 0;
    if (sscanf(found->text, "raftogram data_dir %d%n", &found->version, &length) != 1 ||
        found->text[length] != '\n') {
        found->version = 0;
        return;
    }
    const char *owner = found->text + length + 1;
    const char *end = strchr(owner, '\n');
    if (strncmp(owner, "node_id: ", 9) != 0 || end == NULL) {
        return;
    }
    snprintf(found->owner, sizeof(found->owner), "%.*s", (int)(end - owner - 9), owner + 9);
    char line[64];
    size_t text_size = (size_t)(end + 1 - found->text);
    snprintf(line, sizeof(line), CHECKSUM_LABEL "%016" PRIx64 "\n",
             checksum64(found->text, text_size));
    found->has_valid_checksum = strcmp(end + 1, line) == 0;
}

/* True if the text or the checksum is ours and the rest is damaged. */
static bool is_ours_damaged(const struct found *found, const struct identity *wanted)
{
    return strncmp(found->text, wanted->text, strlen(wanted->text)) == 0 ||
           memmem(found->text, found->size, wanted->line + strlen(CHECKSUM_LABEL), 16) != NULL;
}

static bool is_blank(const struct found *found)
{
    for (size_t i = 0; i < found->size; i++) {
        if (found->text[i] != '\0') {
            return false;
        }
    }
    return true;
}

/* Explains why the directory is not this node's; 0: the identity is only damaged. */
static int judge_foreign(struct data_dir *dir, const char *path, const struct found *found,
                         const char *node_id, char *error, size_t error_size)
{
    if (found->version > DATA_DIR_FORMAT_VERSION) {
        snprintf(error, error_size,
                 "%s: written by a newer raftogram (format %d, this one knows %d); upgrade this "
                 "node",
                 path, found->version, DATA_DIR_FORMAT_VERSION);
        return ERR_VERSION;
    }
    if (found->owner[0] != '\0' && strcmp(found->owner, node_id) != 0) {
        snprintf(error, error_size,
                 "%s: belongs to node \"%s\", not to \"%s\"; give this node its own data_dir",
                 dir->path, found->owner, node_id);
        return ERR_FOREIGN;
    }
    if (found->owner[0] == '\0' && !is_in_use(dir)) {
        snprintf(error, error_size,
                 "%s: not written by raftogram; give this node another data_dir, or restore the "
                 "file",
                 path);
        return ERR_CORRUPT;
    }
    return 0;
}

/* Rewrites the identity. In a directory in use a full disk is no error: the identity is needed
 * only at the next start. */
static int write_anew(struct data_dir *dir, const char *path, const struct identity *wanted,
                      bool is_needed, char *error, size_t error_size)
{
    int rc = write_identity(dir, path, wanted->whole);
    if (rc == ERR_NO_SPACE && !is_needed) {
        return 0;
    }
    if (rc != 0) {
        snprintf(error, error_size, "%s: cannot be written: %s; %s", path, error_text(rc),
                 remedy_of(rc));
    }
    return rc;
}

static int check_identity(struct data_dir *dir, const char *node_id, char *error, size_t error_size)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/identity", dir->path);
    struct identity wanted;
    make_identity(node_id, &wanted);
    struct found found = {.size = 0};
    int rc = read_identity(dir, path, found.text, sizeof(found.text), &found.size);
    if (rc == ERR_NOT_FOUND) {
        bool was_in_use = is_in_use(dir);
        dir->identity_mended = was_in_use ? "it was missing" : "";
        return write_anew(dir, path, &wanted, !was_in_use, error, error_size);
    }
    if (rc != 0 && rc != ERR_CORRUPT) {
        snprintf(error, error_size, "%s: cannot be read: %s; %s", path, error_text(rc),
                 remedy_of(rc));
        return rc;
    }
    if (strcmp(found.text, wanted.whole) == 0) {
        return 0;
    }
    parse_identity(&found);
    bool is_older = found.version > 0 && found.version < DATA_DIR_FORMAT_VERSION &&
                    strcmp(found.owner, node_id) == 0;
    if (is_older) {
        return write_anew(dir, path, &wanted, false, error, error_size);
    }
    if (!is_blank(&found) && !is_ours_damaged(&found, &wanted)) {
        rc = judge_foreign(dir, path, &found, node_id, error, error_size);
        if (rc != 0) {
            return rc;
        }
    }
    dir->identity_mended = "it was damaged";
    return write_anew(dir, path, &wanted, false, error, error_size);
}

int data_dir_open(struct data_dir *dir, struct fs *fs, const char *path, const char *node_id,
                  char *error, size_t error_size)
{
    *dir = (struct data_dir){.fs = fs, .identity_mended = ""};
    if (strlen(path) >= sizeof(dir->path)) {
        snprintf(error, error_size, "data_dir is too long");
        return ERR_INVALID;
    }
    strcpy(dir->path, path);
    snprintf(dir->log_path, sizeof(dir->log_path), "%s/log", dir->path);
    snprintf(dir->store_path, sizeof(dir->store_path), "%s/store", dir->path);
    snprintf(dir->snapshots_path, sizeof(dir->snapshots_path), "%s/snapshots", dir->path);
    snprintf(dir->incoming_path, sizeof(dir->incoming_path), "%s/incoming", dir->path);
    int rc = fs->ops->make_dir(fs, path);
    if (rc != 0) {
        snprintf(error, error_size, "%s: cannot be created: %s; %s", path, error_text(rc),
                 rc == ERR_ACCESS
                     ? "make its parent writable for this user, or change cluster.data_dir"
                     : remedy_of(rc));
        return rc;
    }
    char lock_path[PATH_MAX];
    snprintf(lock_path, sizeof(lock_path), "%s/LOCK", dir->path);
    rc = fs->ops->lock(fs, lock_path, &dir->lock);
    if (rc == ERR_LOCKED) {
        snprintf(error, error_size,
                 "%s: in use by another raftogram process; stop that one, or give this node its "
                 "own data_dir",
                 path);
        return rc;
    }
    if (rc != 0) {
        snprintf(error, error_size, "%s: cannot be locked: %s; %s", path, error_text(rc),
                 remedy_of(rc));
        return rc;
    }
    rc = check_identity(dir, node_id, error, error_size);
    if (rc != 0) {
        data_dir_close(dir);
    }
    return rc;
}

void data_dir_close(struct data_dir *dir)
{
    if (dir->lock != NULL) {
        dir->fs->ops->unlock(dir->fs, dir->lock);
        dir->lock = NULL;
    }
}

static int move_into(struct data_dir *dir, const char *from, const char *aside, const char *name)
{
    char to[PATH_MAX + 16];
    snprintf(to, sizeof(to), "%s/%s", aside, name);
    int rc = dir->fs->ops->rename(dir->fs, from, to);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

int data_dir_set_aside(struct data_dir *dir, int64_t wall_ms, bool is_log_kept, bool is_store_kept)
{
    struct fs *fs = dir->fs;
    char aside[PATH_MAX];
    snprintf(aside, sizeof(aside), "%s/damaged-%lld", dir->path, (long long)wall_ms);
    int rc = fs->ops->make_dir(fs, aside);
    if (rc == 0 && !is_store_kept) {
        rc = move_into(dir, dir->store_path, aside, "store");
    }
    /* The log is moved last: it holds the votes, and while it is in place the damage is found
     * again. */
    if (rc == 0 && !is_log_kept) {
        rc = move_into(dir, dir->log_path, aside, "log");
    }
    if (rc == 0) {
        rc = fs->ops->sync_dir(fs, aside);
    }
    return rc == 0 ? fs->ops->sync_dir(fs, dir->path) : rc;
}

/* ---- installing a snapshot ---- */

static void mark_path(const struct data_dir *dir, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/install", dir->path);
}

int data_dir_begin_install(struct data_dir *dir)
{
    struct fs *fs = dir->fs;
    char path[PATH_MAX];
    mark_path(dir, path);
    /* The mark is an empty file, so it needs no space. */
    struct fs_file *file;
    int rc = fs->ops->open(fs, path, FS_OPEN_CREATE, &file);
    if (rc == ERR_EXISTS) {
        return fs->ops->sync_dir(fs, dir->path);
    }
    if (rc != 0) {
        return rc;
    }
    fs->ops->close(fs, file);
    return fs->ops->sync_dir(fs, dir->path);
}

bool data_dir_is_installing(struct data_dir *dir)
{
    char path[PATH_MAX];
    mark_path(dir, path);
    struct fs_file *file;
    if (dir->fs->ops->open(dir->fs, path, FS_OPEN_READ, &file) != 0) {
        return false;
    }
    dir->fs->ops->close(dir->fs, file);
    return true;
}

int data_dir_swap_store(struct data_dir *dir)
{
    struct fs *fs = dir->fs;
    char from[PATH_MAX + 16];
    char to[PATH_MAX + 16];
    snprintf(from, sizeof(from), "%s/" SNAPSHOT_DATA_NAME, dir->incoming_path);
    snprintf(to, sizeof(to), "%s/" SNAPSHOT_DATA_NAME, dir->store_path);
    int rc = fs->ops->make_dir(fs, dir->store_path);
    if (rc == 0) {
        rc = fs->ops->rename(fs, from, to);
    }
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        return rc;
    }
    /* Sync the target directory first: a name that is gone from the source and not in the target
     * would be a lost store. Also if an earlier process renamed the file: it may have been
     * killed before it synced. */
    int synced = fs->ops->sync_dir(fs, dir->store_path);
    if (synced == 0) {
        synced = fs->ops->sync_dir(fs, dir->incoming_path);
        synced = rc == ERR_NOT_FOUND && synced == ERR_NOT_FOUND ? 0 : synced;
    }
    return synced == 0 ? rc : synced;
}

int data_dir_end_install(struct data_dir *dir)
{
    struct fs *fs = dir->fs;
    char path[PATH_MAX];
    mark_path(dir, path);
    int rc = fs->ops->remove(fs, path);
    if (rc != 0) {
        return rc == ERR_NOT_FOUND ? 0 : rc;
    }
    return fs->ops->sync_dir(fs, dir->path);
}
