/* Principals: who a client is, counted by reference. */
#include "auth/auth_internal.h"

#include "base/references.h"

#include <stdlib.h>
#include <string.h>

int principal_create(enum principal_kind kind, struct bytes subject, const struct auth_rules *rules,
                     uint64_t role_bits, int64_t expires_ms, struct principal **out)
{
    size_t count = (size_t)__builtin_popcountll(role_bits);
    size_t size = sizeof(struct principal) + count * sizeof(char *) + subject.size + 1;
    for (size_t i = 0; i < rules->role_count; i++) {
        size += (role_bits >> i & 1) != 0 ? strlen(rules->roles[i].name) + 1 : 0;
    }
    struct principal *principal = calloc(1, size);
    if (principal == NULL) {
        return ERR_NOMEM;
    }
    const char **roles = (const char **)(principal + 1);
    char *text = (char *)(roles + count);
    principal->subject = text;
    memcpy(text, subject.data, subject.size);
    text += subject.size + 1;
    for (size_t i = 0; i < rules->role_count; i++) {
        if ((role_bits >> i & 1) != 0) {
            roles[principal->role_count++] = text;
            text = stpcpy(text, rules->roles[i].name) + 1;
        }
    }
    CHECK(principal->role_count == count);
    atomic_init(&principal->references, 1);
    principal->kind = kind;
    principal->roles = roles;
    principal->expires_ms = expires_ms;
    principal->generation = rules->generation;
    principal->role_bits = role_bits;
    *out = principal;
    return 0;
}

struct principal *principal_keep(struct principal *principal)
{
    atomic_fetch_add_explicit(&principal->references, 1, memory_order_relaxed);
    return principal;
}

void principal_drop(struct principal *principal)
{
    if (principal != NULL && references_drop(&principal->references)) {
        free(principal);
    }
}

bool principal_is_expired(const struct principal *principal, int64_t now_ms)
{
    return now_ms >= principal->expires_ms;
}

bool auth_is_subject(struct bytes subject)
{
    if (subject.size == 0 || subject.size > AUTH_SUBJECT_BYTES_MAX || !bytes_is_utf8(subject)) {
        return false;
    }
    const char *data = subject.data;
    for (size_t i = 0; i < subject.size;) {
        size_t size = bytes_utf8_character((struct bytes){data + i, subject.size - i});
        if (text_is_control(text_code_point((struct bytes){data + i, size}))) {
            return false;
        }
        i += size;
    }
    return true;
}
