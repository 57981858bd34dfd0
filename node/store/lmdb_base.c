/* What every file of the LMDB store needs: its databases, error codes, guarded reads. */
#include "store/lmdb_internal.h"

#include "base/checksum.h"
#include "base/errors.h"
#include "base/unconst.h"

#include <errno.h>
#include <sys/mman.h>

const struct store_database store_databases[ROW_DATABASES] = {
    [ROW_META] = {"meta", 0},
    [ROW_CHANNELS] = {"channels", 0},
    [ROW_MESSAGES] = {"messages", 0},
    [ROW_VALUES] = {"values", 0},
    [ROW_RECENT] = {"recent", 0},
    [ROW_RUNS] = {"runs", MDB_DUPSORT | MDB_DUPFIXED},
    [ROW_DEDUPE] = {"dedupe", MDB_DUPSORT | MDB_DUPFIXED},
};

bool store_has_items(enum row_database database)
{
    return (store_databases[database].flags & MDB_DUPSORT) != 0;
}

int store_error_of(int rc)
{
    switch (rc) {
    case 0:
        return 0;
    case MDB_NOTFOUND:
        return ERR_NOT_FOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG: /* over RLIMIT_FSIZE */
        return ERR_NO_SPACE;
    case ENOMEM:
        return ERR_NOMEM;
    case EACCES:
    case EPERM:
        return ERR_ACCESS;
    case EROFS:
        return ERR_READ_ONLY;
    case EMFILE:
    case ENFILE:
        return ERR_FILES;
    case MDB_READERS_FULL:
        return ERR_FULL;
    case MDB_VERSION_MISMATCH:
        return ERR_VERSION;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE:
    case MDB_BAD_TXN: /* what a transaction says after it has met damage */
    case MDB_KEYEXIST:
        return ERR_CORRUPT;
    default:
        return ERR_IO;
    }
}

MDB_val store_val(struct bytes bytes)
{
    return (MDB_val){.mv_size = bytes.size, .mv_data = unconst(bytes.data)};
}

bool store_map_holds(const struct lmdb_store *store, const MDB_val *value)
{
    uintptr_t at = (uintptr_t)value->mv_data;
    return at >= store->guard.map.begin && at <= store->guard.map.end &&
           value->mv_size <= store->guard.map.end - at;
}

uint64_t store_client_id_hash(const struct lmdb_store *store, struct bytes client_id)
{
    return checksum64_seed(store->hash_seed, client_id.data, client_id.size) & store->hash_mask;
}

void store_release_pages(const struct lmdb_store *store)
{
    const struct store_mapping *map = &store->guard.map;
    (void)madvise((void *)map->begin, map->end - map->begin, MADV_DONTNEED);
}

struct bytes store_bytes_of(MDB_val value)
{
    return (struct bytes){.data = value.mv_data, .size = value.mv_size};
}

int store_get(const struct lmdb_store *store, MDB_txn *txn, enum row_database database,
              struct bytes key, struct bytes *value)
{
    MDB_val mdb_key = store_val(key);
    MDB_val found;
    const struct store_guard *outer = store_fault_enter(&store->guard);
    int rc = store_error_of(mdb_get(txn, store->databases[database], &mdb_key, &found));
    store_fault_leave(outer);
    if (rc == 0 && !store_map_holds(store, &found)) {
        rc = ERR_CORRUPT;
    }
    if (rc == 0) {
        *value = store_bytes_of(found);
    }
    return rc;
}

int store_cursor_get(const struct lmdb_store *store, MDB_cursor *cursor, MDB_val *key,
                     MDB_val *value, MDB_cursor_op op)
{
    MDB_val found_key = *key;
    MDB_val found_value = *value;
    const struct store_guard *outer = store_fault_enter(&store->guard);
    int rc = store_error_of(mdb_cursor_get(cursor, &found_key, &found_value, op));
    store_fault_leave(outer);
    if (rc != 0) {
        return rc;
    }
    /* Some operations leave the key as it was given. */
    bool has_key = found_key.mv_data != key->mv_data;
    if (!store_map_holds(store, &found_value) || found_key.mv_size > ROW_KEY_BYTES_MAX ||
        (has_key && !store_map_holds(store, &found_key))) {
        return ERR_CORRUPT;
    }
    *key = found_key;
    *value = found_value;
    return 0;
}
