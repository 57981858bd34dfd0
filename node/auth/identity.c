/* Who somebody is: tokens, users, certificates, other nodes' word. */
#include "auth/auth_internal.h"

#include <argon2.h>
#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CREDENTIALS_BYTES_MAX (AUTH_SUBJECT_BYTES_MAX + 1 + AUTH_PASSWORD_BYTES_MAX)
#define CREDENTIALS_TEXT_MAX ((CREDENTIALS_BYTES_MAX + 2) / 3 * 4) /* as base64 */

const char *auth_result_text(enum auth_result result)
{
    switch (result) {
    case AUTH_OK:
        return "";
    case AUTH_TOKEN_MISSING:
        return "TOKEN_MISSING";
    case AUTH_TOKEN_INVALID:
        return "TOKEN_INVALID";
    case AUTH_TOKEN_EXPIRED:
        return "TOKEN_EXPIRED";
    case AUTH_NO_MEMORY:
        break;
    }
    return "OVERLOADED";
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

enum auth_scheme auth_split_header(struct bytes value, struct bytes *credentials)
{
    const char *at = value.data;
    size_t size = value.size;
    while (size > 0 && is_space(at[size - 1])) {
        size--;
    }
    while (size > 0 && is_space(*at)) {
        at++;
        size--;
    }
    size_t scheme = 0;
    while (scheme < size && !is_space(at[scheme])) {
        scheme++;
    }
    size_t start = scheme;
    while (start < size && is_space(at[start])) {
        start++;
    }
    *credentials = (struct bytes){size > 0 ? at + start : "", size - start};
    if (scheme == 0) {
        return AUTH_SCHEME_NONE;
    }
    if (scheme == 6 && strncasecmp(at, "bearer", scheme) == 0) {
        return AUTH_SCHEME_BEARER;
    }
    if (scheme == 5 && strncasecmp(at, "basic", scheme) == 0) {
        return AUTH_SCHEME_BASIC;
    }
    return AUTH_SCHEME_OTHER;
}

static void set_label(struct auth_login *login, struct bytes text)
{
    size_t size = text.size < AUTH_SUBJECT_BYTES_MAX ? text.size : AUTH_SUBJECT_BYTES_MAX;
    const unsigned char *data = text.data;
    for (size_t i = 0; i < size; i++) {
        login->label[i] = (char)(data[i] > ' ' && data[i] < 0x7f ? data[i] : '?');
    }
    login->label[size] = '\0';
}

/* ---- tokens ---- */

static void label_token(struct auth_login *login, const char *kid,
                        const uint8_t digest[AUTH_DIGEST_BYTES])
{
    size_t size = kid == NULL ? 0 : strnlen(kid, AUTH_KID_BYTES_MAX);
    set_label(login, (struct bytes){kid, size});
    snprintf(login->label + size, sizeof(login->label) - size, ":%02x%02x%02x%02x", digest[0],
             digest[1], digest[2], digest[3]);
}

static enum auth_result verify_token(struct auth_rules *rules, const struct token *token,
                                     int64_t now_ms, struct principal **out, const char **reason)
{
    const struct auth_key *key = token->kid == NULL ? NULL : auth_find_key(rules, token->kid);
    if (key == NULL) {
        *reason = token->kid == NULL ? "the header names no key (kid)" : "no key has this kid";
        return AUTH_TOKEN_INVALID;
    }
    if (token_verify(token, key->key, reason) != 0) {
        return AUTH_TOKEN_INVALID;
    }
    struct auth_claims claims;
    enum auth_result result = auth_check_claims(rules, token->claims, now_ms, &claims, reason);
    if (result != AUTH_OK) {
        return result;
    }
    if (principal_create(PRINCIPAL_TOKEN, bytes_of_text(claims.subject), rules, claims.role_bits,
                         claims.expires_ms, out) != 0) {
        *reason = "out of memory";
        return AUTH_NO_MEMORY;
    }
    memcpy((*out)->credential, key->credential, sizeof((*out)->credential));
    return AUTH_OK;
}

enum auth_result auth_verify_bearer(struct auth_rules *rules, struct bytes text, int64_t now_ms,
                                    struct principal **out, struct auth_login *login)
{
    struct auth_login unread;
    login = login != NULL ? login : &unread;
    *login = (struct auth_login){.reason = "no token"};
    if (text.size == 0) {
        return AUTH_TOKEN_MISSING;
    }
    if (text.size > AUTH_TOKEN_BYTES_MAX) { /* before it is hashed */
        login->reason = "is larger than 8 KiB";
        return AUTH_TOKEN_INVALID;
    }
    uint8_t digest[AUTH_DIGEST_BYTES];
    SHA256(text.data, text.size, digest);
    label_token(login, NULL, digest);
    struct principal *known = auth_cache_get(&rules->tokens, digest, now_ms);
    if (known != NULL) {
        login->reason = "";
        *out = known;
        return AUTH_OK;
    }
    struct token *token;
    int rc = token_read(text, &token, &login->reason);
    if (rc != 0) {
        login->reason = rc == ERR_NOMEM ? "out of memory" : login->reason;
        return rc == ERR_NOMEM ? AUTH_NO_MEMORY : AUTH_TOKEN_INVALID;
    }
    label_token(login, token->kid, digest);
    enum auth_result result = verify_token(rules, token, now_ms, out, &login->reason);
    token_destroy(token);
    if (result == AUTH_OK) {
        login->reason = "";
        auth_cache_put(&rules->tokens, digest, *out);
    }
    return result;
}

/* ---- users ---- */

struct name_password {
    struct buf text;
    struct bytes name;
    struct bytes password;
};

static void forget(struct name_password *login)
{
    if (login->text.size > 0) {
        OPENSSL_cleanse(login->text.data, login->text.size);
    }
    buf_finish(&login->text);
}

/* Owes forget() in every case. Errors: ERR_INVALID, ERR_NOMEM. */
static int read_credentials(struct bytes credentials, struct name_password *out)
{
    *out = (struct name_password){0};
    if (credentials.size > CREDENTIALS_TEXT_MAX) {
        return ERR_INVALID;
    }
    /* At once, so that no copy of a password is left behind when the buffer grows. */
    if (buf_extend(&out->text, CREDENTIALS_TEXT_MAX) == NULL) {
        return ERR_NOMEM;
    }
    buf_reset(&out->text);
    int rc = token_decode_base64(credentials, true, &out->text);
    if (rc != 0) {
        return rc;
    }
    const char *text = (const char *)out->text.data;
    const char *colon = out->text.size == 0 ? NULL : memchr(text, ':', out->text.size);
    if (colon == NULL) {
        return ERR_INVALID;
    }
    out->name = (struct bytes){text, (size_t)(colon - text)};
    out->password = (struct bytes){colon + 1, out->text.size - out->name.size - 1};
    bool is_good = auth_is_subject(out->name) && out->password.size <= AUTH_PASSWORD_BYTES_MAX;
    return is_good ? 0 : ERR_INVALID;
}

static void digest_credentials(const struct auth_rules *rules, const struct name_password *login,
                               uint8_t out[AUTH_DIGEST_BYTES])
{
    unsigned size = AUTH_DIGEST_BYTES;
    CHECK(HMAC(EVP_sha256(), rules->secret, sizeof(rules->secret), login->text.data,
               login->text.size, out, &size) != NULL);
}

static struct principal *recall(struct auth_rules *rules, const struct name_password *login,
                                uint8_t digest[AUTH_DIGEST_BYTES])
{
    digest_credentials(rules, login, digest);
    return auth_cache_get(&rules->logins, digest, 0); /* they never expire */
}

bool auth_recall_basic(struct auth_rules *rules, struct bytes credentials, struct principal **out)
{
    struct name_password login;
    uint8_t digest[AUTH_DIGEST_BYTES];
    struct principal *known = NULL;
    if (read_credentials(credentials, &login) == 0) {
        known = recall(rules, &login, digest);
    }
    forget(&login);
    if (known != NULL) {
        *out = known;
    }
    return known != NULL;
}

/* Costs the same whether the user exists or not, so that the time tells no names. */
static enum auth_result check_password(const struct auth_rules *rules, const struct auth_user *user,
                                       struct bytes password, const char **reason)
{
    if (rules->user_count == 0) {
        *reason = "no user may log in with a password";
        return AUTH_TOKEN_INVALID;
    }
    const char *hash = user != NULL ? user->hash : rules->users[0].hash;
    int rc = argon2id_verify(hash, password.data, password.size);
    if (rc == ARGON2_MEMORY_ALLOCATION_ERROR || rc == ARGON2_THREAD_FAIL) {
        *reason = "out of memory";
        return AUTH_NO_MEMORY;
    }
    if (user == NULL || rc != ARGON2_OK) {
        *reason = "wrong name or password";
        return AUTH_TOKEN_INVALID;
    }
    return AUTH_OK;
}

static enum auth_result verify_user(struct auth_rules *rules, const struct name_password *login,
                                    const uint8_t digest[AUTH_DIGEST_BYTES], struct principal **out,
                                    const char **reason)
{
    const struct auth_user *user = auth_find_user(rules, login->name);
    enum auth_result result = check_password(rules, user, login->password, reason);
    if (result != AUTH_OK) {
        return result;
    }
    if (principal_create(PRINCIPAL_USER, login->name, rules, user->role_bits, PRINCIPAL_NEVER,
                         out) != 0) {
        *reason = "out of memory";
        return AUTH_NO_MEMORY;
    }
    memcpy((*out)->credential, user->credential, sizeof((*out)->credential));
    auth_cache_put(&rules->logins, digest, *out);
    return AUTH_OK;
}

enum auth_result auth_verify_basic(struct auth_rules *rules, struct bytes credentials,
                                   struct principal **out, struct auth_login *login)
{
    struct auth_login unread;
    login = login != NULL ? login : &unread;
    *login = (struct auth_login){.reason = "no credentials"};
    if (credentials.size == 0) {
        return AUTH_TOKEN_MISSING;
    }
    struct name_password read;
    enum auth_result result = AUTH_TOKEN_INVALID;
    int rc = read_credentials(credentials, &read);
    if (rc == 0) {
        uint8_t digest[AUTH_DIGEST_BYTES];
        set_label(login, read.name);
        login->reason = "";
        struct principal *known = recall(rules, &read, digest);
        if (known != NULL) {
            *out = known;
            result = AUTH_OK;
        } else {
            result = verify_user(rules, &read, digest, out, &login->reason);
        }
    } else {
        login->reason = rc == ERR_NOMEM ? "out of memory" : "is not base64 of name:password";
        result = rc == ERR_NOMEM ? AUTH_NO_MEMORY : AUTH_TOKEN_INVALID;
    }
    forget(&read);
    return result;
}

/* ---- certificates and other nodes ---- */

static uint64_t roles_of_certificate(const struct auth_rules *rules, struct bytes name)
{
    for (size_t i = 0; i < rules->certificate_count; i++) {
        if (bytes_equal(name, bytes_of_text(rules->certificates[i].name))) {
            return rules->certificates[i].role_bits;
        }
    }
    return 0;
}

enum auth_result auth_from_certificate(struct auth_rules *rules, struct bytes name,
                                       int64_t expires_ms, int64_t now_ms, struct principal **out,
                                       struct auth_login *login)
{
    struct auth_login unread;
    login = login != NULL ? login : &unread;
    *login = (struct auth_login){.reason = ""};
    set_label(login, name);
    if (!auth_is_subject(name)) {
        login->reason = "the name is empty, longer than 256 bytes or not printable";
        return AUTH_TOKEN_INVALID;
    }
    if (now_ms >= expires_ms) {
        login->reason = "has expired";
        return AUTH_TOKEN_EXPIRED;
    }
    if (principal_create(PRINCIPAL_CERTIFICATE, name, rules, roles_of_certificate(rules, name),
                         expires_ms, out) != 0) {
        login->reason = "out of memory";
        return AUTH_NO_MEMORY;
    }
    return AUTH_OK;
}

int auth_from_forward(struct auth_rules *rules, struct bytes subject, const struct bytes *roles,
                      size_t role_count, struct principal **out)
{
    uint64_t bits = 0;
    if (!auth_is_subject(subject)) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < role_count; i++) {
        int role = auth_find_role(rules, roles[i]);
        bits |= role < 0 ? 0 : UINT64_C(1) << role;
    }
    return principal_create(PRINCIPAL_FORWARDED, subject, rules, bits, PRINCIPAL_NEVER, out);
}

