/* The audit file: one JSON object a line with the keys time, node, subject, address, method, target
 * and result.
 *
 * Lines queue up (AUDIT_QUEUE_BYTES) for a thread that writes them, so that nobody waits for the
 * disk. Lines that do not fit or cannot be written are dropped and counted, and a line says so in
 * their place. Any thread may call audit_write(); the others are for one thread at a time. */
#ifndef RAFTOGRAM_AUTH_AUDIT_H
#define RAFTOGRAM_AUTH_AUDIT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_QUEUE_BYTES (1u << 20)
#define AUDIT_TEXT_BYTES_MAX 1024 /* of one value: a longer one is cut */

struct audit;

struct audit_event {
    int64_t time_ms;     /* wall time */
    const char *subject; /* NULL is written as null, here and below */
    const char *address;
    const char *method;
    struct bytes target; /* channel, key or node; bytes that are not UTF-8 are replaced */
    const char *result;
};

/* Opens `path` for appending, made with mode 0600 when absent; a mode that lets others write is
 * refused. First half of a reload: nothing is changed yet. `*fd` is the caller's.
 * Errors: ERR_NOT_FOUND, ERR_ACCESS, ERR_INVALID, ERR_IO, each with `error`. */
int audit_open_file(const char *path, int *fd, char *error, size_t error_size);
/* Takes ownership of `fd`, also on error. `node_id` is copied. Errors: ERR_NOMEM. */
int audit_create(const char *node_id, int fd, struct audit **out);
/* Second half of a reload: later lines go to `fd`, which it takes. Cannot fail. */
void audit_switch(struct audit *audit, int fd);
/* Accepts NULL for `audit`: does nothing. */
void audit_write(struct audit *audit, const struct audit_event *event);
/* Lines dropped since the start. Any thread; accepts NULL. */
uint64_t audit_dropped_total(const struct audit *audit);
/* Waits until all lines are written or `timeout_ms` has passed. False: they are not. */
bool audit_flush(struct audit *audit, uint32_t timeout_ms);
/* Writes what is queued and ends the thread. Accepts NULL. */
void audit_destroy(struct audit *audit);

#endif
