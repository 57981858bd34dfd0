/* What the claims of a token must say. */
#include "auth/auth_internal.h"

#include <jansson.h>
#include <string.h>

#define SECONDS_MAX 253402300799.0 /* the end of the year 9999 */

/* Seconds since 1970, with or without a fraction. False: it is not a time. */
static bool read_time(const json_t *value, int64_t *out_ms)
{
    if (!json_is_number(value)) {
        return false;
    }
    double seconds = json_number_value(value);
    if (!(seconds >= 0) || seconds > SECONDS_MAX) {
        return false;
    }
    *out_ms = (int64_t)(seconds * 1000);
    return true;
}

/* False: the claim is there, and is no time. `*out_ms` stays as it is when it is absent. */
static bool read_optional_time(const json_t *claims, const char *name, bool *is_there,
                               int64_t *out_ms)
{
    const json_t *value = json_object_get(claims, name);
    *is_there = value != NULL;
    return value == NULL || read_time(value, out_ms);
}

static bool is_text(const json_t *value, const char *expected)
{
    return json_is_string(value) && json_string_length(value) == strlen(expected) &&
           strcmp(json_string_value(value), expected) == 0;
}

/* A string, or a list that has it. */
static bool has_audience(const json_t *value, const char *expected)
{
    size_t count = json_array_size(value); /* 0 for what is no list */
    for (size_t i = 0; i < count; i++) {
        if (is_text(json_array_get(value, i), expected)) {
            return true;
        }
    }
    return is_text(value, expected);
}

/* False: it is no list of strings. */
static bool read_roles(const struct auth_rules *rules, const json_t *value, uint64_t *out)
{
    uint64_t bits = 0;
    if (value != NULL && !json_is_array(value)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_string(item)) {
            return false;
        }
        int role = auth_find_role(
            rules, (struct bytes){json_string_value(item), json_string_length(item)});
        bits |= role < 0 ? 0 : UINT64_C(1) << role;
    }
    *out = bits;
    return true;
}

/* Returns NULL, or why the token's times make it invalid. */
static const char *check_times(const struct auth_rules *rules, const json_t *claims, int64_t now_ms,
                               int64_t *expires_ms)
{
    int64_t expiry_ms = 0;
    int64_t issued_ms = 0;
    int64_t begin_ms = 0;
    bool has_expiry;
    bool has_issued;
    bool has_begin;
    if (!read_optional_time(claims, "exp", &has_expiry, &expiry_ms) ||
        !read_optional_time(claims, "iat", &has_issued, &issued_ms) ||
        !read_optional_time(claims, "nbf", &has_begin, &begin_ms)) {
        return "exp, iat or nbf is not a time";
    }
    if (!has_expiry) {
        return "has no exp";
    }
    if (has_begin && begin_ms > now_ms + rules->clock_skew_ms) {
        return "is not valid yet (nbf)";
    }
    if (has_issued && issued_ms > now_ms + rules->clock_skew_ms) {
        return "was issued in the future (iat)";
    }
    /* Without iat the issuer's clock is not known, and may be ahead. */
    int64_t start_ms = has_issued ? issued_ms : now_ms + rules->clock_skew_ms;
    if (expiry_ms - start_ms > rules->max_lifetime_ms) {
        return "lives longer than auth.jwt.max_lifetime";
    }
    *expires_ms = expiry_ms + rules->clock_skew_ms;
    return NULL;
}

static const char *check_names(const struct auth_rules *rules, const json_t *claims,
                               struct auth_claims *out)
{
    const json_t *subject = json_object_get(claims, "sub");
    if (!json_is_string(subject) ||
        !auth_is_subject((struct bytes){json_string_value(subject), json_string_length(subject)})) {
        return "sub is absent, empty, longer than 256 bytes or not printable";
    }
    if (rules->issuer[0] != '\0' && !is_text(json_object_get(claims, "iss"), rules->issuer)) {
        return "iss is not auth.jwt.issuer";
    }
    if (rules->audience[0] != '\0' &&
        !has_audience(json_object_get(claims, "aud"), rules->audience)) {
        return "aud does not have auth.jwt.audience";
    }
    if (!read_roles(rules, json_object_get(claims, "roles"), &out->role_bits)) {
        return "roles is not a list of strings";
    }
    out->subject = json_string_value(subject);
    return NULL;
}

enum auth_result auth_check_claims(const struct auth_rules *rules, const struct json_t *claims,
                                   int64_t now_ms, struct auth_claims *out, const char **reason)
{
    struct auth_claims read = {0};
    *reason = check_names(rules, claims, &read);
    if (*reason == NULL) {
        *reason = check_times(rules, claims, now_ms, &read.expires_ms);
    }
    if (*reason != NULL) {
        return AUTH_TOKEN_INVALID;
    }
    /* Last, so that only a token that a new one of its kind would replace is called expired. */
    if (now_ms >= read.expires_ms) {
        *reason = "has expired";
        return AUTH_TOKEN_EXPIRED;
    }
    *out = read;
    *reason = "";
    return AUTH_OK;
}
