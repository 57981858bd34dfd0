/* Keys, users and roles that change while the node runs. */
#include "auth_testing.h"

#include <pthread.h>

static struct pem first;
static struct pem second;
static struct auth_settings *settings;
static struct auth *auth;

static int make_one(void **state)
{
    scratch_make_dir(dir, sizeof(dir), "auth");
    write_file("a.pem", first.public, 0600);
    settings = make_settings();
    auth = open_auth(settings);
    return 0;
}

static int free_one(void **state)
{
    auth_close(auth);
    free(settings);
    remove_dir(dir);
    return 0;
}

static void expect_kept(int rc, const char *text)
{
    char token[4096];
    strcpy(token, sign_with(&first, "a", claims_at(NOW_S + 60, "")));
    assert_true(auth_has_changed(auth));
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), rc);
    if (strstr(error, text) == NULL) {
        assert_string_equal(error, text);
    }
    /* Told once. */
    assert_false(auth_has_changed(auth));
    struct auth_rules *rules = auth_acquire(auth);
    assert_int_equal(auth_generation(rules), 1);
    auth_release(rules);
    expect_token(auth, token, AUTH_OK, "");
    expect_token(auth, sign_with(&second, "b", claims_at(NOW_S + 60, "")), AUTH_TOKEN_INVALID,
                 "no key has");
}

static void test_a_new_key_is_known_after_a_reload_only(void **state)
{
    char token[4096];
    strcpy(token, sign_with(&second, "b", claims_at(NOW_S + 60, "")));
    assert_false(auth_has_changed(auth));
    write_file("b.pem", second.public, 0600);
    assert_true(auth_has_changed(auth));
    expect_token(auth, token, AUTH_TOKEN_INVALID, "no key has");
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    assert_string_equal(error, "");
    assert_false(auth_has_changed(auth));
    expect_token(auth, token, AUTH_OK, "");
    remove_file("a.pem");
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    expect_token(auth, sign_with(&first, "a", claims_at(NOW_S + 60, "")), AUTH_TOKEN_INVALID,
                 "no key has");
}

static void test_what_is_prepared_counts_when_it_is_committed(void **state)
{
    char token[4096];
    struct auth_rules *rules = NULL;
    strcpy(token, sign_with(&second, "b", claims_at(NOW_S + 60, "")));
    write_file("b.pem", second.public, 0600);
    assert_int_equal(auth_prepare(auth, settings, &rules, error, sizeof(error)), 0);
    auth_release(rules); /* another file was faulty */
    expect_token(auth, token, AUTH_TOKEN_INVALID, "no key has");
    assert_int_equal(auth_prepare(auth, settings, &rules, error, sizeof(error)), 0);
    expect_token(auth, token, AUTH_TOKEN_INVALID, "no key has");
    auth_commit(auth, rules);
    expect_token(auth, token, AUTH_OK, "");
    rules = auth_acquire(auth);
    assert_int_equal(auth_generation(rules), 2);
    auth_release(rules);
}

static void test_a_remembered_token_ends_with_its_key(void **state)
{
    char token[4096];
    strcpy(token, sign_with(&first, "a", claims_at(NOW_S + 60, "")));
    expect_token(auth, token, AUTH_OK, "");
    write_file("a.pem", second.public, 0600);
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    expect_token(auth, token, AUTH_TOKEN_INVALID, "signature");
}

static void test_one_faulty_key_changes_nothing(void **state)
{
    struct pem p384 = make_pem(KEY_P384);
    struct pem small = make_pem(KEY_RSA_SHORT);
    write_file("b.pem", second.public, 0600);
    write_file("c.pem", "no key\n", 0600);
    expect_kept(ERR_INVALID, "/c.pem: is not a PEM file with a PUBLIC KEY");
    write_file("c.pem", second.private, 0600);
    expect_kept(ERR_INVALID, "/c.pem: is a private key");
    write_file("c.pem", p384.public, 0600);
    expect_kept(ERR_INVALID, "/c.pem: is on another curve");
    write_file("c.pem", small.public, 0600);
    expect_kept(ERR_INVALID, "/c.pem: is an RSA key of less than 2048 bits");
    write_file("c.pem", "", 0600);
    expect_kept(ERR_INVALID, "/c.pem: is not a PEM file");
    remove_file("c.pem");
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    expect_token(auth, sign_with(&second, "b", claims_at(NOW_S + 60, "")), AUTH_OK, "");
}

