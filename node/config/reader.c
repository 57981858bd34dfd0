/* Reads YAML into a structure by a table of keys, and reports errors with their line. */
#include "config/reader.h"

#include "base/address.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/errors.h"
#include "config/value.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PATH_TEXT_SIZE = 192,  /* cluster.peers[8].raft_addr and the like */
    QUOTED_TEXT_SIZE = 96, /* of a value in an error */
};

static int read_mapping(struct config_reader *reader, const struct config_section *section,
                        yaml_node_t *node, int line, const char *path, char *base);
static int read_value(struct config_reader *reader, const struct config_key *key, yaml_node_t *node,
                      int line, const char *path, char *base);

/* Errors are one line, whatever the file contains. */
static void make_one_line(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) {
            *text = '?';
        }
    }
}

int config_reader_fail(struct config_reader *reader, int line, const char *key, const char *format,
                       ...)
{
    int size = snprintf(reader->error, reader->error_size, "%s:%d: %s: ", reader->file, line, key);
    if (size >= 0 && (size_t)size < reader->error_size) {
        va_list args;
        va_start(args, format);
        vsnprintf(reader->error + size, reader->error_size - (size_t)size, format, args);
        va_end(args);
    }
    if (reader->error_size > 0) {
        make_one_line(reader->error);
    }
    return ERR_INVALID;
}

int config_reader_line(const struct config_reader *reader, const void *field)
{
    for (size_t i = 0; i < reader->place_count; i++) {
        if (reader->places[i].field == field) {
            return reader->places[i].line;
        }
    }
    return 0;
}

static int remember_line(struct config_reader *reader, const void *field, int line)
{
    if (reader->place_count == reader->place_capacity) {
        size_t capacity = reader->place_capacity == 0 ? 64 : 2 * reader->place_capacity;
        struct config_place *places = realloc(reader->places, capacity * sizeof(*places));
        if (places == NULL) {
            snprintf(reader->error, reader->error_size, "%s: out of memory", reader->file);
            return ERR_NOMEM;
        }
        reader->places = places;
        reader->place_capacity = capacity;
    }
    reader->places[reader->place_count++] = (struct config_place){.field = field, .line = line};
    return 0;
}

void config_reader_finish(struct config_reader *reader)
{
    free(reader->places);
    reader->places = NULL;
    reader->place_count = 0;
    reader->place_capacity = 0;
}

static yaml_node_t *node_at(struct config_reader *reader, int index)
{
    yaml_node_t *node = yaml_document_get_node(reader->document, index);
    CHECK(node != NULL);
    return node;
}

static int line_of(const yaml_node_t *node)
{
    return (int)node->start_mark.line + 1;
}

static const char *text_of(const yaml_node_t *scalar)
{
    return (const char *)scalar->data.scalar.value;
}

