/* Tests of tokens: algorithms, claims, times. */
#include "auth_testing.h"

static struct pem ec;
static struct pem rsa;
static struct pem ed;
static struct auth_settings *settings;
static struct auth *auth;

static int make_all(void **state)
{
    scratch_make_dir(dir, sizeof(dir), "auth");
    ec = make_pem(KEY_EC);
    rsa = make_pem(KEY_RSA);
    ed = make_pem(KEY_ED);
    write_file("ec.pem", ec.public, 0600);
    write_file("rsa.pem", rsa.public, 0640);
    write_file("ed.pem", ed.public, 0400);
    write_file("notes.txt", "no key", 0666);
    settings = make_settings();
    return 0;
}

static int drop_all(void **state)
{
    free(settings);
    remove_dir(dir);
    return 0;
}

static int open_one(void **state)
{
    auth = open_auth(settings);
    return 0;
}

static int close_one(void **state)
{
    auth_close(auth);
    return 0;
}

static const char *good_claims(void)
{
    return claims_at(NOW_S + 3600, "");
}

static void test_a_token_of_each_kind_of_key_says_who_it_is(void **state)
{
    const struct pem *keys[] = {&ec, &rsa, &ed};
    const char *kids[] = {"ec", "rsa", "ed"};
    for (size_t i = 0; i < 3; i++) {
        struct principal *principal = NULL;
        struct auth_login login;
        const char *token = sign_with(keys[i], kids[i], good_claims());
        assert_int_equal(verify(auth, token, NOW_MS, &principal, &login), AUTH_OK);
        assert_string_equal(login.reason, "");
        assert_int_equal(strncmp(login.label, kids[i], strlen(kids[i])), 0);
        assert_int_equal(strlen(login.label), strlen(kids[i]) + 9);
        assert_string_equal(principal->subject, "alice");
        assert_int_equal(principal->kind, PRINCIPAL_TOKEN);
        assert_int_equal(principal->role_count, 1);
        assert_string_equal(principal->roles[0], "member");
        assert_true(principal->expires_ms == (NOW_S + 3600 + SKEW_S) * 1000);
        assert_int_equal(principal->generation, 1);
        principal_drop(principal);
    }
}

static void test_no_token_is_missing(void **state)
{
    expect_token(auth, "", AUTH_TOKEN_MISSING, "no token");
}

static void test_a_token_without_signature_is_invalid(void **state)
{
    const char *const headers[] = {
        "{\"alg\":\"none\",\"kid\":\"ec\"}",
        "{\"alg\":\"None\",\"kid\":\"ec\"}",
        "{\"alg\":\"NONE\",\"kid\":\"ed\"}",
        "{\"alg\":\"\",\"kid\":\"rsa\"}",
        "{\"alg\":\"none\",\"typ\":\"JWT\"}",
        "{\"alg\":null,\"kid\":\"ec\"}",
        "{\"kid\":\"ec\"}",
        "{\"alg\":\"ES256\",\"kid\":\"ec\"}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
        "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}",
        "{\"alg\":[\"none\"],\"kid\":\"ec\"}",
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        expect_token(auth, forge(headers[i], good_claims(), NULL), AUTH_TOKEN_INVALID, "");
    }
}

static void test_a_public_key_is_no_secret(void **state)
{
    const struct pem *keys[] = {&ec, &rsa, &ed};
    const char *kids[] = {"ec", "rsa", "ed"};
    for (size_t i = 0; i < 3; i++) {
        char header[64];
        snprintf(header, sizeof(header), "{\"alg\":\"HS256\",\"kid\":\"%s\"}", kids[i]);
        expect_token(auth, forge(header, good_claims(), keys[i]->public), AUTH_TOKEN_INVALID,
                     "algorithm is not that of the key");
        snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"%s\"}",
                 i == 0   ? "ES256"
                 : i == 1 ? "RS256"
                          : "EdDSA",
                 kids[i]);
        expect_token(auth, forge(header, good_claims(), keys[i]->public), AUTH_TOKEN_INVALID,
                     "signature is wrong");
    }
}

