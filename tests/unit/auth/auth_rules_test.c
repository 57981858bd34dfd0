/* What roles allow. */
#include "auth_testing.h"

static struct auth_settings *settings;

static int make_all(void **state)
{
    scratch_make_dir(dir, sizeof(dir), "auth");
    struct pem pem = make_pem(KEY_EC);
    write_file("k.pem", pem.public, 0600);
    return 0;
}

static int drop_all(void **state)
{
    remove_dir(dir);
    return 0;
}

static int make_one(void **state)
{
    settings = make_settings();
    return 0;
}

static int free_one(void **state)
{
    free(settings);
    return 0;
}

static struct principal *forwarded(struct auth_rules *rules, const char *first, const char *second)
{
    struct principal *principal = NULL;
    const struct bytes roles[] = {bytes_of_text(first), bytes_of_text(second)};
    assert_int_equal(auth_from_forward(rules, bytes_of_text("alice"), roles, 2, &principal), 0);
    return principal;
}

static void expect(struct auth_rules *rules, const char *first, const char *second,
                   enum auth_right right, const char *target, enum auth_decision expected)
{
    struct principal *principal = forwarded(rules, first, second);
    enum auth_decision decision = auth_authorize(rules, principal, right, bytes_of_text(target));
    principal_drop(principal);
    if (decision != expected) {
        fail_msg("%s+%s, right %#x on \"%s\": %d, expected %d", first, second, right, target,
                 decision, expected);
    }
}

static void test_the_longest_pattern_of_a_role_decides(void **state)
{
    add_role(settings, "mixed");
    add_pattern(settings, false, "*", AUTH_READ);
    add_pattern(settings, false, "team-*", AUTH_READ | AUTH_SEND);
    add_pattern(settings, false, "team-secret*", 0);
    add_pattern(settings, false, "team-secret", AUTH_SEND);
    add_pattern(settings, false, "team-secret-b", AUTH_MODERATE);
    struct auth *auth = open_auth(settings);
    struct auth_rules *rules = auth_acquire(auth);
    expect(rules, "mixed", "", AUTH_READ, "x", AUTH_ALLOWED);
    expect(rules, "mixed", "", AUTH_SEND, "x", AUTH_FORBIDDEN);
    expect(rules, "mixed", "", AUTH_SEND, "team-", AUTH_ALLOWED);
    expect(rules, "mixed", "", AUTH_SEND, "team-a", AUTH_ALLOWED);
    expect(rules, "mixed", "", AUTH_SEND, "team", AUTH_FORBIDDEN);
    expect(rules, "mixed", "", AUTH_READ, "team-secret-a", AUTH_HIDDEN);
    expect(rules, "mixed", "", AUTH_READ, "team-secret-b", AUTH_FORBIDDEN);
    expect(rules, "mixed", "", AUTH_MODERATE, "team-secret-b", AUTH_ALLOWED);
    /* The whole name is longer than its beginning. */
    expect(rules, "mixed", "", AUTH_SEND, "team-secret", AUTH_ALLOWED);
    expect(rules, "mixed", "", AUTH_READ, "team-secret", AUTH_FORBIDDEN);
    auth_release(rules);
    auth_close(auth);
}

static void test_roles_add_up(void **state)
{
    struct auth *auth = open_auth(settings);
    struct auth_rules *rules = auth_acquire(auth);
    expect(rules, "member", "", AUTH_SEND, "team-a", AUTH_ALLOWED);
    expect(rules, "member", "", AUTH_CREATE, "team-a", AUTH_FORBIDDEN);
    expect(rules, "member", "service", AUTH_CREATE, "team-a", AUTH_ALLOWED);
    expect(rules, "member", "service", AUTH_MANAGE, "team-a", AUTH_FORBIDDEN);
    expect(rules, "member", "admin", AUTH_MANAGE, "team-a", AUTH_ALLOWED);
    expect(rules, "member", "unknown", AUTH_SEND, "x", AUTH_HIDDEN);
    expect(rules, "unknown", "", AUTH_READ, "general", AUTH_HIDDEN);
    auth_release(rules);
    auth_close(auth);
}

