/* What the tests of auth share: a directory with keys, settings, and tokens good and bad. */
#ifndef RAFTOGRAM_TESTS_AUTH_TESTING_H
#define RAFTOGRAM_TESTS_AUTH_TESTING_H

#include "auth/auth.h"
#include "auth/token.h"
#include "base/clock.h"
#include "base/errors.h"
#include "lib/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <argon2.h>
#include <dirent.h>
#include <inttypes.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOW_S INT64_C(1800000000)
#define NOW_MS (NOW_S * 1000)
#define SKEW_S 30
#define LIFETIME_S (24 * 3600)

static char dir[128];
static char error[AUTH_ERROR_BYTES_MAX];

enum key_kind { KEY_EC, KEY_RSA, KEY_ED, KEY_P384, KEY_RSA_SHORT };

struct pem {
    char public[4096];
    char private[8192];
};

static inline EVP_PKEY *make_key(enum key_kind kind)
{
    switch (kind) {
    case KEY_EC:
        return EVP_EC_gen("P-256");
    case KEY_P384:
        return EVP_EC_gen("P-384");
    case KEY_RSA:
        return EVP_RSA_gen(2048);
    case KEY_RSA_SHORT:
        return EVP_RSA_gen(1024);
    case KEY_ED:
        break;
    }
    return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

static inline void read_bio(BIO *bio, char *out, size_t size)
{
    char *data;
    long length = BIO_get_mem_data(bio, &data);
    assert_in_range(length, 1, size - 1);
    memcpy(out, data, (size_t)length);
    out[length] = '\0';
    BIO_free(bio);
}

static inline struct pem make_pem(enum key_kind kind)
{
    struct pem pem;
    EVP_PKEY *key = make_key(kind);
    assert_non_null(key);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    read_bio(bio, pem.public, sizeof(pem.public));
    bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    read_bio(bio, pem.private, sizeof(pem.private));
    EVP_PKEY_free(key);
    return pem;
}

static inline void write_file(const char *name, const char *text, mode_t mode)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static inline void remove_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(unlink(path), 0);
}

static inline void remove_dir(const char *path)
{
    DIR *opened = opendir(path);
    assert_non_null(opened);
    struct dirent *entry;
    while ((entry = readdir(opened)) != NULL) {
        char name[1024];
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            assert_int_equal(remove(name), 0);
        }
    }
    closedir(opened);
    assert_int_equal(rmdir(path), 0);
}

static inline void add_role(struct auth_settings *settings, const char *name)
{
    strcpy(settings->roles[settings->role_count++].name, name);
}

static inline void add_pattern(struct auth_settings *settings, bool is_key, const char *text,
                               uint32_t rights)
{
    struct auth_role *role = &settings->roles[settings->role_count - 1];
    struct auth_pattern *pattern =
        is_key ? &role->kv[role->kv_count++] : &role->channels[role->channel_count++];
    strcpy(pattern->text, text);
    pattern->rights = rights;
}

/* The roles of section 17 of the contract; keys in `dir`. The caller's, for free(). */
static inline struct auth_settings *make_settings(void)
{
    struct auth_settings *settings = calloc(1, sizeof(*settings));
    assert_non_null(settings);
    settings->mode = AUTH_MODE_REQUIRED;
    strcpy(settings->jwt.keys_dir, dir);
    strcpy(settings->jwt.audience, "raftogram");
    settings->jwt.clock_skew_ns = SKEW_S * NS_PER_S;
    settings->jwt.max_lifetime_ns = LIFETIME_S * NS_PER_S;
    add_role(settings, "member");
    add_pattern(settings, false, "team-*", AUTH_READ | AUTH_SEND);
    add_pattern(settings, false, "general", AUTH_READ | AUTH_SEND);
    add_role(settings, "service");
    add_pattern(settings, false, "*", AUTH_READ | AUTH_SEND | AUTH_CREATE | AUTH_SEND_AS);
    add_pattern(settings, true, "app/*", AUTH_KV_READ | AUTH_KV_WRITE);
    add_role(settings, "admin");
    add_pattern(settings, false, "*", 0x3f);
    add_pattern(settings, true, "*", AUTH_KV_READ | AUTH_KV_WRITE);
    settings->roles[2].cluster = AUTH_STATUS | AUTH_OPERATE | AUTH_BACKUP;
    return settings;
}

