/* The addresses of a host name, by the system's resolver (/etc/hosts, then DNS, as nsswitch.conf
 * says). Each look-up runs on its own thread: a slow name service blocks no other work, and its
 * late answer is still used. The addresses stay until a later look-up finds others. The caller
 * requests a look-up when a dial fails. */
#ifndef RAFTOGRAM_RPC_NAME_H
#define RAFTOGRAM_RPC_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RPC_TARGET_BYTES_MAX 640
#define RPC_NAME_REASON_BYTES_MAX 160

struct rpc_name;

/* `address` is host:port as address_split() has it; an IP address needs no look-up. `on_found` (may
 * be NULL) is called on the look-up's thread if a look-up found other addresses than before, or
 * none. It must not block or call functions of the name. Errors: ERR_NOMEM, ERR_INVALID. */
int rpc_name_create(const char *address, void (*on_found)(void *context), void *context,
                    struct rpc_name **out);
/* on_found is not called afterwards. Does not wait for a running look-up. Accepts NULL. */
void rpc_name_destroy(struct rpc_name *name);

/* The following may be called on any thread. */

/* Begins a look-up, unless one is running or ended less than a second ago. */
void rpc_name_look_up(struct rpc_name *name);
/* Waits while no address is known and a look-up is running, at most until `until_ns`. */
void rpc_name_wait(struct rpc_name *name, uint64_t until_ns);
/* Writes what gRPC dials: all addresses, one after the other. If none is known, returns false, and
 * `reason` (of RPC_NAME_REASON_BYTES_MAX) says why. */
bool rpc_name_target(struct rpc_name *name, char target[RPC_TARGET_BYTES_MAX], char *reason);
/* Called after a failed dial. The next target begins with another address. */
void rpc_name_rotate(struct rpc_name *name);

#endif
