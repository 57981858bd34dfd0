/* Searches encoded descriptors; see descriptors.h. What is malformed ends a search. */
#include "descriptors.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/protobuf.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Field numbers of google/protobuf/descriptor.proto. */
enum {
    SET_FILE = 1,
    NAME = 1, /* of every kind of descriptor */
    FILE_PACKAGE = 2,
    FILE_DEPENDENCY = 3,
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    MESSAGE_FIELD = 2,
    MESSAGE_NESTED = 3,
    MESSAGE_ENUM = 4,
    MESSAGE_ONEOF = 8,
    ENUM_VALUE = 2,
    SERVICE_METHOD = 2,
};

/* Returns the first field of that number; empty if there is none. */
static struct bytes find_field(struct bytes message, uint64_t number)
{
    struct bytes_reader reader = bytes_reader_of(message);
    struct protobuf_field field;
    while (protobuf_read_field(&reader, &field) > 0) {
        if (protobuf_number(&field) == number) {
            return field.bytes;
        }
    }
    return (struct bytes){"", 0};
}

/* ---- symbols ---- */

static bool is_name(struct bytes descriptor, struct bytes symbol)
{
    return bytes_equal(find_field(descriptor, NAME), symbol);
}

/* Removes "name." from the beginning of the symbol; nothing is left of "name" alone. If it is
 * another name, returns false and leaves the symbol unchanged. */
static bool take_name(struct bytes name, struct bytes *symbol)
{
    const char *text = symbol->data;
    if (symbol->size < name.size || memcmp(text, name.data, name.size) != 0) {
        return false;
    }
    if (symbol->size == name.size) {
        *symbol = (struct bytes){"", 0};
        return true;
    }
    /* A dot must be followed by a name. */
    if (text[name.size] != '.' || symbol->size == name.size + 1) {
        return false;
    }
    *symbol = (struct bytes){text + name.size + 1, symbol->size - name.size - 1};
    return true;
}

/* A value's scope is that of its enum, not the enum itself. */
static bool enum_defines(struct bytes descriptor, struct bytes symbol)
{
    struct bytes_reader reader = bytes_reader_of(descriptor);
    struct protobuf_field field;
    while (protobuf_read_field(&reader, &field) > 0) {
        if ((protobuf_number(&field) == NAME && bytes_equal(field.bytes, symbol)) ||
            (protobuf_number(&field) == ENUM_VALUE && is_name(field.bytes, symbol))) {
            return true;
        }
    }
    return false;
}

static bool service_defines(struct bytes descriptor, struct bytes symbol)
{
    if (!take_name(find_field(descriptor, NAME), &symbol)) {
        return false;
    }
    if (symbol.size == 0) {
        return true;
    }
    struct bytes_reader reader = bytes_reader_of(descriptor);
    struct protobuf_field field;
    while (protobuf_read_field(&reader, &field) > 0) {
        if (protobuf_number(&field) == SERVICE_METHOD && is_name(field.bytes, symbol)) {
            return true;
        }
    }
    return false;
}

static bool message_defines(struct bytes descriptor, struct bytes symbol, unsigned depth)
{
    if (depth == DESCRIPTOR_NESTING_MAX || !take_name(find_field(descriptor, NAME), &symbol)) {
        return false;
    }
    if (symbol.size == 0) {
        return true;
    }
    struct bytes_reader reader = bytes_reader_of(descriptor);
    struct protobuf_field field;
    while (protobuf_read_field(&reader, &field) > 0) {
        bool is_found = false;
        switch (protobuf_number(&field)) {
        case MESSAGE_FIELD:
        case MESSAGE_ONEOF:
            is_found = is_name(field.bytes, symbol);
            break;
        case MESSAGE_NESTED:
            is_found = message_defines(field.bytes, symbol, depth + 1);
            break;
        case MESSAGE_ENUM:
            is_found = enum_defines(field.bytes, symbol);
            break;
        default:
            break;
        }
        if (is_found) {
            return true;
        }
    }
    return false;
}

static bool file_defines(struct bytes file, struct bytes symbol)
{
    struct bytes package = find_field(file, FILE_PACKAGE);
    if (package.size > 0 && (!take_name(package, &symbol) || symbol.size == 0)) {
        return false;
    }
    struct bytes_reader reader = bytes_reader_of(file);
    struct protobuf_field field;
    while (protobuf_read_field(&reader, &field) > 0) {
        if ((protobuf_number(&field) == FILE_MESSAGE && message_defines(field.bytes, symbol, 0)) ||
            (protobuf_number(&field) == FILE_ENUM && enum_defines(field.bytes, symbol)) ||
            (protobuf_number(&field) == FILE_SERVICE && service_defines(field.bytes, symbol))) {
            return true;
        }
    }
    return false;
}

/* ---- public ---- */

int descriptor_set_init(struct descriptor_set *set, struct bytes encoded)
{
    struct descriptor_set found = {.count = 0};
    struct bytes_reader reader = bytes_reader_of(encoded);
    struct protobuf_field field;
    while (protobuf_read_field(&reader, &field) > 0) {
        if (protobuf_number(&field) != SET_FILE) {
            continue;
        }
        if (found.count == DESCRIPTOR_FILES_MAX) {
            return ERR_FULL;
        }
        found.files[found.count++] = field.bytes;
    }
    if (found.count == 0) {
        return ERR_NOT_FOUND;
    }
    *set = found;
    return 0;
}

int descriptor_set_find_file(const struct descriptor_set *set, struct bytes name, size_t *out)
{
    for (size_t i = 0; i < set->count; i++) {
        if (is_name(set->files[i], name)) {
            *out = i;
            return 0;
        }
    }
    return ERR_NOT_FOUND;
}

int descriptor_set_find_symbol(const struct descriptor_set *set, struct bytes symbol, size_t *out)
{
    for (size_t i = 0; i < set->count; i++) {
        if (file_defines(set->files[i], symbol)) {
            *out = i;
            return 0;
        }
    }
    return ERR_NOT_FOUND;
}

size_t descriptor_set_closure(const struct descriptor_set *set, size_t file,
                              struct bytes out[DESCRIPTOR_FILES_MAX])
{
    CHECK(file < set->count);
    size_t order[DESCRIPTOR_FILES_MAX];
    bool is_taken[DESCRIPTOR_FILES_MAX] = {false};
    size_t count = 0;
    order[count++] = file;
    is_taken[file] = true;
    for (size_t done = 0; done < count; done++) {
        out[done] = set->files[order[done]];
        struct bytes_reader reader = bytes_reader_of(out[done]);
        struct protobuf_field field;
        size_t dependency;
        while (protobuf_read_field(&reader, &field) > 0) {
            if (protobuf_number(&field) == FILE_DEPENDENCY &&
                descriptor_set_find_file(set, field.bytes, &dependency) == 0 &&
                !is_taken[dependency]) {
                is_taken[dependency] = true;
                order[count++] = dependency;
            }
        }
    }
    return count;
}
