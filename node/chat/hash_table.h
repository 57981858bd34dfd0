/* uthash as this room uses it: XXH3 for a hash, and a failed allocation is no end of the process
 * but leaves the element outside (its handle's tbl is NULL). */
#ifndef RAFTOGRAM_CHAT_HASH_TABLE_H
#define RAFTOGRAM_CHAT_HASH_TABLE_H

#include "base/checksum.h"

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, size, hash) ((hash) = (unsigned)checksum64((key), (size)))
#include <uthash.h>

#endif
