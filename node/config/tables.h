/* Inside config: how tables of keys are written, and the tables that have files of their own. */
#ifndef RAFTOGRAM_CONFIG_TABLES_H
#define RAFTOGRAM_CONFIG_TABLES_H

#include "config/config.h"
#include "config/reader.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define SIZE_OF(type, field) sizeof(((type *)0)->field)
#define SECTION_OF(array)                               \
    {                                                   \
        .keys = (array), .key_count = ARRAY_SIZE(array) \
    }
#define TEXT(type, field, value_kind, required)                                      \
    {                                                                                \
        .name = #field, .kind = (value_kind), .is_required = (required),             \
        .offset = offsetof(type, field), .text_size = SIZE_OF(type, field), .min = 1 \
    }
#define NUMBER(key, type, field, value_kind, least, most)                                     \
    {                                                                                         \
        .name = (key), .kind = (value_kind), .offset = offsetof(type, field), .min = (least), \
        .max = (most)                                                                         \
    }

/* ---- security.c: the sections tls, peer_tls, auth and audit ---- */

extern const struct config_section config_tls_section;
extern const struct config_section config_peer_tls_section;
extern const struct config_section config_auth_section;
extern const struct config_section config_audit_section;

void config_set_security_defaults(struct config *config);
/* Checks what the tables cannot say. Errors: ERR_INVALID, with the error written. */
int config_check_security(struct config_reader *reader, struct config *config);

#endif