static void test_a_token_of_another_key_is_invalid(void **state)
{
    struct pem other = make_pem(KEY_EC);
    struct pem other_ed = make_pem(KEY_ED);
    expect_token(auth, sign_with(&other, "ec", good_claims()), AUTH_TOKEN_INVALID, "signature");
    expect_token(auth, sign_with(&other_ed, "ed", good_claims()), AUTH_TOKEN_INVALID, "signature");
    /* A right signature, but the kid names a key of another kind. */
    expect_token(auth, sign_with(&ec, "rsa", good_claims()), AUTH_TOKEN_INVALID, "algorithm");
    expect_token(auth, sign_with(&rsa, "ec", good_claims()), AUTH_TOKEN_INVALID, "algorithm");
    expect_token(auth, sign_with(&ec, "ed", good_claims()), AUTH_TOKEN_INVALID, "algorithm");
}

static void test_a_kid_names_a_key_and_never_a_path(void **state)
{
    expect_token(auth, sign_with(&ec, NULL, good_claims()), AUTH_TOKEN_INVALID, "names no key");
    expect_token(auth, sign_with(&ec, "", good_claims()), AUTH_TOKEN_INVALID, "no key has");
    expect_token(auth, sign_with(&ec, "./ec", good_claims()), AUTH_TOKEN_INVALID, "no key has");
    expect_token(auth, sign_with(&ec, "../x/ec", good_claims()), AUTH_TOKEN_INVALID, "no key has");
    expect_token(auth, sign_with(&ec, "ec.pem", good_claims()), AUTH_TOKEN_INVALID, "no key has");
    expect_token(auth, sign_with(&ec, "EC", good_claims()), AUTH_TOKEN_INVALID, "no key has");
    expect_token(auth, forge("{\"alg\":\"ES256\",\"kid\":1}", good_claims(), "x"),
                 AUTH_TOKEN_INVALID, "names no key");
}

static void test_one_changed_bit_is_noticed(void **state)
{
    char token[16384];
    strcpy(token, sign_with(&ec, "ec", good_claims()));
    size_t size = strlen(token);
    for (size_t i = 0; i < size; i++) {
        char kept = token[i];
        token[i] = (char)(kept == 'A' ? 'B' : 'A');
        struct principal *principal = NULL;
        assert_int_equal(verify(auth, token, NOW_MS, &principal, NULL), AUTH_TOKEN_INVALID);
        token[i] = kept;
    }
    expect_token(auth, token, AUTH_OK, "");
}

static void test_what_is_no_token_is_invalid(void **state)
{
    const char *const texts[] = {
        "a",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c.d",
        "e30.e30.",
        "e30=.e30.AAAA",
        "bnVsbA.e30.AAAA",
        "W10.e30.AAAA",
        "eyJhbGciOiJFUzI1NiJ9.bnVsbA.AAAA",
        "eyJhbGciOiJFUzI1NiJ9.e30.A",
        "eyJhbGciOiJFUzI1NiJ9.e30.A A",
        " ",
        "Bearer x",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        expect_token(auth, texts[i], AUTH_TOKEN_INVALID, "");
    }
    expect_token(auth, forge("{\"alg\":\"ES256\",\"alg\":\"none\",\"kid\":\"ec\"}", "{}", "x"),
                 AUTH_TOKEN_INVALID, "header");
    expect_token(auth, forge("{\"alg\":\"ES256\",\"kid\":\"ec\",\"crit\":[\"b64\"]}", "{}", "x"),
                 AUTH_TOKEN_INVALID, "critical");
    struct auth_rules *rules = auth_acquire(auth);
    struct principal *principal = NULL;
    assert_int_equal(auth_verify_bearer(rules, (struct bytes){"a\0b", 3}, NOW_MS, &principal, NULL),
                     AUTH_TOKEN_INVALID);
    auth_release(rules);
}

