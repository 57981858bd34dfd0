/* What a client shows for who it is, from any bytes: a header, a token, a name with a password, and
 * claims whose signature was right. Nothing gets in without a key's signature, and whatever the
 * claims say, what comes out is within its bounds. */
#include "auth/auth_internal.h"
#include "base/check.h"
#include "base/clock.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOW_MS INT64_C(1800000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of a P-256 key whose private part nobody has. */
static const char public_key[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEkXL7nfc52fihRRQdlWm65laXek5d\n"
    "HpKOTosZ/GtC7FjhBg3BYMXsRlK1RASWuKl570P/Ps4/kRCmsKZAJMuz9g==\n"
    "-----END PUBLIC KEY-----\n";

static struct auth_rules *open_rules(void)
{
    char dir[] = "/tmp/token_fuzz-XXXXXX";
    char path[64];
    char error[AUTH_ERROR_BYTES_MAX];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/k.pem", dir);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL);
    fputs(public_key, file);
    CHECK(fchmod(fileno(file), 0600) == 0);
    CHECK(fclose(file) == 0);
    struct auth_settings *settings = calloc(1, sizeof(*settings));
    CHECK(settings != NULL);
    settings->mode = AUTH_MODE_REQUIRED;
    strcpy(settings->jwt.keys_dir, dir);
    strcpy(settings->jwt.audience, "raftogram");
    settings->jwt.clock_skew_ns = 30 * NS_PER_S;
    settings->jwt.max_lifetime_ns = 24 * 3600 * NS_PER_S;
    strcpy(settings->roles[0].name, "member");
    strcpy(settings->roles[1].name, "admin");
    settings->role_count = 2;
    struct auth *auth;
    CHECK(auth_open(settings, &auth, error, sizeof(error)) == 0);
    CHECK(unlink(path) == 0);
    CHECK(rmdir(dir) == 0);
    free(settings);
    struct auth_rules *rules = auth_acquire(auth);
    auth_close(auth);
    return rules;
}

static void fuzz_token(struct auth_rules *rules, struct bytes text)
{
    struct principal *principal = NULL;
    struct auth_login login;
    enum auth_result result = auth_verify_bearer(rules, text, NOW_MS, &principal, &login);
    CHECK(result == (text.size == 0 ? AUTH_TOKEN_MISSING : AUTH_TOKEN_INVALID));
    CHECK(principal == NULL);
    CHECK(login.reason[0] != '\0');
    CHECK(strlen(login.label) < sizeof(login.label));
    for (const char *at = login.label; *at != '\0'; at++) {
        CHECK(*at > ' ');
        CHECK(*at < 0x7f);
    }
    struct token *token;
    const char *reason = NULL;
    int rc = token_read(text, &token, &reason);
    CHECK(rc == 0 || rc == ERR_INVALID);
    if (rc != 0) {
        CHECK(reason != NULL);
        return;
    }
    CHECK(token->signed_size < token->size);
    CHECK(token->size == text.size);
    char *header = token_header_text(token);
    char *claims = token_claims_text(token);
    CHECK(header != NULL && claims != NULL);
    free(header);
    free(claims);
    token_destroy(token);
}

static void fuzz_claims(const struct auth_rules *rules, struct bytes text)
{
    json_t *json = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
    if (json == NULL) {
        return;
    }
    struct auth_claims claims;
    const char *reason = NULL;
    enum auth_result result = auth_check_claims(rules, json, NOW_MS, &claims, &reason);
    CHECK(reason != NULL);
    if (result == AUTH_OK) {
        CHECK(reason[0] == '\0');
        CHECK(auth_is_subject(bytes_of_text(claims.subject)));
        CHECK(claims.role_bits <= 3);
        CHECK(claims.expires_ms > NOW_MS);
        CHECK(claims.expires_ms <= NOW_MS + INT64_C(1000) * (24 * 3600 + 3 * 30));
    } else {
        CHECK(result == AUTH_TOKEN_INVALID || result == AUTH_TOKEN_EXPIRED);
        CHECK(reason[0] != '\0');
    }
    json_decref(json);
}

static void fuzz_header(struct auth_rules *rules, struct bytes value)
{
    struct bytes rest;
    enum auth_scheme scheme = auth_split_header(value, &rest);
    CHECK(rest.size <= value.size);
    CHECK(scheme != AUTH_SCHEME_NONE || rest.size == 0);
    /* Reads the credentials, and never computes a hash. */
    struct principal *principal = NULL;
    CHECK(!auth_recall_basic(rules, rest, &principal));
    struct buf decoded = {0};
    (void)token_decode_base64(value, true, &decoded);
    CHECK(decoded.size <= value.size);
    buf_finish(&decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct auth_rules *rules;
    if (rules == NULL) {
        rules = open_rules();
    }
    struct bytes text = {data, size};
    fuzz_token(rules, text);
    fuzz_claims(rules, text);
    fuzz_header(rules, text);
    return 0;
}
