/* Who a client is, and what it may do. This is the only place that decides either.
 *
 *   struct auth_rules *rules = auth_acquire(auth);
 *   result = auth_verify_bearer(rules, token, now_ms, &principal, &login);
 *   decision = auth_authorize(rules, principal, AUTH_SEND, channel_id);
 *   auth_release(rules);
 *
 * `auth` holds the current rules: keys, users and roles. The rules never change. auth_reload() puts
 * others in their place, and a call in progress keeps those that it acquired. A principal is what
 * one credential proved. It outlives the rules that made it, and auth_recheck() tells whether other
 * rules would still accept its credential.
 *
 * Time comes in as `now_ms`: wall time in milliseconds since 1970. Any thread may call. Nothing
 * here logs. Nothing here waits, except what the comments of auth_open() and auth_verify_basic()
 * say.
 *
 * ES256 and RS256 are verified by libjwt, EdDSA (Ed25519), which libjwt 1.10 does not have, by
 * OpenSSL. libjwt takes no `typ` but JWT. */
#ifndef RAFTOGRAM_AUTH_H
#define RAFTOGRAM_AUTH_H

#include "auth/settings.h"
#include "base/buf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUTH_KEYS_MAX 256
#define AUTH_KID_BYTES_MAX 128
#define AUTH_USERS_MAX 10000
#define AUTH_PASSWORD_BYTES_MAX 1024
#define AUTH_TOKEN_BYTES_MAX 8192
#define AUTH_TOKENS_CACHED_MAX 4096
#define AUTH_USERS_CACHED_MAX 1024
#define AUTH_ERROR_BYTES_MAX (PATH_MAX + 512) /* enough for every error text */
#define AUTH_DIGEST_BYTES 32

/* ---- rules ---- */

struct auth;
struct auth_rules;

/* Reads the keys and the users that `settings` name, which is only read during the call. Reads
 * files: for the start and a thread that may wait. With mode off no file is read, and the rules
 * allow everything. On error `error` is one line that begins with the path or the key.
 * Errors: ERR_INVALID, ERR_NOT_FOUND, ERR_ACCESS, ERR_IO, ERR_NOMEM. */
int auth_open(const struct auth_settings *settings, struct auth **out, char *error,
              size_t error_size);
/* First half of a reload: reads all again and changes nothing yet. `*out` is the caller's, for
 * auth_commit() or auth_release(). Errors as of auth_open(). */
int auth_prepare(struct auth *auth, const struct auth_settings *settings, struct auth_rules **out,
                 char *error, size_t error_size);
/* Second half: later calls of auth_acquire() return `rules`, which it takes. Cannot fail, so that
 * certificates and other files can be reloaded together with them, all or none. */
void auth_commit(struct auth *auth, struct auth_rules *rules);
/* Both halves. On error, as of auth_open(), the rules stay as they are. Of these three, one thread
 * at a time. */
int auth_reload(struct auth *auth, const struct auth_settings *settings, char *error,
                size_t error_size);
/* Returns true if a file was changed, added or removed since the last auth_open() or
 * auth_prepare(), successful or not: so that a faulty file is reported once. Reads directories.
 * Like a reload, for one thread at a time. */
bool auth_has_changed(struct auth *auth);
/* Accepts NULL. Rules and principals that are in use live on. */
void auth_close(struct auth *auth);

/* The current rules, for auth_release(). */
struct auth_rules *auth_acquire(struct auth *auth);
/* Accepts NULL. */
void auth_release(struct auth_rules *rules);
/* Counts from 1, one more with each auth_commit(). */
uint64_t auth_generation(const struct auth_rules *rules);
/* False with mode off: everything is allowed, and nobody needs a credential. */
bool auth_is_required(const struct auth_rules *rules);

/* ---- principals ---- */

enum principal_kind {
    PRINCIPAL_TOKEN,
    PRINCIPAL_USER,
    PRINCIPAL_CERTIFICATE,
    PRINCIPAL_FORWARDED, /* another node has verified the credential */
};

#define PRINCIPAL_NEVER INT64_MAX

/* Immutable. Whoever keeps the pointer keeps a reference. */
struct principal {
    atomic_uint references;
    enum principal_kind kind;
    const char *subject;      /* not empty */
    const char *const *roles; /* those that the rules know */
    size_t role_count;        /* at most AUTH_ROLES_MAX */
    int64_t expires_ms;       /* with the clock skew; PRINCIPAL_NEVER */
    uint64_t generation;      /* of the rules that made it */
    uint64_t role_bits;       /* the same roles as a set, for rules of that generation only */
    /* Identifies the token's key or the user's hash, for auth_recheck(). */
    uint8_t credential[AUTH_DIGEST_BYTES];
};