static bool is_plain(const yaml_node_t *scalar)
{
    return scalar->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* Returns the type that YAML gives the scalar. A quoted scalar is always a string. */
static enum config_word word_of(const yaml_node_t *scalar)
{
    return is_plain(scalar) ? config_word_of(text_of(scalar)) : CONFIG_WORD_STRING;
}

/* True for `key:` without a value, such as an optional section whose keys are all commented out. */
static bool is_null(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && word_of(node) == CONFIG_WORD_NULL;
}

static const char *kind_text(const yaml_node_t *node)
{
    switch (node->type) {
    case YAML_MAPPING_NODE:
        return "a mapping";
    case YAML_SEQUENCE_NODE:
        return "a list";
    case YAML_SCALAR_NODE:
        break;
    case YAML_NO_NODE:
        return "nothing";
    }
    switch (word_of(node)) {
    case CONFIG_WORD_NULL:
        return "empty";
    case CONFIG_WORD_BOOL:
        return "true or false";
    case CONFIG_WORD_NUMBER:
        return "a number";
    case CONFIG_WORD_STRING:
        break;
    }
    return "a string";
}

/* Returns the value in quotes, shortened. */
static const char *quote(const char *text, char out[static QUOTED_TEXT_SIZE])
{
    int shown = snprintf(out, QUOTED_TEXT_SIZE - 4, "\"%s\"", text);
    if (shown >= QUOTED_TEXT_SIZE - 4) {
        strcat(out, "...");
    }
    return out;
}

/* Checks that the value is a scalar that a C string can hold. Refuses mappings, lists, tags and
 * NULs. */
static int check_scalar(struct config_reader *reader, const yaml_node_t *node, int line,
                        const char *path, const char *expected)
{
    if (node->type != YAML_SCALAR_NODE) {
        return config_reader_fail(reader, line, path, "is %s; it must be %s", kind_text(node),
                                  expected);
    }
    if (node->tag != NULL && strcmp((const char *)node->tag, YAML_STR_TAG) != 0) {
        return config_reader_fail(reader, line, path, "has the tag %s; remove it",
                                  (const char *)node->tag);
    }
    if (strlen(text_of(node)) != node->data.scalar.length) {
        return config_reader_fail(reader, line, path, "contains a NUL character; remove it");
    }
    return 0;
}

static int read_string(struct config_reader *reader, const struct config_key *key,
                       const yaml_node_t *node, int line, const char *path, char *field)
{
    int rc = check_scalar(reader, node, line, path, "a string");
    if (rc != 0) {
        return rc;
    }
    const char *text = text_of(node);
    if (word_of(node) == CONFIG_WORD_NULL || (key->min > 0 && *text == '\0')) {
        return config_reader_fail(reader, line, path, "is empty; %s",
                                  key->min > 0 ? "give it a value" : "write \"\" or remove it");
    }
    if (word_of(node) != CONFIG_WORD_STRING) {
        return config_reader_fail(reader, line, path,
                                  "is %s, not a string; put it in quotes: \"%s\"", kind_text(node),
                                  text);
    }
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            return config_reader_fail(reader, line, path,
                                      "contains a control character; remove it");
        }
    }
    if (strlen(text) >= key->text_size) {
        return config_reader_fail(reader, line, path, "is %zu bytes long; at most %zu are allowed",
                                  strlen(text), key->text_size - 1);
    }
    memcpy(field, text, strlen(text) + 1);
    return 0;
}

static int read_address(struct config_reader *reader, const struct config_key *key,
                        const yaml_node_t *node, int line, const char *path, char *field)
{
    static const char expected[] = "an address: host:port";
    int rc = check_scalar(reader, node, line, path, expected);
    if (rc != 0) {
        return rc;
    }
    if (key->min == 0 && *text_of(node) == '\0' && !is_plain(node)) {
        *field = '\0';
        return 0;
    }
    if (word_of(node) == CONFIG_WORD_NULL || *text_of(node) == '\0') {
        return config_reader_fail(reader, line, path, "is empty; it must be %s", expected);
    }
    struct address address;
    const char *reason = NULL;
    char quoted[QUOTED_TEXT_SIZE];
    if (address_split(text_of(node), &address, &reason) != 0) {
        return config_reader_fail(reader, line, path, "%s %s", quote(text_of(node), quoted),
                                  reason);
    }
    CHECK(strlen(text_of(node)) < key->text_size);
    memcpy(field, text_of(node), strlen(text_of(node)) + 1);
    return 0;
}

static void write_number(const struct config_key *key, uint64_t value, char *out)
{
    if (key->kind == CONFIG_DURATION) {
        config_write_duration(value, out);
    } else if (key->kind == CONFIG_SIZE) {
        config_write_size(value, out);
    } else {
        snprintf(out, CONFIG_VALUE_TEXT_SIZE, "%" PRIu64, value);
    }
}

static int parse_number(const struct config_key *key, const yaml_node_t *node, uint64_t *out)
{
    if (key->kind == CONFIG_DURATION) {
        return config_read_duration(text_of(node), out);
    }
    if (key->kind == CONFIG_SIZE) {
        return config_read_size(text_of(node), out);
    }
    return is_plain(node) ? config_read_count(text_of(node), out) : ERR_INVALID;
}