static void test_a_key_file_that_others_can_read_changes_nothing(void **state)
{
    const mode_t modes[] = {0604, 0602, 0666, 0607};
    for (size_t i = 0; i < 4; i++) {
        write_file("b.pem", second.public, modes[i]);
        expect_kept(ERR_ACCESS, "/b.pem: others can read or write it");
    }
    /* The group's bits count when the group is not ours; only root may give a file away. */
    if (geteuid() == 0) {
        char path[256];
        snprintf(path, sizeof(path), "%s/b.pem", dir);
        assert_int_equal(chown(path, 0, 54321), 0);
        assert_int_equal(chmod(path, 0640), 0);
        expect_kept(ERR_ACCESS, "/b.pem: a group that this process is not in");
        assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    }
}

static void test_a_directory_that_others_can_write_changes_nothing(void **state)
{
    write_file("b.pem", second.public, 0600);
    assert_int_equal(chmod(dir, 0757), 0);
    expect_kept(ERR_ACCESS, "others can write to this directory");
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
}

static void test_an_empty_directory_changes_nothing(void **state)
{
    remove_file("a.pem");
    expect_kept(ERR_INVALID, "holds no key");
}

static void test_faulty_users_keep_the_keys_as_they_were(void **state)
{
    write_file("b.pem", second.public, 0600);
    write_file("users", "x\n", 0600);
    snprintf(settings->users_file, sizeof(settings->users_file), "%s/users", dir);
    expect_kept(ERR_INVALID, "/users:1: is not name");
}

static void test_calls_in_progress_keep_their_rules(void **state)
{
    struct auth_rules *before = auth_acquire(auth);
    struct principal *principal = NULL;
    assert_int_equal(
        verify(auth, sign_with(&first, "a", claims_at(NOW_S + 60, "")), NOW_MS, &principal, NULL),
        AUTH_OK);
    settings->roles[0].channels[1].rights = AUTH_READ; /* of general, for members */
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    struct auth_rules *after = auth_acquire(auth);
    struct bytes general = bytes_of_text("general");
    assert_int_equal(auth_authorize(before, principal, AUTH_SEND, general), AUTH_ALLOWED);
    assert_int_equal(auth_authorize(after, principal, AUTH_SEND, general), AUTH_FORBIDDEN);
    assert_int_equal(auth_authorize(after, principal, AUTH_READ, general), AUTH_ALLOWED);
    auth_close(auth);
    assert_int_equal(auth_authorize(before, principal, AUTH_SEND, general), AUTH_ALLOWED);
    auth_release(before);
    auth_release(after);
    principal_drop(principal);
    auth = open_auth(settings);
}

static void test_roles_are_known_by_name_when_their_order_changes(void **state)
{
    struct principal *principal = NULL;
    assert_int_equal(
        verify(auth, sign_with(&first, "a", claims_at(NOW_S + 60, "")), NOW_MS, &principal, NULL),
        AUTH_OK);
    struct auth_role kept = settings->roles[0];
    settings->roles[0] = settings->roles[2];
    settings->roles[2] = kept;
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    struct auth_rules *rules = auth_acquire(auth);
    assert_int_equal(auth_authorize(rules, principal, AUTH_STATUS, bytes_of_text("")),
                     AUTH_FORBIDDEN);
    assert_int_equal(auth_authorize(rules, principal, AUTH_SEND, bytes_of_text("general")),
                     AUTH_ALLOWED);
    auth_release(rules);
    principal_drop(principal);
}

static enum auth_result recheck(struct principal *principal, int64_t now_ms, size_t *role_count)
{
    struct auth_rules *rules = auth_acquire(auth);
    struct principal *again = NULL;
    enum auth_result result = auth_recheck(rules, principal, now_ms, &again);
    if (result == AUTH_OK) {
        assert_string_equal(again->subject, principal->subject);
        assert_int_equal(again->generation, auth_generation(rules));
        *role_count = again->role_count;
    }
    principal_drop(again);
    auth_release(rules);
    return result;
}