static void test_a_channel_without_any_right_is_hidden(void **state)
{
    struct auth *auth = open_auth(settings);
    struct auth_rules *rules = auth_acquire(auth);
    expect(rules, "member", "", AUTH_READ, "private", AUTH_HIDDEN);
    expect(rules, "member", "", AUTH_MANAGE, "private", AUTH_HIDDEN);
    expect(rules, "member", "", AUTH_READ, "generals", AUTH_HIDDEN);
    expect(rules, "member", "", AUTH_MANAGE, "general", AUTH_FORBIDDEN);
    expect(rules, "member", "", AUTH_CREATE, "private", AUTH_FORBIDDEN);
    struct principal *principal = forwarded(rules, "member", "");
    assert_int_equal(auth_rights_on(rules, principal, false, bytes_of_text("private")), 0);
    assert_int_equal(auth_rights_on(rules, principal, false, bytes_of_text("team-1")),
                     AUTH_READ | AUTH_SEND);
    principal_drop(principal);
    auth_release(rules);
    auth_close(auth);
}

static void test_keys_and_channels_have_patterns_of_their_own(void **state)
{
    struct auth *auth = open_auth(settings);
    struct auth_rules *rules = auth_acquire(auth);
    expect(rules, "service", "", AUTH_KV_READ, "app/a", AUTH_ALLOWED);
    expect(rules, "service", "", AUTH_KV_WRITE, "app/", AUTH_ALLOWED);
    expect(rules, "service", "", AUTH_KV_READ, "other", AUTH_FORBIDDEN);
    expect(rules, "member", "", AUTH_KV_READ, "team-a", AUTH_FORBIDDEN);
    expect(rules, "admin", "", AUTH_KV_WRITE, "other", AUTH_ALLOWED);
    auth_release(rules);
    auth_close(auth);
}

static void test_rights_on_the_cluster_are_granted_each(void **state)
{
    add_role(settings, "monitor");
    settings->roles[settings->role_count - 1].cluster = AUTH_STATUS;
    struct auth *auth = open_auth(settings);
    struct auth_rules *rules = auth_acquire(auth);
    expect(rules, "monitor", "", AUTH_STATUS, "", AUTH_ALLOWED);
    expect(rules, "monitor", "", AUTH_OPERATE, "", AUTH_FORBIDDEN);
    expect(rules, "monitor", "", AUTH_BACKUP, "", AUTH_FORBIDDEN);
    expect(rules, "service", "", AUTH_STATUS, "", AUTH_FORBIDDEN);
    expect(rules, "admin", "", AUTH_BACKUP, "", AUTH_ALLOWED);
    struct principal *principal = forwarded(rules, "monitor", "admin");
    assert_int_equal(auth_cluster_rights(rules, principal),
                     AUTH_STATUS | AUTH_OPERATE | AUTH_BACKUP);
    principal_drop(principal);
    auth_release(rules);
    auth_close(auth);
}

static void test_with_mode_off_everything_is_allowed_and_no_file_is_read(void **state)
{
    settings->mode = AUTH_MODE_OFF;
    strcpy(settings->jwt.keys_dir, "/nowhere");
    strcpy(settings->users_file, "/nowhere");
    struct auth *auth = open_auth(settings);
    struct auth_rules *rules = auth_acquire(auth);
    assert_false(auth_is_required(rules));
    assert_int_equal(auth_authorize(rules, NULL, AUTH_MANAGE, bytes_of_text("x")), AUTH_ALLOWED);
    assert_int_equal(auth_authorize(rules, NULL, AUTH_KV_WRITE, bytes_of_text("x")), AUTH_ALLOWED);
    assert_int_equal(auth_authorize(rules, NULL, AUTH_BACKUP, bytes_of_text("")), AUTH_ALLOWED);
    assert_false(auth_has_changed(auth));
    auth_release(rules);
    auth_close(auth);
}

