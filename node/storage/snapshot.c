/* Snapshots on disk: manifest, chunks, and resuming an incoming snapshot. */
#include "storage/snapshot.h"

#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Encoded: magic, version, id, index, term, size, config size, chunk count, cluster id, config,
 * checksums, and a checksum over all that. */
#define MAGIC 0x504e5352u
#define HEAD_BYTES (4u + 4u + 4u * 8u + 4u + 4u + CLUSTER_ID_BYTES)
#define FILES_MAX 64

static uint64_t chunk_checksum(uint32_t chunk, const void *data, size_t size)
{
    return checksum64_seed((uint64_t)chunk + 1, data, size);
}

/* ---- manifest ---- */

void snapshot_manifest_finish(struct snapshot_manifest *manifest)
{
    if (manifest != NULL) {
        free(manifest->checksums);
        manifest->checksums = NULL;
    }
}

static uint64_t count_chunks(uint64_t size)
{
    return size / SNAPSHOT_CHUNK_BYTES + (size % SNAPSHOT_CHUNK_BYTES != 0 ? 1 : 0);
}

static int measure_chunks(struct snapshot_manifest *manifest, struct fs *fs, struct fs_file *file)
{
    uint8_t *data = malloc(SNAPSHOT_CHUNK_BYTES);
    manifest->checksums = calloc(manifest->chunk_count, sizeof(*manifest->checksums));
    int rc = data == NULL || manifest->checksums == NULL ? ERR_NOMEM : 0;
    for (uint32_t i = 0; rc == 0 && i < manifest->chunk_count; i++) {
        uint32_t size = snapshot_chunk_bytes(manifest, i);
        rc = fs->ops->read_at(fs, file, (uint64_t)i * SNAPSHOT_CHUNK_BYTES, data, size);
        if (rc == 0) {
            manifest->checksums[i] = chunk_checksum(i, data, size);
        }
    }
    free(data);
    if (rc != 0) {
        snapshot_manifest_finish(manifest);
    }
    return rc;
}

int snapshot_manifest_measure(struct snapshot_manifest *manifest, struct fs *fs, const char *path)
{
    struct fs_file *file;
    int rc = fs->ops->open(fs, path, FS_OPEN_READ, &file);
    if (rc != 0) {
        return rc;
    }
    rc = fs->ops->size(fs, file, &manifest->size);
    if (rc == 0 && manifest->size == 0) {
        rc = ERR_CORRUPT;
    }
    if (rc == 0 && count_chunks(manifest->size) > SNAPSHOT_CHUNKS_MAX) {
        rc = ERR_FULL;
    }
    if (rc == 0) {
        manifest->chunk_count = (uint32_t)count_chunks(manifest->size);
        rc = measure_chunks(manifest, fs, file);
    }
    fs->ops->close(fs, file);
    return rc;
}

void snapshot_manifest_encode(const struct snapshot_manifest *manifest, struct buf *out)
{
    size_t begin = out->size;
    buf_append_u32(out, MAGIC);
    buf_append_u32(out, SNAPSHOT_FORMAT_VERSION);
    buf_append_u64(out, manifest->id);
    buf_append_u64(out, manifest->index);
    buf_append_u64(out, manifest->term);
    buf_append_u64(out, manifest->size);
    buf_append_u32(out, manifest->config_size);
    buf_append_u32(out, manifest->chunk_count);
    buf_append(out, manifest->cluster_id, sizeof(manifest->cluster_id));
    buf_append(out, manifest->config, manifest->config_size);
    for (uint32_t i = 0; i < manifest->chunk_count; i++) {
        buf_append_u64(out, manifest->checksums[i]);
    }
    if (!buf_failed(out)) {
        buf_append_u64(out, checksum64(out->data + begin, out->size - begin));
    }
}

static int decode_fields(const uint8_t *data, size_t size, struct snapshot_manifest *out)
{
    struct snapshot_manifest manifest = {
        .id = load_u64(data + 8),
        .index = load_u64(data + 16),
        .term = load_u64(data + 24),
        .size = load_u64(data + 32),
        .config_size = load_u32(data + 40),
        .chunk_count = load_u32(data + 44),
    };
    if (manifest.config_size > SNAPSHOT_CONFIG_BYTES_MAX ||
        manifest.chunk_count > SNAPSHOT_CHUNKS_MAX || manifest.chunk_count == 0 ||
        count_chunks(manifest.size) != manifest.chunk_count || manifest.index == 0 ||
        manifest.term == 0 ||
        HEAD_BYTES + manifest.config_size + 8ull * manifest.chunk_count != size) {
        return ERR_CORRUPT;
    }
    manifest.checksums = calloc(manifest.chunk_count, sizeof(*manifest.checksums));
    if (manifest.checksums == NULL) {
        return ERR_NOMEM;
    }
    memcpy(manifest.cluster_id, data + 48, sizeof(manifest.cluster_id));
    memcpy(manifest.config, data + HEAD_BYTES, manifest.config_size);
    const uint8_t *checksums = data + HEAD_BYTES + manifest.config_size;
    for (uint32_t i = 0; i < manifest.chunk_count; i++) {
        manifest.checksums[i] = load_u64(checksums + 8ull * i);
    }
    *out = manifest;
    return 0;
}

