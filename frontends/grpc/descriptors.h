/* Finds files and symbols in an encoded FileDescriptorSet, for server reflection. Nothing is parsed
 * in advance: a search reads the encoded descriptors, some ten kilobytes. Results are views into
 * the set. */
#ifndef RAFTOGRAM_FRONTENDS_GRPC_DESCRIPTORS_H
#define RAFTOGRAM_FRONTENDS_GRPC_DESCRIPTORS_H

#include "base/buf.h"

#include <stddef.h>

#define DESCRIPTOR_FILES_MAX 32
#define DESCRIPTOR_NESTING_MAX 16 /* of messages in messages; deeper ones are not found */

struct descriptor_set {
    struct bytes files[DESCRIPTOR_FILES_MAX]; /* each an encoded FileDescriptorProto */
    size_t count;
};

/* The descriptors of proto/ and all their imports, generated at build time. */
extern const struct bytes descriptor_set_of_proto;

/* Errors: ERR_FULL over DESCRIPTOR_FILES_MAX; ERR_NOT_FOUND for a set without files. */
int descriptor_set_init(struct descriptor_set *set, struct bytes encoded);

/* `out` is an index into set->files. Errors: ERR_NOT_FOUND. */
int descriptor_set_find_file(const struct descriptor_set *set, struct bytes name, size_t *out);
/* Finds the file that defines a message, field, oneof, enum, enum value, service or method, by its
 * full name without a leading dot. Errors: ERR_NOT_FOUND. */
int descriptor_set_find_symbol(const struct descriptor_set *set, struct bytes symbol, size_t *out);
/* Writes the file and all its imports, each once, the file first. Returns their number. */
size_t descriptor_set_closure(const struct descriptor_set *set, size_t file,
                              struct bytes out[DESCRIPTOR_FILES_MAX]);

#endif
