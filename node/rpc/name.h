/* The addresses that a host name stands for, by the system's resolver (/etc/hosts, then DNS, as
 * nsswitch.conf says), each look-up on a thread of its own: a name service that is slow or silent
 * costs nobody else a moment, and however long it takes, its answer is not lost. What was found
 * last stays until a later look-up finds something; whoever dials asks for one when a dial fails.
 */
#ifndef RAFTOGRAM_RPC_NAME_H
#define RAFTOGRAM_RPC_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RPC_TARGET_BYTES_MAX 640
#define RPC_NAME_REASON_BYTES_MAX 160

struct rpc_name;

/* `address` is host:port as address_split() has it; an IP address needs no look-up. `on_found` (may
 * be NULL) is called on a thread of its own when a look-up found other addresses than before or
 * ended without any; it must not block nor call the name. Errors: ERR_NOMEM, ERR_INVALID. */
int rpc_name_create(const char *address, void (*on_found)(void *context), void *context,
                    struct rpc_name **out);
/* No on_found afterwards. Does not wait for a look-up that runs. Accepts NULL. */
void rpc_name_destroy(struct rpc_name *name);

/* Any thread, all of these. */

/* Begins a look-up, unless one runs, or one ended less than a second ago. */
void rpc_name_look_up(struct rpc_name *name);
/* Waits while there is no address and a look-up runs; at most until then. */
void rpc_name_wait(struct rpc_name *name, uint64_t until_ns);
/* What gRPC dials: all addresses, one after the other. False: none is known, and `reason` (of
 * RPC_NAME_REASON_BYTES_MAX) says why. */
bool rpc_name_target(struct rpc_name *name, char target[RPC_TARGET_BYTES_MAX], char *reason);
/* The dial failed: the next one begins with another address. */
void rpc_name_rotate(struct rpc_name *name);

#endif
