/* Roles: compiled from the settings, and what they allow. */
#include "auth/auth_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- compiling ---- */

static int compile_rule(struct auth_rule *out, const struct auth_pattern *pattern, const char *role,
                        const char *what, const struct auth_error *error)
{
    const char *star = strchr(pattern->text, '*');
    if (pattern->text[0] == '\0' || (star != NULL && star[1] != '\0')) {
        snprintf(error->text, error->size,
                 "auth.roles.%s.%s: the pattern \"%s\" must be a name, or its beginning with * at "
                 "the end",
                 role, what, pattern->text);
        return ERR_INVALID;
    }
    out->is_open = star != NULL;
    out->size = strlen(pattern->text) - out->is_open;
    out->rights = pattern->rights;
    out->prefix = strndup(pattern->text, out->size);
    return out->prefix == NULL ? ERR_NOMEM : 0;
}

/* `*out` and `*out_count` are freed with the rules, also on error. */
static int compile_rules(struct auth_rule **out, size_t *out_count,
                         const struct auth_pattern *patterns, size_t count, const char *role,
                         const char *what, const struct auth_error *error)
{
    CHECK(count <= AUTH_PATTERNS_MAX);
    *out = calloc(count + 1, sizeof(**out));
    if (*out == NULL) {
        return ERR_NOMEM;
    }
    *out_count = count;
    for (size_t i = 0; i < count; i++) {
        int rc = compile_rule(&(*out)[i], &patterns[i], role, what, error);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int compile_role(struct auth_compiled_role *out, const struct auth_role *role,
                        const struct auth_error *error)
{
    memcpy(out->name, role->name, sizeof(out->name));
    out->cluster = role->cluster & AUTH_CLUSTER_RIGHTS;
    int rc = compile_rules(&out->channels, &out->channel_count, role->channels, role->channel_count,
                           role->name, "channels", error);
    if (rc == 0) {
        rc = compile_rules(&out->kv, &out->kv_count, role->kv, role->kv_count, role->name, "kv",
                           error);
    }
    return rc;
}

static int compile_certificate(const struct auth_rules *rules, struct auth_holder *out,
                               const struct auth_certificate *certificate,
                               const struct auth_error *error)
{
    for (size_t i = 0; i < certificate->role_count; i++) {
        int role = auth_find_role(rules, bytes_of_text(certificate->roles[i]));
        if (role < 0) {
            snprintf(error->text, error->size,
                     "auth.certificate_roles.%s: \"%s\" is not a role of auth.roles",
                     certificate->name, certificate->roles[i]);
            return ERR_INVALID;
        }
        out->role_bits |= UINT64_C(1) << role;
    }
    out->name = strdup(certificate->name);
    return out->name == NULL ? ERR_NOMEM : 0;
}

int auth_compile_roles(struct auth_rules *rules, const struct auth_settings *settings,
                       const struct auth_error *error)
{
    CHECK(settings->role_count <= AUTH_ROLES_MAX);
    CHECK(settings->certificate_count <= AUTH_CERTIFICATES_MAX);
    rules->roles = calloc(settings->role_count + 1, sizeof(*rules->roles));
    rules->certificates = calloc(settings->certificate_count + 1, sizeof(*rules->certificates));
    if (rules->roles == NULL || rules->certificates == NULL) {
        return ERR_NOMEM;
    }
    rules->role_count = settings->role_count;
    rules->certificate_count = settings->certificate_count;
    for (size_t i = 0; i < settings->role_count; i++) {
        int rc = compile_role(&rules->roles[i], &settings->roles[i], error);
        if (rc != 0) {
            return rc;
        }
    }
    for (size_t i = 0; i < settings->certificate_count; i++) {
        int rc =
            compile_certificate(rules, &rules->certificates[i], &settings->certificates[i], error);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int auth_find_role(const struct auth_rules *rules, struct bytes name)
{
    for (size_t i = 0; i < rules->role_count; i++) {
        if (bytes_equal(name, bytes_of_text(rules->roles[i].name))) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- deciding ---- */

static bool rule_matches(const struct auth_rule *rule, struct bytes target)
{
    return (rule->is_open ? target.size >= rule->size : target.size == rule->size) &&
           (rule->size == 0 || memcmp(target.data, rule->prefix, rule->size) == 0);
}

/* A whole name is longer than any beginning of it. */
static bool is_longer(const struct auth_rule *a, const struct auth_rule *b)
{
    return a->size > b->size || (a->size == b->size && !a->is_open);
}

static uint32_t rights_by(const struct auth_rule *rules, size_t count, struct bytes target)
{
    const struct auth_rule *best = NULL;
    for (size_t i = 0; i < count; i++) {
        if (rule_matches(&rules[i], target) && (best == NULL || is_longer(&rules[i], best))) {
            best = &rules[i];
        }
    }
    return best == NULL ? 0 : best->rights;
}

/* The principal's roles as a set of these rules. */
static uint64_t bits_of(const struct auth_rules *rules, const struct principal *principal)
{
    if (principal->generation == rules->generation) {
        return principal->role_bits;
    }
    uint64_t bits = 0;
    for (size_t i = 0; i < principal->role_count; i++) {
        int role = auth_find_role(rules, bytes_of_text(principal->roles[i]));
        bits |= role < 0 ? 0 : UINT64_C(1) << role;
    }
    return bits;
}

uint32_t auth_rights_on(const struct auth_rules *rules, const struct principal *principal,
                        bool is_key, struct bytes target)
{
    uint32_t all = is_key ? AUTH_KV_RIGHTS : AUTH_CHANNEL_RIGHTS;
    if (!rules->is_required) {
        return all;
    }
    CHECK(principal != NULL);
    uint64_t bits = bits_of(rules, principal);
    uint32_t rights = 0;
    for (size_t i = 0; i < rules->role_count; i++) {
        if ((bits >> i & 1) == 0) {
            continue;
        }
        const struct auth_compiled_role *role = &rules->roles[i];
        rights |= is_key ? rights_by(role->kv, role->kv_count, target)
                         : rights_by(role->channels, role->channel_count, target);
    }
    return rights & all;
}

uint32_t auth_cluster_rights(const struct auth_rules *rules, const struct principal *principal)
{
    if (!rules->is_required) {
        return AUTH_CLUSTER_RIGHTS;
    }
    CHECK(principal != NULL);
    uint64_t bits = bits_of(rules, principal);
    uint32_t rights = 0;
    for (size_t i = 0; i < rules->role_count; i++) {
        rights |= (bits >> i & 1) != 0 ? rules->roles[i].cluster : 0;
    }
    return rights;
}

enum auth_decision auth_authorize(const struct auth_rules *rules, const struct principal *principal,
                                  enum auth_right right, struct bytes target)
{
    uint32_t rights;
    if ((right & AUTH_CLUSTER_RIGHTS) != 0) {
        rights = auth_cluster_rights(rules, principal);
    } else {
        rights = auth_rights_on(rules, principal, (right & AUTH_KV_RIGHTS) != 0, target);
    }
    if ((rights & right) != 0) {
        return AUTH_ALLOWED;
    }
    bool may_hide = (right & AUTH_CHANNEL_RIGHTS) != 0 && right != AUTH_CREATE;
    return may_hide && rights == 0 ? AUTH_HIDDEN : AUTH_FORBIDDEN;
}
