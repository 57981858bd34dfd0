/* JSON Web Tokens in compact form, and the keys that sign them. Knows no rules: auth.h has those.
 *
 * The algorithm belongs to the key, never to the token: P-256 is ES256, RSA is RS256, Ed25519 is
 * EdDSA. A token that names another one does not verify, so neither `none` nor a secret made of a
 * public key gets through. */
#ifndef RAFTOGRAM_AUTH_TOKEN_H
#define RAFTOGRAM_AUTH_TOKEN_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_BYTES_MAX 8192
#define TOKEN_KEY_BYTES_MAX 16384 /* of a PEM file */
#define TOKEN_RSA_BITS_MIN 2048

struct json_t;

/* A token whose signature nobody has looked at yet. */
struct token {
    char *text; /* the whole, NUL-terminated */
    size_t size;
    size_t signed_size;    /* of header and claims, with the dot between them */
    struct json_t *header; /* objects without duplicate keys */
    struct json_t *claims;
    const char *algorithm; /* views into the header */
    const char *kid;       /* NULL: not given, or not a string */
    uint8_t *signature;
    size_t signature_size;
};

/* Reads the three parts. Strict: base64url without padding, one JSON object each, no `crit`.
 * `*reason` becomes a static phrase. Errors: ERR_INVALID (with `reason`), ERR_NOMEM. */
int token_read(struct bytes text, struct token **out, const char **reason);
/* Accepts NULL. */
void token_destroy(struct token *token);
/* One part as JSON text, for free(); NULL without memory. */
char *token_header_text(const struct token *token);
char *token_claims_text(const struct token *token);

struct token_key;

/* Reads the first block of a PEM text, PUBLIC KEY or PRIVATE KEY.
 * Errors: ERR_INVALID (with `reason`, a static phrase), ERR_NOMEM. */
int token_key_read_public(struct bytes pem, struct token_key **out, const char **reason);
int token_key_read_private(struct bytes pem, struct token_key **out, const char **reason);
/* Accepts NULL. */
void token_key_destroy(struct token_key *key);
/* "ES256", "RS256" or "EdDSA". */
const char *token_key_algorithm(const struct token_key *key);
/* The public part as PEM text; for a private key, too. */
struct bytes token_key_public_pem(const struct token_key *key);

/* Errors: ERR_INVALID (another algorithm, a wrong signature; with `reason`). */
int token_verify(const struct token *token, const struct token_key *key, const char **reason);

/* Appends a token with these claims, a JSON object, signed with a private key. `kid` may be NULL.
 * Errors: ERR_INVALID, ERR_NOMEM. */
int token_sign(const struct token_key *key, const char *kid, const char *claims, struct buf *out);

/* Decodes base64url without padding, or base64 with it if `is_standard`. Appends to `out`.
 * Errors: ERR_INVALID, ERR_NOMEM. */
int token_decode_base64(struct bytes text, bool is_standard, struct buf *out);

#endif
