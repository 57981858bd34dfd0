/* uthash as this module uses it: a keyed hash, since clients choose the keys; iteration is in order
 * of insertion, so that no result depends on it. And a failed allocation is no end of the process
 * but leaves the element outside (its handle's tbl is NULL). */
#ifndef RAFTOGRAM_CHAT_HASH_TABLE_H
#define RAFTOGRAM_CHAT_HASH_TABLE_H

#include "base/table_hash.h"

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, size, hash) ((hash) = table_hash((key), (size)))
#include <uthash.h>

#endif