/* ---- once more ---- */

static bool is_key_kept(const struct auth_rules *rules, const struct principal *principal)
{
    for (size_t i = 0; i < rules->key_count; i++) {
        if (memcmp(rules->keys[i].credential, principal->credential, AUTH_DIGEST_BYTES) == 0) {
            return true;
        }
    }
    return false;
}

static uint64_t roles_by_name(const struct auth_rules *rules, const struct principal *principal)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < principal->role_count; i++) {
        int role = auth_find_role(rules, bytes_of_text(principal->roles[i]));
        bits |= role < 0 ? 0 : UINT64_C(1) << role;
    }
    return bits;
}

/* False: these rules do not accept the credential. */
static bool find_roles(const struct auth_rules *rules, const struct principal *principal,
                       uint64_t *out)
{
    const struct auth_user *user;
    switch (principal->kind) {
    case PRINCIPAL_TOKEN:
        *out = roles_by_name(rules, principal);
        return is_key_kept(rules, principal);
    case PRINCIPAL_USER:
        user = auth_find_user(rules, bytes_of_text(principal->subject));
        *out = user == NULL ? 0 : user->role_bits;
        return user != NULL &&
               memcmp(user->credential, principal->credential, AUTH_DIGEST_BYTES) == 0;
    case PRINCIPAL_CERTIFICATE:
        *out = roles_of_certificate(rules, bytes_of_text(principal->subject));
        return true;
    case PRINCIPAL_FORWARDED:
        break;
    }
    *out = roles_by_name(rules, principal);
    return true;
}

enum auth_result auth_recheck(struct auth_rules *rules, struct principal *principal, int64_t now_ms,
                              struct principal **out)
{
    if (principal_is_expired(principal, now_ms)) {
        return AUTH_TOKEN_EXPIRED;
    }
    if (principal->generation == rules->generation) {
        *out = principal_keep(principal);
        return AUTH_OK;
    }
    uint64_t bits;
    if (!find_roles(rules, principal, &bits)) {
        return AUTH_TOKEN_INVALID;
    }
    if (principal_create(principal->kind, bytes_of_text(principal->subject), rules, bits,
                         principal->expires_ms, out) != 0) {
        return AUTH_NO_MEMORY;
    }
    memcpy((*out)->credential, principal->credential, sizeof((*out)->credential));
    return AUTH_OK;
}
