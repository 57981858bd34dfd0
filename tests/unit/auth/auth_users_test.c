/* Tests of users, passwords and their roles. */
#include "auth_testing.h"

static struct auth_settings *settings;
static char users[4096];

static int make_all(void **state)
{
    scratch_make_dir(dir, sizeof(dir), "auth");
    settings = make_settings();
    settings->jwt.keys_dir[0] = '\0';
    snprintf(settings->users_file, sizeof(settings->users_file), "%s/users", dir);
    return 0;
}

static int drop_all(void **state)
{
    free(settings);
    remove_dir(dir);
    return 0;
}

static void write_users(void)
{
    snprintf(users, sizeof(users), "# services\n\nbot:%s:service,member\r\n",
             hash_password("secret"));
    snprintf(users + strlen(users), sizeof(users) - strlen(users), "idle:%s:\n",
             hash_password("p:w"));
    write_file("users", users, 0600);
}

static enum auth_result log_in(struct auth *auth, const char *name_password, struct principal **out,
                               struct auth_login *login)
{
    struct auth_rules *rules = auth_acquire(auth);
    enum auth_result result =
        auth_verify_basic(rules, bytes_of_text(basic(name_password)), out, login);
    auth_release(rules);
    return result;
}

static void test_the_right_password_says_who_it_is(void **state)
{
    write_users();
    struct auth *auth = open_auth(settings);
    struct principal *principal = NULL;
    struct auth_login login;
    assert_int_equal(log_in(auth, "bot:secret", &principal, &login), AUTH_OK);
    assert_string_equal(login.label, "bot");
    assert_string_equal(principal->subject, "bot");
    assert_int_equal(principal->kind, PRINCIPAL_USER);
    assert_int_equal(principal->role_count, 2);
    assert_true(principal->expires_ms == PRINCIPAL_NEVER);
    principal_drop(principal);
    /* Only the first colon ends the name. */
    assert_int_equal(log_in(auth, "idle:p:w", &principal, &login), AUTH_OK);
    assert_int_equal(principal->role_count, 0);
    principal_drop(principal);
    auth_close(auth);
}

static void test_a_wrong_name_or_password_is_invalid(void **state)
{
    write_users();
    struct auth *auth = open_auth(settings);
    const char *const wrong[] = {"bot:secret2", "bot:",       "bot",         "nobody:secret",
                                 ":secret",     "BOT:secret", "bot:secret\n"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct principal *principal = NULL;
        struct auth_login login;
        assert_int_equal(log_in(auth, wrong[i], &principal, &login), AUTH_TOKEN_INVALID);
        assert_null(principal);
        assert_string_not_equal(login.reason, "");
        assert_null(strstr(login.label, "secret"));
    }
    struct auth_rules *rules = auth_acquire(auth);
    struct principal *principal = NULL;
    assert_int_equal(auth_verify_basic(rules, bytes_of_text(""), &principal, NULL),
                     AUTH_TOKEN_MISSING);
    assert_int_equal(auth_verify_basic(rules, bytes_of_text("b?t="), &principal, NULL),
                     AUTH_TOKEN_INVALID);
    char large[4000];
    memset(large, 'A', sizeof(large));
    assert_int_equal(
        auth_verify_basic(rules, (struct bytes){large, sizeof(large)}, &principal, NULL),
        AUTH_TOKEN_INVALID);
    auth_release(rules);
    auth_close(auth);
}

static void test_a_login_is_remembered_until_the_users_are_read_again(void **state)
{
    write_users();
    struct auth *auth = open_auth(settings);
    struct principal *principal = NULL;
    struct principal *again = NULL;
    struct auth_rules *rules = auth_acquire(auth);
    assert_false(auth_recall_basic(rules, bytes_of_text(basic("bot:secret")), &again));
    assert_int_equal(log_in(auth, "bot:secret", &principal, NULL), AUTH_OK);
    assert_true(auth_recall_basic(rules, bytes_of_text(basic("bot:secret")), &again));
    assert_ptr_equal(again, principal);
    principal_drop(again);
    assert_false(auth_recall_basic(rules, bytes_of_text(basic("bot:secret2")), &again));
    auth_release(rules);
    assert_int_equal(auth_reload(auth, settings, error, sizeof(error)), 0);
    rules = auth_acquire(auth);
    assert_false(auth_recall_basic(rules, bytes_of_text(basic("bot:secret")), &again));
    auth_release(rules);
    principal_drop(principal);
    auth_close(auth);
}

static void test_a_faulty_users_file_is_refused_with_its_line(void **state)
{
    char text[2048];
    const char *hash = hash_password("x");
    const struct {
        const char *format;
        const char *expected;
    } faults[] = {
        {"a:%s\n", "users:1: is not name:argon2id-hash:role,role"},
        {"\n:%s:member\n", "users:2: has a name that is empty"},
        {"a:%s:member:x\n", "users:1: is not name"},
        {"a:%s:member,nobody\n", "users:1: names a role"},
        {"a:%s:member,\na:%s:\n", "users:2: has a name that an earlier line has"},
        {"a:x%s:member\n", "users:1: has no argon2id hash"},
        {"a:%sx:member\nb:%s!:\n", "users:2: has no argon2id hash"},
        {"a\x01:%s:member\n", "users:1: has a name that is empty"},
    };
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        const char *at = faults[i].format;
        text[0] = '\0';
        for (const char *hole; (hole = strstr(at, "%s")) != NULL; at = hole + 2) {
            strncat(text, at, (size_t)(hole - at));
            strcat(text, hash);
        }
        strcat(text, at);
        write_file("users", text, 0600);
        expect_refused(settings, ERR_INVALID, faults[i].expected);
    }
    const char *const hashes[] = {
        "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=999999999,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=64,t=0,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=64,t=1,p=1$c2Fs$AAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAA",
        "secret",
        "$2y$10$abcdefghijklmnopqrstuv",
    };
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
        snprintf(text, sizeof(text), "a:%s:member\n", hashes[i]);
        write_file("users", text, 0600);
        expect_refused(settings, ERR_INVALID, "has no argon2id hash");
        assert_null(strstr(error, hashes[i])); /* no secret in an error */
    }
}

static void test_a_users_file_that_others_can_read_is_refused(void **state)
{
    write_users();
    const mode_t modes[] = {0604, 0602, 0644, 0666};
    for (size_t i = 0; i < 4; i++) {
        write_file("users", users, modes[i]);
        expect_refused(settings, ERR_ACCESS, "others can read or write it");
    }
    write_file("users", users, 0640); /* our own group */
    auth_close(open_auth(settings));
    remove_file("users");
    expect_refused(settings, ERR_NOT_FOUND, "/users: cannot be read");
    write_users();
}

static void test_without_users_no_hash_is_computed(void **state)
{
    write_file("users", "# nobody\n", 0600);
    struct auth *auth = open_auth(settings);
    struct principal *principal = NULL;
    struct auth_login login;
    assert_int_equal(log_in(auth, "bot:secret", &principal, &login), AUTH_TOKEN_INVALID);
    assert_string_equal(login.reason, "no user may log in with a password");
    auth_close(auth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_right_password_says_who_it_is),
        cmocka_unit_test(test_a_wrong_name_or_password_is_invalid),
        cmocka_unit_test(test_a_login_is_remembered_until_the_users_are_read_again),
        cmocka_unit_test(test_a_faulty_users_file_is_refused_with_its_line),
        cmocka_unit_test(test_a_users_file_that_others_can_read_is_refused),
        cmocka_unit_test(test_without_users_no_hash_is_computed),
    };
    return cmocka_run_group_tests(tests, make_all, drop_all);
}