static int read_number(struct config_reader *reader, const struct config_key *key,
                       const yaml_node_t *node, int line, const char *path, char *field)
{
    const char *expected = "a whole number without quotes, such as 8192";
    if (key->kind == CONFIG_DURATION) {
        expected = "a duration with its unit: 150ms, 2s, 5m";
    } else if (key->kind == CONFIG_SIZE) {
        expected = "a size: bytes, or 64KiB, 1MiB, 1GiB";
    }
    int rc = check_scalar(reader, node, line, path, expected);
    if (rc != 0) {
        return rc;
    }
    char quoted[QUOTED_TEXT_SIZE];
    uint64_t value = 0;
    if (parse_number(key, node, &value) != 0) {
        return config_reader_fail(reader, line, path, "%s must be %s", quote(text_of(node), quoted),
                                  expected);
    }
    if (value < key->min || value > key->max) {
        char min[CONFIG_VALUE_TEXT_SIZE];
        char max[CONFIG_VALUE_TEXT_SIZE];
        write_number(key, key->min, min);
        write_number(key, key->max, max);
        return config_reader_fail(reader, line, path, "%s is out of range; it must be %s to %s",
                                  text_of(node), min, max);
    }
    memcpy(field, &value, sizeof(value));
    return 0;
}

static int read_bool(struct config_reader *reader, const yaml_node_t *node, int line,
                     const char *path, char *field)
{
    int rc = check_scalar(reader, node, line, path, "true or false");
    if (rc != 0) {
        return rc;
    }
    char quoted[QUOTED_TEXT_SIZE];
    if (word_of(node) != CONFIG_WORD_BOOL) {
        return config_reader_fail(reader, line, path, "%s must be true or false, without quotes",
                                  quote(text_of(node), quoted));
    }
    bool value = text_of(node)[0] == 't' || text_of(node)[0] == 'T';
    memcpy(field, &value, sizeof(value));
    return 0;
}

static int find_word(struct config_reader *reader, const struct config_key *key,
                     const yaml_node_t *node, int line, const char *path, uint32_t *out)
{
    char known[256] = "";
    for (size_t i = 0; i < key->word_count; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof(known) - used, "%s%s", i > 0 ? ", " : "", key->words[i].word);
    }
    int rc = check_scalar(reader, node, line, path, known);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < key->word_count; i++) {
        if (strcmp(text_of(node), key->words[i].word) == 0) {
            *out = key->words[i].value;
            return 0;
        }
    }
    char quoted[QUOTED_TEXT_SIZE];
    return config_reader_fail(reader, line, path, "%s must be one of %s",
                              quote(text_of(node), quoted), known);
}

static int read_choice(struct config_reader *reader, const struct config_key *key,
                       const yaml_node_t *node, int line, const char *path, char *field)
{
    uint32_t value;
    int rc = find_word(reader, key, node, line, path, &value);
    if (rc == 0) {
        memcpy(field, &value, sizeof(value));
    }
    return rc;
}

static int read_set(struct config_reader *reader, const struct config_key *key, yaml_node_t *node,
                    int line, const char *path, char *field)
{
    uint32_t set = 0;
    if (node->type != YAML_SEQUENCE_NODE) {
        return config_reader_fail(reader, line, path, "is %s; it must be a list", kind_text(node));
    }
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        uint32_t value;
        const yaml_node_t *word = node_at(reader, *item);
        int rc = find_word(reader, key, word, line_of(word), path, &value);
        if (rc != 0) {
            return rc;
        }
        set |= value;
    }
    memcpy(field, &set, sizeof(set));
    return 0;
}

static int read_scalar(struct config_reader *reader, const struct config_key *key,
                       const yaml_node_t *node, int line, const char *path, char *field)
{
    switch (key->kind) {
    case CONFIG_STRING:
        return read_string(reader, key, node, line, path, field);
    case CONFIG_ADDRESS:
        return read_address(reader, key, node, line, path, field);
    case CONFIG_DURATION:
    case CONFIG_SIZE:
    case CONFIG_COUNT:
        return read_number(reader, key, node, line, path, field);
    case CONFIG_BOOL:
        return read_bool(reader, node, line, path, field);
    case CONFIG_CHOICE:
        return read_choice(reader, key, node, line, path, field);
    case CONFIG_SET:
    case CONFIG_MAP:
    case CONFIG_SECTION:
    case CONFIG_LIST:
        break;
    }
    CHECK(!"a section or a list is no scalar");
    return ERR_INVALID;
}

