/* What the files of auth share. */
#ifndef RAFTOGRAM_AUTH_INTERNAL_H
#define RAFTOGRAM_AUTH_INTERNAL_H

#include "auth/auth.h"
#include "auth/cache.h"
#include "auth/token.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/text.h"

#include <limits.h>

#define AUTH_KEY_SUFFIX ".pem"

struct auth_key {
    char kid[AUTH_KID_BYTES_MAX + 1];
    struct token_key *key;
    uint8_t credential[AUTH_DIGEST_BYTES];
};

struct auth_user {
    char *name;
    char *hash; /* behind the name, in the same memory */
    uint64_t role_bits;
    uint8_t credential[AUTH_DIGEST_BYTES];
};

/* A certificate's name and its roles. */
struct auth_holder {
    char *name;
    uint64_t role_bits;
};

struct auth_rule {
    char *prefix; /* of a channel's id or a key; the whole one unless `is_open` */
    size_t size;
    bool is_open; /* the pattern ended with `*` */
    uint32_t rights;
};

struct auth_compiled_role {
    char name[AUTH_ROLE_BYTES_MAX + 1];
    struct auth_rule *channels;
    size_t channel_count;
    struct auth_rule *kv;
    size_t kv_count;
    uint32_t cluster;
};

struct auth_rules {
    atomic_uint references;
    uint64_t generation;
    bool is_required;
    int64_t clock_skew_ms;
    int64_t max_lifetime_ms;
    char *issuer;
    char *audience;
    char *keys_dir;
    char *users_file;
    struct auth_compiled_role *roles;
    size_t role_count;
    struct auth_key *keys;
    size_t key_count;
    struct auth_user *users;
    size_t user_count;
    struct auth_holder *certificates;
    size_t certificate_count;
    uint8_t secret[AUTH_DIGEST_BYTES]; /* of the digests of names with passwords */
    struct auth_cache tokens;
    struct auth_cache logins;
};

/* Where an error is written: one line. */
struct auth_error {
    char *text;
    size_t size;
};

/* ---- rules.c: the roles ---- */

/* Errors: ERR_INVALID (with `error`), ERR_NOMEM; what was read is freed with the rules. */
int auth_compile_roles(struct auth_rules *rules, const struct auth_settings *settings,
                       const struct auth_error *error);
/* Returns the role's number, or -1. */
int auth_find_role(const struct auth_rules *rules, struct bytes name);

/* ---- keys.c, users.c: the files ---- */

int auth_load_keys(struct auth_rules *rules, const struct auth_error *error);
int auth_load_users(struct auth_rules *rules, const struct auth_error *error);
const struct auth_user *auth_find_user(const struct auth_rules *rules, struct bytes name);
const struct auth_key *auth_find_key(const struct auth_rules *rules, const char *kid);
/* True for the names that keys are read from: <kid>.pem, not hidden. */
bool auth_is_key_file(const char *name);

/* ---- principal.c ---- */

/* Errors: ERR_NOMEM. */
int principal_create(enum principal_kind kind, struct bytes subject, const struct auth_rules *rules,
                     uint64_t role_bits, int64_t expires_ms, struct principal **out);
/* Not empty, not too long, UTF-8 without control characters. */
bool auth_is_subject(struct bytes subject);

/* ---- claims.c ---- */

/* What verified claims say. */
struct auth_claims {
    const char *subject; /* a view into the claims */
    uint64_t role_bits;
    int64_t expires_ms;
};

/* AUTH_OK, AUTH_TOKEN_INVALID or AUTH_TOKEN_EXPIRED; `*reason` is a static phrase. */
enum auth_result auth_check_claims(const struct auth_rules *rules, const struct json_t *claims,
                                   int64_t now_ms, struct auth_claims *out, const char **reason);

#endif