static void test_a_token_of_another_type_is_refused_by_name(void **state)
{
    expect_token(auth, forge("{\"alg\":\"ES256\",\"kid\":\"ec\",\"typ\":\"at+jwt\"}", "{}", "x"),
                 AUTH_TOKEN_INVALID, "typ is not JWT");
}

static void test_a_huge_token_is_invalid(void **state)
{
    char more[9000];
    int size = snprintf(more, sizeof(more), ",\"pad\":\"");
    memset(more + size, 'x', 7000);
    strcpy(more + size + 7000, "\"");
    const char *token = sign_with(&ec, "ec", claims_at(NOW_S + 60, more));
    assert_in_range(strlen(token), AUTH_TOKEN_BYTES_MAX + 1, 16000);
    expect_token(auth, token, AUTH_TOKEN_INVALID, "larger than 8 KiB");
    strcpy(more + size + 4000, "\"");
    token = sign_with(&ec, "ec", claims_at(NOW_S + 60, more));
    assert_in_range(strlen(token), 5000, AUTH_TOKEN_BYTES_MAX);
    expect_token(auth, token, AUTH_OK, "");
}

static void test_it_ends_at_exp_and_the_clock_skew(void **state)
{
    struct principal *principal = NULL;
    char token[4096];
    strcpy(token, sign_with(&ec, "ec", claims_at(NOW_S, "")));
    assert_int_equal(verify(auth, token, NOW_MS + SKEW_S * 1000 - 1, &principal, NULL), AUTH_OK);
    assert_false(principal_is_expired(principal, NOW_MS + SKEW_S * 1000 - 1));
    assert_true(principal_is_expired(principal, NOW_MS + SKEW_S * 1000));
    principal_drop(principal);
    /* It is remembered by now, and ends all the same. */
    assert_int_equal(verify(auth, token, NOW_MS + SKEW_S * 1000, &principal, NULL),
                     AUTH_TOKEN_EXPIRED);
    expect_token(auth, sign_with(&rsa, "rsa", claims_at(NOW_S - SKEW_S, "")), AUTH_TOKEN_EXPIRED,
                 "has expired");
    expect_token(auth, sign_with(&rsa, "rsa", claims_at(0, "")), AUTH_TOKEN_EXPIRED, "expired");
}

static void test_an_expired_token_that_is_also_wrong_is_invalid(void **state)
{
    struct pem other = make_pem(KEY_EC);
    expect_token(auth, sign_with(&other, "ec", claims_at(NOW_S - 999, "")), AUTH_TOKEN_INVALID,
                 "signature");
    expect_token(auth, sign_with(&ec, "ec", "{\"sub\":\"a\",\"exp\":1,\"aud\":\"x\"}"),
                 AUTH_TOKEN_INVALID, "aud");
}

static void test_exp_is_required_and_a_time(void **state)
{
    const char *const claims[] = {
        "{\"sub\":\"a\",\"aud\":\"raftogram\"}",
        "{\"sub\":\"a\",\"aud\":\"raftogram\",\"exp\":null}",
        "{\"sub\":\"a\",\"aud\":\"raftogram\",\"exp\":\"1800000100\"}",
        "{\"sub\":\"a\",\"aud\":\"raftogram\",\"exp\":-1}",
        "{\"sub\":\"a\",\"aud\":\"raftogram\",\"exp\":9223372036854775807}",
        "{\"sub\":\"a\",\"aud\":\"raftogram\",\"exp\":1e300}",
        "{\"sub\":\"a\",\"aud\":\"raftogram\",\"exp\":true}",
    };
    for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        expect_token(auth, sign_with(&ec, "ec", claims[i]), AUTH_TOKEN_INVALID, "exp");
    }
    expect_token(auth,
                 sign_with(&ec, "ec", "{\"sub\":\"a\",\"aud\":\"raftogram\",\"exp\":1800000100.5}"),
                 AUTH_OK, "");
}

static const char *with(const char *format, int64_t value)
{
    static char out[128];
    snprintf(out, sizeof(out), "%s%" PRId64, format, value);
    return out;
}

