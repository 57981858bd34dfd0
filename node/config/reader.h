/* Fills structures from a YAML document by tables of keys, and says exactly what is wrong with it.
 * config.c holds the tables and the rules between keys. */
#ifndef RAFTOGRAM_CONFIG_READER_H
#define RAFTOGRAM_CONFIG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yaml.h>

enum config_kind {
    CONFIG_SECTION,  /* a mapping */
    CONFIG_LIST,     /* of mappings, or of strings */
    CONFIG_MAP,      /* a mapping whose keys are names that the file chooses */
    CONFIG_STRING,   /* char[text_size] */
    CONFIG_ADDRESS,  /* char[text_size], host:port */
    CONFIG_DURATION, /* uint64_t, nanoseconds */
    CONFIG_SIZE,     /* uint64_t, bytes */
    CONFIG_COUNT,    /* uint64_t */
    CONFIG_BOOL,     /* bool */
    CONFIG_CHOICE,   /* uint32_t, the value of one of `words` */
    CONFIG_SET,      /* uint32_t, a list of `words`: the bits of their values */
};

struct config_word_value {
    const char *word;
    uint32_t value;
};

struct config_key {
    const char *name;
    enum config_kind kind;
    bool is_required;
    size_t offset;    /* of the field in the structure that the mapping fills */
    size_t text_size; /* strings, and names of a map: with the NUL */
    uint64_t min;     /* numbers: the range; strings and addresses: 1 if "" is refused */
    uint64_t max;
    const struct config_section *section; /* of a section, or of each item of a list */
    /* Of a list of scalars, or of a map: what each value is. An item of a map begins with its name,
     * and the value's offset is one in the item. */
    const struct config_key *item;
    size_t item_size;    /* lists and maps: distance between items */
    size_t count_offset; /* lists and maps: of a size_t with the number of items */
    size_t count_max;
    const struct config_word_value *words;
    size_t word_count;
};

struct config_section {
    const struct config_key *keys;
    size_t key_count;
};

/* Where a field has its value from. */
struct config_place {
    const void *field;
    int line;
};

struct config_reader {
    const char *file;
    char *error;
    size_t error_size;
    yaml_document_t *document;
    struct config_place *places; /* freed by config_reader_finish() */
    size_t place_count;
    size_t place_capacity;
};

/* Writes `FILE:LINE: KEY: reason` to the reader's error and returns ERR_INVALID. */
int config_reader_fail(struct config_reader *reader, int line, const char *key, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));

/* Reads the document's root into `base`. Fields that the file does not name stay as they are.
 * Errors: ERR_INVALID, ERR_NOMEM, with the error written. */
int config_reader_read(struct config_reader *reader, const struct config_section *root, void *base);

/* Frees what config_reader_read() took. */
void config_reader_finish(struct config_reader *reader);

/* The line that gave this field its value; 0 if the file does not name it. */
int config_reader_line(const struct config_reader *reader, const void *field);

#endif