int snapshot_manifest_decode(struct bytes data, struct snapshot_manifest *out)
{
    const uint8_t *bytes = data.data;
    if (data.size < HEAD_BYTES + 8 || data.size > SNAPSHOT_MANIFEST_BYTES_MAX ||
        load_u32(bytes) != MAGIC) {
        return ERR_CORRUPT;
    }
    size_t size = data.size - 8;
    if (load_u32(bytes + 4) != SNAPSHOT_FORMAT_VERSION) {
        return ERR_VERSION;
    }
    if (load_u64(bytes + size) != checksum64(bytes, size)) {
        return ERR_CORRUPT;
    }
    return decode_fields(bytes, size, out);
}

/* ---- chunks ---- */

uint32_t snapshot_chunk_bytes(const struct snapshot_manifest *manifest, uint32_t chunk)
{
    CHECK(chunk < manifest->chunk_count);
    uint64_t left = manifest->size - (uint64_t)chunk * SNAPSHOT_CHUNK_BYTES;
    return left < SNAPSHOT_CHUNK_BYTES ? (uint32_t)left : SNAPSHOT_CHUNK_BYTES;
}

int snapshot_read_chunk(const struct snapshot_manifest *manifest, struct fs *fs,
                        struct fs_file *file, uint32_t chunk, void *data)
{
    uint32_t size = snapshot_chunk_bytes(manifest, chunk);
    int rc = fs->ops->read_at(fs, file, (uint64_t)chunk * SNAPSHOT_CHUNK_BYTES, data, size);
    if (rc == 0 && chunk_checksum(chunk, data, size) != manifest->checksums[chunk]) {
        rc = ERR_CORRUPT;
    }
    return rc;
}

/* ---- directories ---- */

struct names {
    size_t count;
    char names[FILES_MAX][NAME_MAX + 1];
};

static int collect(void *context, const char *name)
{
    struct names *names = context;
    if (names->count == FILES_MAX) {
        return ERR_FULL;
    }
    snprintf(names->names[names->count++], sizeof(names->names[0]), "%s", name);
    return 0;
}

int snapshot_clear_dir(struct fs *fs, const char *dir)
{
    struct names *names = calloc(1, sizeof(*names));
    if (names == NULL) {
        return ERR_NOMEM;
    }
    int rc = fs->ops->list_dir(fs, dir, collect, names);
    size_t count = rc == 0 || rc == ERR_FULL ? names->count : 0;
    rc = rc == ERR_NOT_FOUND || rc == ERR_FULL ? 0 : rc;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX - NAME_MAX - 2, dir, names->names[i]);
        rc = fs->ops->remove(fs, path);
        rc = rc == ERR_NOT_FOUND ? 0 : rc;
    }
    free(names);
    return rc;
}

static void path_in(const struct snapshot_incoming *incoming, const char *name, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s", incoming->dir, name);
}

/* ---- incoming ---- */

static bool has_manifest(struct snapshot_incoming *incoming, struct bytes manifest)
{
    struct fs *fs = incoming->fs;
    char path[PATH_MAX];
    path_in(incoming, SNAPSHOT_MANIFEST_NAME, path);
    struct fs_file *file;
    if (fs->ops->open(fs, path, FS_OPEN_READ, &file) != 0) {
        return false;
    }
    uint64_t size = 0;
    bool is_same = fs->ops->size(fs, file, &size) == 0 && size == manifest.size;
    uint8_t *data = is_same ? malloc(size) : NULL;
    is_same = data != NULL && fs->ops->read_at(fs, file, 0, data, size) == 0 &&
              memcmp(data, manifest.data, size) == 0;
    free(data);
    fs->ops->close(fs, file);
    return is_same;
}

