/* Network addresses as people write them: host:port, 1.2.3.4:port, [v6]:port. Nothing is resolved.
 */
#ifndef RAFTOGRAM_BASE_ADDRESS_H
#define RAFTOGRAM_BASE_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#define ADDRESS_HOST_BYTES_MAX 253 /* of a host name, RFC 1035 */
#define ADDRESS_BYTES_MAX (ADDRESS_HOST_BYTES_MAX + 6)

struct address {
    char host[ADDRESS_HOST_BYTES_MAX +
              1];  /* without brackets; lower case; IPv6 as RFC 5952 has it */
    uint16_t port; /* never 0 */
    bool is_ipv6;
};

/* On ERR_INVALID `*reason` says what is wrong and what to write: a static string that continues a
 * sentence which begins with the address ("has no port; …"). It may be NULL if nobody asks.
 * Errors: ERR_INVALID. */
int address_split(const char *text, struct address *out, const char **reason);

bool address_equal(const struct address *a, const struct address *b);
/* True for 0.0.0.0 and [::], which mean every interface: valid to bind, not to dial. */
bool address_is_any(const struct address *address);

#endif
