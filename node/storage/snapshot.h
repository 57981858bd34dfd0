/* Snapshots on disk: one file in chunks of a fixed size, and a manifest that describes it and
 * has a checksum for each chunk. Nothing here holds more than one chunk in memory.
 *
 * A directory with a snapshot has `data.mdb` and `manifest`. An incoming snapshot is the same
 * with a shorter file: when the transfer continues, after a lost stream or a crash, the
 * checksums show which chunks are complete. The contents of the file are opaque here.
 *
 * Threads: one at a time for each object. */
#ifndef RAFTOGRAM_STORAGE_SNAPSHOT_H
#define RAFTOGRAM_STORAGE_SNAPSHOT_H

#include "base/buf.h"
#include "base/cluster.h"
#include "storage/fs.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define SNAPSHOT_FORMAT_VERSION 1
#ifndef SNAPSHOT_CHUNK_BYTES
#define SNAPSHOT_CHUNK_BYTES (256u << 10)
#endif
#define SNAPSHOT_CHUNKS_MAX (1u << 20) /* 256 GiB */
#define SNAPSHOT_CONFIG_BYTES_MAX 2560
/* Encoded. */
#define SNAPSHOT_MANIFEST_BYTES_MAX (SNAPSHOT_CHUNKS_MAX * 8u + SNAPSHOT_CONFIG_BYTES_MAX + 128u)
#define SNAPSHOT_DATA_NAME "data.mdb"
#define SNAPSHOT_MANIFEST_NAME "manifest"

struct snapshot_manifest {
    uint64_t id; /* random: tells two files of the same index apart */
    uint64_t index;
    uint64_t term;
    uint8_t cluster_id[CLUSTER_ID_BYTES];
    uint32_t config_size;
    uint8_t config[SNAPSHOT_CONFIG_BYTES_MAX]; /* the membership, as the driver encodes it */
    uint64_t size;                             /* of the file; not 0 */
    uint32_t chunk_count;
    uint64_t *checksums; /* of each chunk, its number included; the manifest's own memory */
};

/* Accepts NULL and zeroed memory. */
void snapshot_manifest_finish(struct snapshot_manifest *manifest);
/* Reads the file and fills in size and checksums; the rest is the caller's.
 * Errors: those of fs; ERR_FULL (over SNAPSHOT_CHUNKS_MAX), ERR_NOMEM, ERR_CORRUPT (empty). */
int snapshot_manifest_measure(struct snapshot_manifest *manifest, struct fs *fs, const char *path);
void snapshot_manifest_encode(const struct snapshot_manifest *manifest, struct buf *out);
/* `out` is for snapshot_manifest_finish(). Errors: ERR_CORRUPT, ERR_VERSION, ERR_NOMEM. */
int snapshot_manifest_decode(struct bytes data, struct snapshot_manifest *out);

uint32_t snapshot_chunk_bytes(const struct snapshot_manifest *manifest, uint32_t chunk);
/* Reads and verifies a chunk; `data` has SNAPSHOT_CHUNK_BYTES. Errors: ERR_CORRUPT (also: the
 * file is too short), ERR_IO. */
int snapshot_read_chunk(const struct snapshot_manifest *manifest, struct fs *fs,
                        struct fs_file *file, uint32_t chunk, void *data);

/* A snapshot that is being received. */
struct snapshot_incoming {
    struct fs *fs;
    char dir[PATH_MAX - 64];
    struct fs_file *file;
    struct snapshot_manifest manifest;
    uint32_t next_chunk; /* the next chunk to receive; chunk_count: complete */
    uint8_t *scratch;
};

/* Continues the transfer in `dir` if it has the same manifest. Otherwise removes everything in
 * `dir` and starts again. Errors: as snapshot_manifest_decode(); those of fs. */
int snapshot_incoming_open(struct snapshot_incoming *incoming, struct fs *fs, const char *dir,
                           struct bytes manifest);
/* The next chunk, verified. Errors: ERR_INVALID (not the next), ERR_CORRUPT, those of fs. */
int snapshot_incoming_write(struct snapshot_incoming *incoming, uint32_t chunk, struct bytes data);
/* After the last chunk: makes all chunks durable and reads them again. Errors: ERR_CORRUPT (the
 * disk returned other data), those of fs. */
int snapshot_incoming_complete(struct snapshot_incoming *incoming);
/* Closes; the received chunks stay in the directory. Accepts zeroed memory. */
void snapshot_incoming_close(struct snapshot_incoming *incoming);

/* Removes all files in `dir`; no such directory is fine. Errors: those of fs. */
int snapshot_clear_dir(struct fs *fs, const char *dir);

#endif