static inline struct auth *open_auth(const struct auth_settings *settings)
{
    struct auth *auth = NULL;
    if (auth_open(settings, &auth, error, sizeof(error)) != 0) {
        fail_msg("%s", error);
    }
    return auth;
}

static inline void expect_refused(const struct auth_settings *settings, int rc, const char *text)
{
    struct auth *auth = NULL;
    assert_int_equal(auth_open(settings, &auth, error, sizeof(error)), rc);
    assert_null(auth);
    if (strstr(error, text) == NULL) {
        assert_string_equal(error, text);
    }
}

/* Of a static buffer; signed with the key, kid given. */
static inline const char *sign_with(const struct pem *pem, const char *kid, const char *claims)
{
    static char out[16384];
    struct token_key *key;
    const char *reason = "";
    if (token_key_read_private(bytes_of_text(pem->private), &key, &reason) != 0) {
        fail_msg("%s", reason);
    }
    struct buf text = {0};
    assert_int_equal(token_sign(key, kid, claims, &text), 0);
    assert_in_range(text.size, 1, sizeof(out) - 1);
    strcpy(out, buf_text(&text));
    buf_finish(&text);
    token_key_destroy(key);
    return out;
}

/* Claims that are right at NOW_S, with `more` behind them (", \"a\": 1") and these times. */
static inline const char *claims_at(int64_t exp, const char *more)
{
    static char out[12000];
    snprintf(out, sizeof(out),
             "{\"sub\":\"alice\",\"aud\":\"raftogram\",\"roles\":[\"member\"],\"exp\":%" PRId64
             "%s}",
             exp, more);
    return out;
}

static inline void append_base64url(char *out, const void *data, size_t size)
{
    char text[16384];
    int length = EVP_EncodeBlock((unsigned char *)text, data, (int)size);
    while (length > 0 && text[length - 1] == '=') {
        length--;
    }
    for (int i = 0; i < length; i++) {
        text[i] = (char)(text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    }
    strncat(out, text, (size_t)length);
}

/* A token with any header and claims; `hmac_key` may be NULL for an empty signature. */
static inline const char *forge(const char *header, const char *claims, const char *hmac_key)
{
    static char out[16384];
    out[0] = '\0';
    append_base64url(out, header, strlen(header));
    strcat(out, ".");
    append_base64url(out, claims, strlen(claims));
    unsigned char mac[32];
    unsigned size = 0;
    if (hmac_key != NULL) {
        HMAC(EVP_sha256(), hmac_key, (int)strlen(hmac_key), (const unsigned char *)out, strlen(out),
             mac, &size);
    }
    strcat(out, ".");
    append_base64url(out, mac, size);
    return out;
}

static inline enum auth_result verify(struct auth *auth, const char *token, int64_t now_ms,
                                      struct principal **out, struct auth_login *login)
{
    struct auth_rules *rules = auth_acquire(auth);
    enum auth_result result = auth_verify_bearer(rules, bytes_of_text(token), now_ms, out, login);
    auth_release(rules);
    return result;
}

static inline void expect_token(struct auth *auth, const char *token, enum auth_result expected,
                                const char *reason)
{
    struct principal *principal = NULL;
    struct auth_login login;
    enum auth_result result = verify(auth, token, NOW_MS, &principal, &login);
    if (result != expected || strstr(login.reason, reason) == NULL) {
        fail_msg("result %d, expected %d; reason \"%s\", expected \"%s\"", result, expected,
                 login.reason, reason);
    }
    assert_int_equal(principal != NULL, expected == AUTH_OK);
    principal_drop(principal);
}

/* Cheap: a test is not about the cost. */
static inline const char *hash_password(const char *password)
{
    static char out[256];
    assert_int_equal(argon2id_hash_encoded(1, 64, 1, password, strlen(password), "saltsalt", 8, 32,
                                           out, sizeof(out)),
                     ARGON2_OK);
    return out;
}

static inline const char *basic(const char *name_password)
{
    static char out[4096];
    EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)name_password,
                    (int)strlen(name_password));
    return out;
}

#endif