static void test_it_does_not_begin_before_nbf(void **state)
{
    const char *more = with(",\"nbf\":", NOW_S + SKEW_S + 1);
    expect_token(auth, sign_with(&ec, "ec", claims_at(NOW_S + 60, more)), AUTH_TOKEN_INVALID,
                 "not valid yet");
    more = with(",\"nbf\":", NOW_S + SKEW_S);
    expect_token(auth, sign_with(&ec, "ec", claims_at(NOW_S + 60, more)), AUTH_OK, "");
    expect_token(auth, sign_with(&ec, "ec", claims_at(NOW_S + 60, ",\"nbf\":\"x\"")),
                 AUTH_TOKEN_INVALID, "not a time");
}

static void test_it_was_not_issued_in_the_future(void **state)
{
    const char *more = with(",\"iat\":", NOW_S + SKEW_S + 1);
    expect_token(auth, sign_with(&ec, "ec", claims_at(NOW_S + 60, more)), AUTH_TOKEN_INVALID,
                 "in the future");
    more = with(",\"iat\":", NOW_S + SKEW_S);
    expect_token(auth, sign_with(&ec, "ec", claims_at(NOW_S + 60, more)), AUTH_OK, "");
}

static void test_it_lives_no_longer_than_max_lifetime(void **state)
{
    expect_token(auth, sign_with(&ec, "ec", claims_at(NOW_S + LIFETIME_S, "")), AUTH_OK, "");
    expect_token(auth, sign_with(&ec, "ec", claims_at(NOW_S + LIFETIME_S + SKEW_S + 1, "")),
                 AUTH_TOKEN_INVALID, "max_lifetime");
    const char *more = with(",\"iat\":", NOW_S - LIFETIME_S);
    expect_token(auth, sign_with(&ec, "ec", claims_at(NOW_S + 1, more)), AUTH_TOKEN_INVALID,
                 "max_lifetime");
    expect_token(auth, sign_with(&ec, "ec", claims_at(NOW_S, more)), AUTH_OK, "");
}

static void test_the_audience_is_ours(void **state)
{
    const char *const good[] = {"\"raftogram\"", "[\"raftogram\"]", "[\"x\",\"raftogram\"]"};
    const char *const bad[] = {"\"x\"", "\"raftogram2\"",   "\"\"", "[]", "[\"x\"]", "{}",
                               "null",  "[[\"raftogram\"]]"};
    char claims[256];
    for (size_t i = 0; i < 3; i++) {
        snprintf(claims, sizeof(claims), "{\"sub\":\"a\",\"exp\":1800000100,\"aud\":%s}", good[i]);
        expect_token(auth, sign_with(&ec, "ec", claims), AUTH_OK, "");
    }
    for (size_t i = 0; i < 8; i++) {
        snprintf(claims, sizeof(claims), "{\"sub\":\"a\",\"exp\":1800000100,\"aud\":%s}", bad[i]);
        expect_token(auth, sign_with(&ec, "ec", claims), AUTH_TOKEN_INVALID, "aud");
    }
    expect_token(auth, sign_with(&ec, "ec", "{\"sub\":\"a\",\"exp\":1800000100}"),
                 AUTH_TOKEN_INVALID, "aud");
}

static void test_issuer_and_audience_are_asked_only_where_configured(void **state)
{
    strcpy(settings->jwt.issuer, "https://id.example");
    settings->jwt.audience[0] = '\0';
    struct auth *other = open_auth(settings);
    settings->jwt.issuer[0] = '\0';
    strcpy(settings->jwt.audience, "raftogram");
    expect_token(other, sign_with(&ec, "ec", "{\"sub\":\"a\",\"exp\":1800000100}"),
                 AUTH_TOKEN_INVALID, "iss");
    expect_token(other,
                 sign_with(&ec, "ec", "{\"sub\":\"a\",\"exp\":1800000100,\"iss\":\"https://x\"}"),
                 AUTH_TOKEN_INVALID, "iss");
    expect_token(
        other,
        sign_with(&ec, "ec", "{\"sub\":\"a\",\"exp\":1800000100,\"iss\":[\"https://id.example\"]}"),
        AUTH_TOKEN_INVALID, "iss");
    expect_token(
        other,
        sign_with(&ec, "ec", "{\"sub\":\"a\",\"exp\":1800000100,\"iss\":\"https://id.example\"}"),
        AUTH_OK, "");
    auth_close(other);
}