static void test_a_faulty_pattern_is_refused(void **state)
{
    const char *const bad[] = {"", "a*b", "**", "*a"};
    for (size_t i = 0; i < 4; i++) {
        strcpy(settings->roles[0].channels[0].text, bad[i]);
        expect_refused(settings, ERR_INVALID, "auth.roles.member.channels: the pattern");
    }
}

static void test_without_any_way_to_log_in_it_is_refused(void **state)
{
    settings->jwt.keys_dir[0] = '\0';
    expect_refused(settings, ERR_INVALID, "nobody could log in");
}

static void test_a_certificate_has_the_roles_of_its_name(void **state)
{
    strcpy(settings->certificates[0].name, "bot.example");
    strcpy(settings->certificates[0].roles[0], "service");
    settings->certificates[0].role_count = 1;
    settings->certificate_count = 1;
    struct auth *auth = open_auth(settings);
    struct auth_rules *rules = auth_acquire(auth);
    struct principal *principal = NULL;
    assert_int_equal(auth_from_certificate(rules, bytes_of_text("bot.example"), NOW_MS + 1, NOW_MS,
                                           &principal, NULL),
                     AUTH_OK);
    assert_string_equal(principal->subject, "bot.example");
    assert_int_equal(principal->kind, PRINCIPAL_CERTIFICATE);
    assert_int_equal(principal->role_count, 1);
    assert_true(principal->expires_ms == NOW_MS + 1);
    principal_drop(principal);
    assert_int_equal(
        auth_from_certificate(rules, bytes_of_text("other"), NOW_MS + 1, NOW_MS, &principal, NULL),
        AUTH_OK);
    assert_int_equal(principal->role_count, 0);
    principal_drop(principal);
    assert_int_equal(
        auth_from_certificate(rules, bytes_of_text("other"), NOW_MS, NOW_MS, &principal, NULL),
        AUTH_TOKEN_EXPIRED);
    assert_int_equal(
        auth_from_certificate(rules, bytes_of_text(""), NOW_MS + 1, NOW_MS, &principal, NULL),
        AUTH_TOKEN_INVALID);
    auth_release(rules);
    auth_close(auth);
    strcpy(settings->certificates[0].roles[0], "nobody");
    expect_refused(settings, ERR_INVALID, "auth.certificate_roles.bot.example: \"nobody\"");
}

static void test_a_forwarded_principal_has_the_roles_that_we_know(void **state)
{
    struct auth *auth = open_auth(settings);
    struct auth_rules *rules = auth_acquire(auth);
    struct principal *principal = forwarded(rules, "admin", "of another version");
    assert_int_equal(principal->kind, PRINCIPAL_FORWARDED);
    assert_string_equal(principal->subject, "alice");
    assert_int_equal(principal->role_count, 1);
    assert_string_equal(principal->roles[0], "admin");
    principal_drop(principal);
    principal = NULL;
    assert_int_equal(auth_from_forward(rules, bytes_of_text(""), NULL, 0, &principal), ERR_INVALID);
    assert_int_equal(auth_from_forward(rules, bytes_of_text("\xff"), NULL, 0, &principal),
                     ERR_INVALID);
    assert_null(principal);
    auth_release(rules);
    auth_close(auth);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_one, free_one)
    const struct CMUnitTest tests[] = {
        TEST(test_the_longest_pattern_of_a_role_decides),
        TEST(test_roles_add_up),
        TEST(test_a_channel_without_any_right_is_hidden),
        TEST(test_keys_and_channels_have_patterns_of_their_own),
        TEST(test_rights_on_the_cluster_are_granted_each),
        TEST(test_with_mode_off_everything_is_allowed_and_no_file_is_read),
        TEST(test_a_faulty_pattern_is_refused),
        TEST(test_without_any_way_to_log_in_it_is_refused),
        TEST(test_a_certificate_has_the_roles_of_its_name),
        TEST(test_a_forwarded_principal_has_the_roles_that_we_know),
    };
    return cmocka_run_group_tests(tests, make_all, drop_all);
}
