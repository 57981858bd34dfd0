/* Snapshots: a manifest of any bytes, its checksum made right or not, and the reception of a file
 * whose chunks come damaged, twice, out of order, with crashes and a rotting disk between.
 *
 * Whatever comes, what complete() accepts is the file. The chunks are small here: the file with the
 * code is included. */
#define SNAPSHOT_CHUNK_BYTES 64
#include "storage/snapshot.c"

#include "base/random.h"
#include "fuzz/input.h"
#include "lib/fs_memory.h"

#define FILE_BYTES_MAX 1000
#define STEPS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- manifests ---- */

static void check_manifest(struct bytes data)
{
    struct snapshot_manifest manifest;
    int rc = snapshot_manifest_decode(data, &manifest);
    CHECK(rc == 0 || rc == ERR_CORRUPT || rc == ERR_VERSION);
    if (rc != 0) {
        return;
    }
    CHECK(snapshot_chunk_bytes(&manifest, manifest.chunk_count - 1) > 0);
    struct buf again = {0};
    snapshot_manifest_encode(&manifest, &again);
    CHECK(bytes_equal(buf_bytes(&again), data));
    buf_finish(&again);
    snapshot_manifest_finish(&manifest);
}

static void fuzz_manifest(struct input *input)
{
    size_t size = input->left;
    uint8_t *data = malloc(size + 8);
    CHECK(data != NULL);
    struct bytes bytes = take_bytes(input, size);
    if (size > 0) {
        memcpy(data, bytes.data, size);
    }
    check_manifest((struct bytes){data, size});
    store_u64(data + size, checksum64(data, size));
    check_manifest((struct bytes){data, size + 8});
    if (size >= 8) {
        store_u32(data, MAGIC);
        store_u32(data + 4, SNAPSHOT_FORMAT_VERSION);
        store_u64(data + size, checksum64(data, size));
        check_manifest((struct bytes){data, size + 8});
    }
    free(data);
}

/* ---- reception ---- */

struct transfer {
    struct fs_memory *memory;
    struct fs *fs;
    struct random random;
    struct bytes contents;
    struct snapshot_manifest manifest;
    struct buf encoded;
    struct snapshot_incoming incoming;
};

static void measure(struct transfer *transfer)
{
    struct fs *fs = transfer->fs;
    struct fs_file *file;
    CHECK(fs->ops->make_dir(fs, "out") == 0);
    CHECK(fs->ops->open(fs, "out/data.mdb", FS_OPEN_CREATE, &file) == 0);
    CHECK(fs->ops->write_at(fs, file, 0, transfer->contents.data, transfer->contents.size) == 0);
    fs->ops->close(fs, file);
    transfer->manifest = (struct snapshot_manifest){.id = 1, .index = 2, .term = 3};
    CHECK(snapshot_manifest_measure(&transfer->manifest, fs, "out/data.mdb") == 0);
    snapshot_manifest_encode(&transfer->manifest, &transfer->encoded);
    check_manifest(buf_bytes(&transfer->encoded));
}

static void open_incoming(struct transfer *transfer)
{
    CHECK(snapshot_incoming_open(&transfer->incoming, transfer->fs, "in",
                                 buf_bytes(&transfer->encoded)) == 0);
    CHECK(transfer->incoming.next_chunk <= transfer->manifest.chunk_count);
}

static void send_chunk(struct transfer *transfer, uint32_t chunk, unsigned damage, unsigned where)
{
    uint8_t data[2 * SNAPSHOT_CHUNK_BYTES] = {0};
    uint32_t size = snapshot_chunk_bytes(&transfer->manifest, chunk);
    size_t from = (size_t)chunk * SNAPSHOT_CHUNK_BYTES;
    memcpy(data, (const uint8_t *)transfer->contents.data + from, size);
    uint32_t next = transfer->incoming.next_chunk;
    data[where % size] ^= (uint8_t)damage;
    int rc = snapshot_incoming_write(&transfer->incoming, chunk, (struct bytes){data, size});
    CHECK(rc == (chunk != next ? ERR_INVALID : (uint8_t)damage != 0 ? ERR_CORRUPT : 0));
    CHECK(transfer->incoming.next_chunk == next + (rc == 0));
    CHECK(snapshot_incoming_write(&transfer->incoming, transfer->incoming.next_chunk,
                                  (struct bytes){data, sizeof(data)}) == ERR_INVALID);
}

static void complete(struct transfer *transfer, bool may_be_rotten)
{
    int rc = snapshot_incoming_complete(&transfer->incoming);
    CHECK(rc == 0 || (rc == ERR_CORRUPT && may_be_rotten));
    if (rc == 0) {
        const uint8_t *data;
        uint64_t size;
        CHECK(fs_memory_peek(transfer->memory, "in/data.mdb", &data, &size) == 0);
        CHECK(bytes_equal((struct bytes){data, size}, transfer->contents));
    }
}

static void crash(struct transfer *transfer, bool is_power_cut)
{
    snapshot_incoming_close(&transfer->incoming);
    fs_memory_kill(transfer->memory);
    if (is_power_cut) {
        fs_memory_power_cut(transfer->memory, &transfer->random);
    }
    open_incoming(transfer);
}

static void fuzz_reception(struct input *input)
{
    struct transfer transfer = {.memory = fs_memory_create()};
    transfer.fs = fs_memory_fs(transfer.memory);
    random_seed(&transfer.random, take_u8(input));
    size_t size = take_u16(input) % FILE_BYTES_MAX + 1;
    uint8_t *contents = calloc(1, size);
    CHECK(contents != NULL);
    struct bytes given = take_bytes(input, size);
    if (given.size > 0) {
        memcpy(contents, given.data, given.size);
    }
    transfer.contents = (struct bytes){contents, size};
    measure(&transfer);
    open_incoming(&transfer);
    bool is_rotten = false;
    for (int i = 0; i < STEPS_MAX && input->left > 0; i++) {
        unsigned step = take_u8(input);
        uint32_t next = transfer.incoming.next_chunk;
        uint32_t count = transfer.manifest.chunk_count;
        if (step < 128 && next < count) {
            send_chunk(&transfer, next, 0, 0);
        } else if (step < 160) {
            send_chunk(&transfer, take_u8(input) % count, take_u8(input), take_u8(input));
        } else if (step < 200) {
            crash(&transfer, step & 1);
        } else if (step < 220) {
            is_rotten |=
                fs_memory_flip_bit(transfer.memory, "in/data.mdb", take_u16(input), step % 8) == 0;
        } else if (step < 230) {
            (void)fs_memory_flip_bit(transfer.memory, "in/manifest", take_u16(input), step % 8);
        } else if (step < 235) {
            /* Also a longer one: of an earlier transfer. */
            is_rotten |= fs_memory_truncate(transfer.memory, "in/data.mdb", take_u16(input)) == 0;
        } else if (next == count) {
            complete(&transfer, is_rotten);
        }
    }
    snapshot_incoming_close(&transfer.incoming);
    snapshot_manifest_finish(&transfer.manifest);
    buf_finish(&transfer.encoded);
    free(contents);
    fs_memory_destroy(transfer.memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    if (take_u8(&input) & 1) {
        fuzz_manifest(&input);
    } else {
        fuzz_reception(&input);
    }
    return 0;
}