static int read_list(struct config_reader *reader, const struct config_key *key, yaml_node_t *node,
                     int line, const char *path, char *base)
{
    size_t count = 0;
    if (node->type == YAML_SEQUENCE_NODE) {
        count = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    } else if (!is_null(node)) {
        return config_reader_fail(reader, line, path, "is %s; it must be a list", kind_text(node));
    }
    if (count > key->count_max) {
        return config_reader_fail(reader, line, path, "has %zu items; at most %zu are allowed",
                                  count, key->count_max);
    }
    for (size_t i = 0; i < count; i++) {
        yaml_node_t *item = node_at(reader, node->data.sequence.items.start[i]);
        char *field = base + key->offset + i * key->item_size;
        char item_path[PATH_TEXT_SIZE];
        snprintf(item_path, sizeof(item_path), "%.150s[%zu]", path, i);
        int rc;
        if (key->section != NULL) {
            rc = read_mapping(reader, key->section, item, line_of(item), item_path, field);
        } else {
            rc = read_scalar(reader, key->item, item, line_of(item), item_path, field);
        }
        if (rc == 0 && key->section == NULL) {
            rc = remember_line(reader, field, line_of(item));
        }
        if (rc != 0) {
            return rc;
        }
    }
    memcpy(base + key->count_offset, &count, sizeof(count));
    return 0;
}

static void join_path(char out[static PATH_TEXT_SIZE], const char *path, const char *name)
{
    snprintf(out, PATH_TEXT_SIZE, "%s%s%.80s", path, *path != '\0' ? "." : "",
             *name != '\0' ? name : "''");
}

/* The name of an item of a map, which is the beginning of the item. */
static int read_name(struct config_reader *reader, const struct config_key *key,
                     const yaml_node_t *name, const char *path, const char *first, size_t count,
                     char *item)
{
    const char *text = name->type == YAML_SCALAR_NODE ? text_of(name) : "";
    if (*text == '\0' || strlen(text) != name->data.scalar.length) {
        return config_reader_fail(reader, line_of(name), path, "has a name that is empty or %s",
                                  name->type == YAML_SCALAR_NODE ? "has a NUL" : kind_text(name));
    }
    if (strlen(text) >= key->text_size) {
        return config_reader_fail(reader, line_of(name), path,
                                  "the name is %zu bytes long; at most %zu are allowed",
                                  strlen(text), key->text_size - 1);
    }
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            return config_reader_fail(reader, line_of(name), path,
                                      "the name contains a control character; remove it");
        }
    }
    for (size_t i = 0; i < count; i++) {
        const char *other = first + i * key->item_size;
        if (strcmp(other, text) == 0) {
            return config_reader_fail(reader, line_of(name), path,
                                      "duplicate key; it is already on line %d",
                                      config_reader_line(reader, other));
        }
    }
    memcpy(item, text, strlen(text) + 1);
    return 0;
}

static int read_map(struct config_reader *reader, const struct config_key *key, yaml_node_t *node,
                    int line, const char *path, char *base)
{
    size_t count = 0;
    if (node->type == YAML_MAPPING_NODE) {
        count = (size_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start);
    } else if (!is_null(node)) {
        return config_reader_fail(reader, line, path,
                                  "is %s; it must be a mapping of keys to values", kind_text(node));
    }
    if (count > key->count_max) {
        return config_reader_fail(reader, line, path, "has %zu items; at most %zu are allowed",
                                  count, key->count_max);
    }
    for (size_t i = 0; i < count; i++) {
        const yaml_node_pair_t *pair = &node->data.mapping.pairs.start[i];
        yaml_node_t *name = node_at(reader, pair->key);
        char *first = base + key->offset;
        char *item = first + i * key->item_size;
        char item_path[PATH_TEXT_SIZE];
        join_path(item_path, path, name->type == YAML_SCALAR_NODE ? text_of(name) : "");
        int rc = read_name(reader, key, name, item_path, first, i, item);
        if (rc == 0) {
            rc = remember_line(reader, item, line_of(name));
        }
        if (rc == 0) {
            rc = read_value(reader, key->item, node_at(reader, pair->value), line_of(name),
                            item_path, item);
        }
        if (rc != 0) {
            return rc;
        }
    }
    memcpy(base + key->count_offset, &count, sizeof(count));
    return 0;
}

