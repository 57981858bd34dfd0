/* The text form of a cluster's id. */
#include "base/cluster.h"

void cluster_id_to_hex(const uint8_t cluster_id[CLUSTER_ID_BYTES],
                       char out[CLUSTER_ID_HEX_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < CLUSTER_ID_BYTES; i++) {
        out[2 * i] = digits[cluster_id[i] >> 4];
        out[2 * i + 1] = digits[cluster_id[i] & 0xf];
    }
    out[CLUSTER_ID_HEX_BYTES] = '\0';
}
