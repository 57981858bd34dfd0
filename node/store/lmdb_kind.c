/* The LMDB store as a kind of store. */
#include "base/container.h"
#include "store/lmdb.h"

static struct store_lmdb_kind *kind_of(struct store_kind *kind)
{
    return CONTAINER_OF(kind, struct store_lmdb_kind, kind);
}

static int open_store(struct store_kind *kind, const struct store_place *place, struct store **out,
                      char *error, size_t error_size)
{
    struct store_lmdb_options options = {
        .dir = place->dir,
        .home = place->home,
        .map_bytes_max = kind_of(kind)->map_bytes_max,
        .is_untrusted = place->is_untrusted,
    };
    return store_lmdb_open(&options, out, error, error_size);
}

static int copy_store(struct store_kind *kind, struct store *store, const char *path)
{
    return store_lmdb_copy(store, path, &kind_of(kind)->copying);
}

static void cancel_copies(struct store_kind *kind)
{
    store_copying_cancel(&kind_of(kind)->copying);
}

void store_lmdb_kind_init(struct store_lmdb_kind *kind, uint64_t map_bytes_max)
{
    *kind = (struct store_lmdb_kind){
        .kind = {.open = open_store,
                 .copy = copy_store,
                 .cancel_copies = cancel_copies,
                 .scrub = store_lmdb_scrub,
                 .mark_suspect = store_lmdb_mark_suspect,
                 .mark_outvoted = store_lmdb_mark_outvoted},
        .map_bytes_max = map_bytes_max,
    };
    store_copying_init(&kind->copying);
}

void store_lmdb_kind_finish(struct store_lmdb_kind *kind)
{
    store_copying_finish(&kind->copying);
}