static int read_value(struct config_reader *reader, const struct config_key *key, yaml_node_t *node,
                      int line, const char *path, char *base)
{
    int rc;
    if (key->kind == CONFIG_SECTION) {
        rc = read_mapping(reader, key->section, node, line, path, base + key->offset);
    } else if (key->kind == CONFIG_LIST) {
        rc = read_list(reader, key, node, line, path, base);
    } else if (key->kind == CONFIG_MAP) {
        rc = read_map(reader, key, node, line, path, base);
    } else if (key->kind == CONFIG_SET) {
        rc = read_set(reader, key, node, line, path, base + key->offset);
    } else {
        rc = read_scalar(reader, key, node, line, path, base + key->offset);
    }
    /* The line of a section is not recorded, because a section has the address of its first field.
     * A list or a map is recorded by its count, because it has the address of its first item. */
    if (rc == 0 && key->kind != CONFIG_SECTION) {
        bool has_count = key->kind == CONFIG_LIST || key->kind == CONFIG_MAP;
        rc = remember_line(reader, base + (has_count ? key->count_offset : key->offset), line);
    }
    return rc;
}

static const struct config_key *find_key(const struct config_section *section, const char *name)
{
    for (size_t i = 0; i < section->key_count; i++) {
        if (strcmp(section->keys[i].name, name) == 0) {
            return &section->keys[i];
        }
    }
    return NULL;
}

static int fail_unknown_key(struct config_reader *reader, const struct config_section *section,
                            int line, const char *path)
{
    char known[512] = "";
    for (size_t i = 0; i < section->key_count; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof(known) - used, "%s%s", i > 0 ? ", " : "",
                 section->keys[i].name);
    }
    return config_reader_fail(reader, line, path, "unknown key; the keys here are %s", known);
}

/* Reads a section. `lines` has an element for each key: the line where it was found, or 0. */
static int read_pair(struct config_reader *reader, const struct config_section *section,
                     const yaml_node_pair_t *pair, int *lines, const char *path, char *base)
{
    yaml_node_t *name = node_at(reader, pair->key);
    if (name->type != YAML_SCALAR_NODE) {
        return config_reader_fail(reader, line_of(name), *path != '\0' ? path : "file",
                                  "has %s for a key; a key must be a word", kind_text(name));
    }
    char key_path[PATH_TEXT_SIZE];
    join_path(key_path, path, text_of(name));
    const struct config_key *key = find_key(section, text_of(name));
    if (key == NULL || strlen(text_of(name)) != name->data.scalar.length) {
        return fail_unknown_key(reader, section, line_of(name), key_path);
    }
    int *line = &lines[key - section->keys];
    if (*line != 0) {
        return config_reader_fail(reader, line_of(name), key_path,
                                  "duplicate key; it is already on line %d", *line);
    }
    *line = line_of(name);
    return read_value(reader, key, node_at(reader, pair->value), *line, key_path, base);
}

static int read_mapping(struct config_reader *reader, const struct config_section *section,
                        yaml_node_t *node, int line, const char *path, char *base)
{
    enum { SECTION_KEYS_MAX = 16 };
    int lines[SECTION_KEYS_MAX] = {0};
    CHECK(section->key_count <= SECTION_KEYS_MAX);
    if (node->type == YAML_MAPPING_NODE) {
        const yaml_node_pair_t *end = node->data.mapping.pairs.top;
        for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < end; pair++) {
            int rc = read_pair(reader, section, pair, lines, path, base);
            if (rc != 0) {
                return rc;
            }
        }
    } else if (!is_null(node)) {
        return config_reader_fail(reader, line, *path != '\0' ? path : "file",
                                  "is %s; it must be a mapping of keys to values", kind_text(node));
    }
    for (size_t i = 0; i < section->key_count; i++) {
        if (section->keys[i].is_required && lines[i] == 0) {
            char key_path[PATH_TEXT_SIZE];
            join_path(key_path, path, section->keys[i].name);
            return config_reader_fail(reader, line, key_path,
                                      "is missing; conf/config.yaml.dist shows it");
        }
    }
    return 0;
}

int config_reader_read(struct config_reader *reader, const struct config_section *root, void *base)
{
    yaml_node_t *node = yaml_document_get_root_node(reader->document);
    if (node == NULL) {
        return config_reader_fail(reader, 1, root->keys[0].name,
                                  "is missing, the file is empty; conf/config.yaml.dist shows it");
    }
    return read_mapping(reader, root, node, line_of(node), "", base);
}