static int write_manifest(struct snapshot_incoming *incoming, struct bytes manifest)
{
    struct fs *fs = incoming->fs;
    char path[PATH_MAX];
    path_in(incoming, SNAPSHOT_MANIFEST_NAME, path);
    struct fs_file *file;
    int rc = fs->ops->open(fs, path, FS_OPEN_CREATE, &file);
    if (rc != 0) {
        return rc;
    }
    rc = fs->ops->write_at(fs, file, 0, manifest.data, manifest.size);
    fs->ops->close(fs, file);
    return rc;
}

/* Finds the first chunk that does not match the manifest. */
static int find_next_chunk(struct snapshot_incoming *incoming)
{
    const struct snapshot_manifest *manifest = &incoming->manifest;
    while (incoming->next_chunk < manifest->chunk_count) {
        int rc = snapshot_read_chunk(manifest, incoming->fs, incoming->file, incoming->next_chunk,
                                     incoming->scratch);
        if (rc != 0) {
            return rc == ERR_CORRUPT ? 0 : rc;
        }
        incoming->next_chunk++;
    }
    return 0;
}

static int open_data(struct snapshot_incoming *incoming, struct bytes manifest)
{
    struct fs *fs = incoming->fs;
    char path[PATH_MAX];
    path_in(incoming, SNAPSHOT_DATA_NAME, path);
    if (has_manifest(incoming, manifest) &&
        fs->ops->open(fs, path, FS_OPEN_READ_WRITE, &incoming->file) == 0) {
        return find_next_chunk(incoming);
    }
    int rc = snapshot_clear_dir(fs, incoming->dir);
    if (rc == 0) {
        rc = write_manifest(incoming, manifest);
    }
    return rc == 0 ? fs->ops->open(fs, path, FS_OPEN_CREATE, &incoming->file) : rc;
}

int snapshot_incoming_open(struct snapshot_incoming *incoming, struct fs *fs, const char *dir,
                           struct bytes manifest)
{
    *incoming = (struct snapshot_incoming){.fs = fs};
    CHECK(strlen(dir) < sizeof(incoming->dir));
    strcpy(incoming->dir, dir);
    int rc = snapshot_manifest_decode(manifest, &incoming->manifest);
    if (rc != 0) {
        return rc;
    }
    incoming->scratch = malloc(SNAPSHOT_CHUNK_BYTES);
    rc = incoming->scratch == NULL ? ERR_NOMEM : fs->ops->make_dir(fs, dir);
    if (rc == 0) {
        rc = open_data(incoming, manifest);
    }
    if (rc != 0) {
        snapshot_incoming_close(incoming);
    }
    return rc;
}

/* Chunks between two syncs. One sync of the whole file would delay the log on the same disk. */
#define SYNC_CHUNKS 16

int snapshot_incoming_write(struct snapshot_incoming *incoming, uint32_t chunk, struct bytes data)
{
    const struct snapshot_manifest *manifest = &incoming->manifest;
    if (chunk != incoming->next_chunk || chunk >= manifest->chunk_count ||
        data.size != snapshot_chunk_bytes(manifest, chunk)) {
        return ERR_INVALID;
    }
    if (chunk_checksum(chunk, data.data, data.size) != manifest->checksums[chunk]) {
        return ERR_CORRUPT;
    }
    struct fs *fs = incoming->fs;
    int rc = fs->ops->write_at(fs, incoming->file, (uint64_t)chunk * SNAPSHOT_CHUNK_BYTES,
                               data.data, data.size);
    if (rc == 0 && (chunk + 1) % SYNC_CHUNKS == 0) {
        rc = fs->ops->sync(fs, incoming->file);
    }
    if (rc == 0) {
        incoming->next_chunk++;
    }
    return rc;
}

int snapshot_incoming_complete(struct snapshot_incoming *incoming)
{
    const struct snapshot_manifest *manifest = &incoming->manifest;
    struct fs *fs = incoming->fs;
    CHECK(incoming->next_chunk == manifest->chunk_count);
    int rc = fs->ops->truncate(fs, incoming->file, manifest->size);
    if (rc == 0) {
        rc = fs->ops->sync(fs, incoming->file);
    }
    for (uint32_t i = 0; rc == 0 && i < manifest->chunk_count; i++) {
        rc = snapshot_read_chunk(manifest, fs, incoming->file, i, incoming->scratch);
    }
    return rc == 0 ? fs->ops->sync_dir(fs, incoming->dir) : rc;
}

void snapshot_incoming_close(struct snapshot_incoming *incoming)
{
    if (incoming->file != NULL) {
        incoming->fs->ops->close(incoming->fs, incoming->file);
    }
    free(incoming->scratch);
    snapshot_manifest_finish(&incoming->manifest);
    *incoming = (struct snapshot_incoming){0};
}
