/* Fills structures from a YAML document by tables of keys, and says exactly what is wrong with it.
 * config.c holds the tables and the rules between keys. */
#ifndef RAFTOGRAM_CONFIG_READER_H
#define RAFTOGRAM_CONFIG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yaml.h>

#define CONFIG_FIELDS_MAX                                                  \
    128 /* values in one file: the keys of all sections, peers and origins \
         */

enum config_kind {
    CONFIG_SECTION,  /* a mapping */
    CONFIG_LIST,     /* of mappings, or of strings */
    CONFIG_STRING,   /* char[text_size] */
    CONFIG_ADDRESS,  /* char[text_size], host:port */
    CONFIG_DURATION, /* uint64_t, nanoseconds */
    CONFIG_SIZE,     /* uint64_t, bytes */
    CONFIG_COUNT,    /* uint64_t */
    CONFIG_BOOL,     /* bool */
};

struct config_key {
    const char *name;
    enum config_kind kind;
    bool is_required;
    size_t offset;    /* of the field in the structure that the mapping fills */
    size_t text_size; /* strings: with the NUL */
    uint64_t min;     /* numbers: the range; strings: 1 if "" is refused */
    uint64_t max;
    const struct config_section *section; /* of a section, or of each item of a list */
    const struct config_key *item;        /* list of scalars: what each is */
    size_t item_size;                     /* lists: distance between items */
    size_t count_offset;                  /* lists: of a size_t with the number of items */
    size_t count_max;
};

struct config_section {
    const struct config_key *keys;
    size_t key_count;
};

struct config_reader {
    const char *file;
    char *error;
    size_t error_size;
    yaml_document_t *document;
    struct {
        const void *field;
        int line;
    } places[CONFIG_FIELDS_MAX];
    size_t place_count;
};

/* Writes `FILE:LINE: KEY: reason` to the reader's error and returns ERR_INVALID. */
int config_reader_fail(struct config_reader *reader, int line, const char *key, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));

/* Reads the document's root into `base`. Fields that the file does not name stay as they are.
 * Errors: ERR_INVALID, with the error written. */
int config_reader_read(struct config_reader *reader, const struct config_section *root, void *base);

/* The line that gave this field its value; 0 if the file does not name it. */
int config_reader_line(const struct config_reader *reader, const void *field);

#endif