static void test_the_subject_is_a_printable_name(void **state)
{
    const char *const bad[] = {"null", "\"\"", "1", "\"a\\nb\"", "\"\\u202e\"", "[\"a\"]"};
    char claims[512];
    for (size_t i = 0; i < 6; i++) {
        snprintf(claims, sizeof(claims), "{\"exp\":1800000100,\"aud\":\"raftogram\",\"sub\":%s}",
                 bad[i]);
        expect_token(auth, sign_with(&ec, "ec", claims), AUTH_TOKEN_INVALID, "sub");
    }
    char name[258];
    memset(name, 'n', 257);
    name[257] = '\0';
    snprintf(claims, sizeof(claims), "{\"exp\":1800000100,\"aud\":\"raftogram\",\"sub\":\"%s\"}",
             name);
    expect_token(auth, sign_with(&ec, "ec", claims), AUTH_TOKEN_INVALID, "sub");
    expect_token(auth, sign_with(&ec, "ec", "{\"exp\":1800000100,\"aud\":\"raftogram\"}"),
                 AUTH_TOKEN_INVALID, "sub");
}

static void test_unknown_roles_are_ignored_and_no_roles_are_allowed(void **state)
{
    struct principal *principal = NULL;
    const char *token = sign_with(&ec, "ec",
                                  "{\"sub\":\"a\",\"exp\":1800000100,\"aud\":\"raftogram\","
                                  "\"roles\":[\"x\",\"admin\",\"admin\",\"member\",\"\"]}");
    assert_int_equal(verify(auth, token, NOW_MS, &principal, NULL), AUTH_OK);
    assert_int_equal(principal->role_count, 2);
    assert_string_equal(principal->roles[0], "member");
    assert_string_equal(principal->roles[1], "admin");
    principal_drop(principal);
    token = sign_with(&ec, "ec", "{\"sub\":\"a\",\"exp\":1800000100,\"aud\":\"raftogram\"}");
    assert_int_equal(verify(auth, token, NOW_MS, &principal, NULL), AUTH_OK);
    assert_int_equal(principal->role_count, 0);
    principal_drop(principal);
    const char *const bad[] = {"\"admin\"", "{}", "[1]", "[\"admin\",null]", "null"};
    char claims[256];
    for (size_t i = 0; i < 5; i++) {
        snprintf(claims, sizeof(claims),
                 "{\"sub\":\"a\",\"exp\":1800000100,\"aud\":\"raftogram\",\"roles\":%s}", bad[i]);
        expect_token(auth, sign_with(&ec, "ec", claims), AUTH_TOKEN_INVALID, "roles");
    }
}

static void test_a_verified_token_is_remembered(void **state)
{
    struct principal *first = NULL;
    struct principal *second = NULL;
    const char *token = sign_with(&rsa, "rsa", good_claims());
    assert_int_equal(verify(auth, token, NOW_MS, &first, NULL), AUTH_OK);
    assert_int_equal(verify(auth, token, NOW_MS, &second, NULL), AUTH_OK);
    assert_ptr_equal(first, second);
    principal_drop(first);
    principal_drop(second);
}

static void test_more_tokens_than_are_remembered_are_all_right(void **state)
{
    char claims[128];
    struct token_key *key;
    const char *reason;
    struct principal *first = NULL;
    assert_int_equal(token_key_read_private(bytes_of_text(ed.private), &key, &reason), 0);
    for (int i = 0; i < AUTH_TOKENS_CACHED_MAX + 50; i++) {
        struct buf token = {0};
        struct principal *principal = NULL;
        snprintf(claims, sizeof(claims),
                 "{\"sub\":\"a%d\",\"aud\":\"raftogram\",\"exp\":1800000100}", i);
        assert_int_equal(token_sign(key, "ed", claims, &token), 0);
        assert_int_equal(verify(auth, buf_text(&token), NOW_MS, &principal, NULL), AUTH_OK);
        if (i == 0) {
            first = principal_keep(principal);
        }
        principal_drop(principal);
        buf_finish(&token);
    }
    /* Ours is the only reference: the least recently used one made room. */
    assert_int_equal(first->references, 1);
    principal_drop(first);
    token_key_destroy(key);
}