static void test_a_token_is_still_good_while_its_key_is_there(void **state)
{
    struct principal *principal = NULL;
    size_t roles = 0;
    assert_int_equal(
        verify(auth, sign_with(&first, "a", claims_at(NOW_S + 60, "")), NOW_MS, &principal, NULL),
        AUTH_OK);
    assert_int_equal(recheck(principal, NOW_MS, &roles), AUTH_OK);
    write_file("b.pem", second.public, 0600);
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    assert_int_equal(recheck(principal, NOW_MS, &roles), AUTH_OK);
    assert_int_equal(roles, 1);
    assert_int_equal(recheck(principal, principal->expires_ms, &roles), AUTH_TOKEN_EXPIRED);
    remove_file("a.pem");
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    assert_int_equal(recheck(principal, NOW_MS, &roles), AUTH_TOKEN_INVALID);
    principal_drop(principal);
}

static void test_a_user_is_still_good_with_the_same_password(void **state)
{
    char text[1024];
    struct principal *principal = NULL;
    size_t roles = 0;
    snprintf(settings->users_file, sizeof(settings->users_file), "%s/users", dir);
    snprintf(text, sizeof(text), "bot:%s:member\n", hash_password("one"));
    write_file("users", text, 0600);
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    struct auth_rules *rules = auth_acquire(auth);
    assert_int_equal(auth_verify_basic(rules, bytes_of_text(basic("bot:one")), &principal, NULL),
                     AUTH_OK);
    auth_release(rules);
    snprintf(text, sizeof(text), "bot:%s:member,admin\n", hash_password("one"));
    write_file("users", text, 0600);
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    assert_int_equal(recheck(principal, NOW_MS, &roles), AUTH_OK);
    assert_int_equal(roles, 2);
    snprintf(text, sizeof(text), "bot:%s:member,admin\n", hash_password("two"));
    write_file("users", text, 0600);
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    assert_int_equal(recheck(principal, NOW_MS, &roles), AUTH_TOKEN_INVALID);
    principal_drop(principal);
}

/* ---- threads ---- */

#define THREADS 3
#define ROUNDS 150

static char shared_token[4096];
static atomic_bool is_over;

static void *verify_until_over(void *context)
{
    atomic_uint *failures = context;
    while (!atomic_load(&is_over)) {
        struct principal *principal = NULL;
        struct auth_rules *rules = auth_acquire(auth);
        if (auth_verify_bearer(rules, bytes_of_text(shared_token), NOW_MS, &principal, NULL) !=
                AUTH_OK ||
            auth_authorize(rules, principal, AUTH_SEND, bytes_of_text("general")) != AUTH_ALLOWED) {
            atomic_fetch_add(failures, 1);
        }
        auth_release(rules);
        principal_drop(principal);
    }
    return NULL;
}

static void test_a_reload_fails_no_call(void **state)
{
    pthread_t threads[THREADS];
    atomic_uint failures = 0;
    strcpy(shared_token, sign_with(&first, "a", claims_at(NOW_S + 60, "")));
    atomic_store(&is_over, false);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, verify_until_over, &failures), 0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(atomic_load(&failures), 0);
}

static int make_all(void **state)
{
    first = make_pem(KEY_EC);
    second = make_pem(KEY_EC);
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_one, free_one)
    const struct CMUnitTest tests[] = {
        TEST(test_a_new_key_is_known_after_a_reload_only),
        TEST(test_what_is_prepared_counts_when_it_is_committed),
        TEST(test_a_remembered_token_ends_with_its_key),
        TEST(test_one_faulty_key_changes_nothing),
        TEST(test_a_key_file_that_others_can_read_changes_nothing),
        TEST(test_a_directory_that_others_can_write_changes_nothing),
        TEST(test_an_empty_directory_changes_nothing),
        TEST(test_faulty_users_keep_the_keys_as_they_were),
        TEST(test_calls_in_progress_keep_their_rules),
        TEST(test_roles_are_known_by_name_when_their_order_changes),
        TEST(test_a_token_is_still_good_while_its_key_is_there),
        TEST(test_a_user_is_still_good_with_the_same_password),
        TEST(test_a_reload_fails_no_call),
    };
    return cmocka_run_group_tests(tests, make_all, NULL);
}