struct principal *principal_keep(struct principal *principal);
/* Accepts NULL. */
void principal_drop(struct principal *principal);
bool principal_is_expired(const struct principal *principal, int64_t now_ms);

/* ---- identity ---- */

enum auth_result {
    AUTH_OK,
    AUTH_TOKEN_MISSING,
    AUTH_TOKEN_INVALID,
    AUTH_TOKEN_EXPIRED,
    AUTH_NO_MEMORY, /* not the client's fault: RESOURCE_EXHAUSTED */
};

/* "TOKEN_MISSING" and the others' reasons as errors carry them; "" for AUTH_OK. */
const char *auth_result_text(enum auth_result result);

#define AUTH_LABEL_BYTES_MAX (AUTH_SUBJECT_BYTES_MAX + 16)

/* What logs and the audit file may say of an attempt. It holds no secret. */
struct auth_login {
    const char *reason; /* why it failed: a static phrase for people; "" for AUTH_OK */
    /* A token: "KID:HHHHHHHH", with 8 hex digits of its SHA-256; a user: the name; a certificate:
     * the name. Bytes that are not printable ASCII in a kid are replaced by '?'. */
    char label[AUTH_LABEL_BYTES_MAX];
};

enum auth_scheme { AUTH_SCHEME_NONE, AUTH_SCHEME_BEARER, AUTH_SCHEME_BASIC, AUTH_SCHEME_OTHER };

/* Splits the value of an `authorization` header. `*credentials` is a view behind the scheme. An
 * empty value is AUTH_SCHEME_NONE. */
enum auth_scheme auth_split_header(struct bytes value, struct bytes *credentials);

/* On AUTH_OK `*out` is the caller's, for principal_drop(). `login` may be NULL. A token that was
 * verified is remembered by its SHA-256 until it expires or room is needed. An empty token is
 * AUTH_TOKEN_MISSING. */
enum auth_result auth_verify_bearer(struct auth_rules *rules, struct bytes token, int64_t now_ms,
                                    struct principal **out, struct auth_login *login);

/* `credentials` is base64 of name:password. Costs tens of milliseconds and the memory that the
 * user's hash names, also for unknown names: call it neither on the node's thread nor on a thread
 * that serves connections, and on few threads at once. What was verified is remembered, by a digest
 * with a random key, until the rules change or room is needed. */
enum auth_result auth_verify_basic(struct auth_rules *rules, struct bytes credentials,
                                   struct principal **out, struct auth_login *login);
/* Answers from what is remembered, at no cost. False: auth_verify_basic() has to be called. */
bool auth_recall_basic(struct auth_rules *rules, struct bytes credentials, struct principal **out);

/* `name` is the first subject alternative name of a certificate that TLS has verified and that ends
 * at `expires_ms`. A name without roles in the configuration is an identity that may do nothing. */
enum auth_result auth_from_certificate(struct auth_rules *rules, struct bytes name,
                                       int64_t expires_ms, int64_t now_ms, struct principal **out,
                                       struct auth_login *login);

/* The principal of a forwarded command: the other node says who it is. Roles that these rules do
 * not know are ignored. Errors: ERR_INVALID (the subject is empty, too long or not UTF-8),
 * ERR_NOMEM. */
int auth_from_forward(struct auth_rules *rules, struct bytes subject, const struct bytes *roles,
                      size_t role_count, struct principal **out);

/* Asks other rules about a principal: for open subscriptions after a reload. On AUTH_OK `*out` is
 * the caller's: the same identity with the roles that these rules give it. A token whose key is
 * gone or was replaced is AUTH_TOKEN_INVALID, as is a user who was removed or has another password.
 */
enum auth_result auth_recheck(struct auth_rules *rules, struct principal *principal, int64_t now_ms,
                              struct principal **out);

/* ---- decisions ---- */

enum auth_decision {
    AUTH_ALLOWED,
    AUTH_FORBIDDEN, /* PERMISSION_DENIED, FORBIDDEN */
    AUTH_HIDDEN,    /* no right at all on this channel: it answers as one that does not exist */
};

/* `target` is a channel's id or a key, and unused for rights on the cluster. CreateChannel without
 * an id asks with an empty target, which only the pattern `*` matches. AUTH_CREATE is never hidden:
 * who may not create a channel learns nothing of its existence. `principal` may be NULL with mode
 * off only. Its expiry is not looked at. */
enum auth_decision auth_authorize(const struct auth_rules *rules, const struct principal *principal,
                                  enum auth_right right, struct bytes target);
/* All rights on a channel, or on a key with `is_key`: 0 means none at all. */
uint32_t auth_rights_on(const struct auth_rules *rules, const struct principal *principal,
                        bool is_key, struct bytes target);
/* All rights on the cluster. */
uint32_t auth_cluster_rights(const struct auth_rules *rules, const struct principal *principal);

#endif