static void test_a_header_is_split_into_scheme_and_credentials(void **state)
{
    struct bytes rest;
    assert_int_equal(auth_split_header(bytes_of_text("Bearer abc"), &rest), AUTH_SCHEME_BEARER);
    assert_true(bytes_equal(rest, bytes_of_text("abc")));
    assert_int_equal(auth_split_header(bytes_of_text(" bEARER   a.b "), &rest), AUTH_SCHEME_BEARER);
    assert_true(bytes_equal(rest, bytes_of_text("a.b")));
    assert_int_equal(auth_split_header(bytes_of_text("Basic eA=="), &rest), AUTH_SCHEME_BASIC);
    assert_true(bytes_equal(rest, bytes_of_text("eA==")));
    assert_int_equal(auth_split_header(bytes_of_text("Bearer"), &rest), AUTH_SCHEME_BEARER);
    assert_int_equal(rest.size, 0);
    assert_int_equal(auth_split_header(bytes_of_text("  "), &rest), AUTH_SCHEME_NONE);
    assert_int_equal(auth_split_header((struct bytes){NULL, 0}, &rest), AUTH_SCHEME_NONE);
    assert_int_equal(auth_split_header(bytes_of_text("Digest x"), &rest), AUTH_SCHEME_OTHER);
    assert_int_equal(auth_split_header(bytes_of_text("BearerX y"), &rest), AUTH_SCHEME_OTHER);
}

static void test_a_label_holds_nothing_that_breaks_a_line(void **state)
{
    struct auth_login login;
    struct principal *principal = NULL;
    const char *token = forge("{\"alg\":\"ES256\",\"kid\":\"a\\nb\\u001b c\"}", "{}", "x");
    assert_int_equal(verify(auth, token, NOW_MS, &principal, &login), AUTH_TOKEN_INVALID);
    assert_int_equal(strncmp(login.label, "a?b??c:", 7), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_one, close_one)
    const struct CMUnitTest tests[] = {
        TEST(test_a_token_of_each_kind_of_key_says_who_it_is),
        TEST(test_no_token_is_missing),
        TEST(test_a_token_without_signature_is_invalid),
        TEST(test_a_public_key_is_no_secret),
        TEST(test_a_token_of_another_key_is_invalid),
        TEST(test_a_kid_names_a_key_and_never_a_path),
        TEST(test_one_changed_bit_is_noticed),
        TEST(test_what_is_no_token_is_invalid),
        TEST(test_a_token_of_another_type_is_refused_by_name),
        TEST(test_a_huge_token_is_invalid),
        TEST(test_it_ends_at_exp_and_the_clock_skew),
        TEST(test_an_expired_token_that_is_also_wrong_is_invalid),
        TEST(test_exp_is_required_and_a_time),
        TEST(test_it_does_not_begin_before_nbf),
        TEST(test_it_was_not_issued_in_the_future),
        TEST(test_it_lives_no_longer_than_max_lifetime),
        TEST(test_the_audience_is_ours),
        TEST(test_issuer_and_audience_are_asked_only_where_configured),
        TEST(test_the_subject_is_a_printable_name),
        TEST(test_unknown_roles_are_ignored_and_no_roles_are_allowed),
        TEST(test_a_verified_token_is_remembered),
        TEST(test_more_tokens_than_are_remembered_are_all_right),
        TEST(test_a_header_is_split_into_scheme_and_credentials),
        TEST(test_a_label_holds_nothing_that_breaks_a_line),
    };
    return cmocka_run_group_tests(tests, make_all, drop_all);
}
