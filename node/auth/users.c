/* The users file: a line is name:argon2id-hash:role,role. Empty lines and those that begin with `#`
 * are skipped. */
#include "auth/auth_internal.h"
#include "auth/secret_file.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USERS_FILE_BYTES_MAX (4u << 20)
#define HASH_BYTES_MAX 512
/* Bounds on what one login costs. */
#define HASH_MEMORY_KIB_MIN 8
#define HASH_MEMORY_KIB_MAX (256u << 10)
#define HASH_PASSES_MAX 64
#define HASH_LANES_MAX 16
#define HASH_SALT_BYTES_MIN 8
#define HASH_SALT_BYTES_MAX 64
#define HASH_RESULT_BYTES_MIN 16
#define HASH_RESULT_BYTES_MAX 128

/* Reads `NAME=NUMBER` and what must follow it. */
static bool read_number(const char **at, const char *name, char end, uint32_t min, uint32_t max)
{
    size_t size = strlen(name);
    if (strncmp(*at, name, size) != 0) {
        return false;
    }
    uint32_t value = 0;
    const char *digit = *at + size;
    for (; *digit >= '0' && *digit <= '9' && value <= max; digit++) {
        value = value * 10 + (uint32_t)(*digit - '0');
    }
    if (digit == *at + size || *digit != end || value < min || value > max) {
        return false;
    }
    *at = digit + 1;
    return true;
}

/* Base64 without padding, up to `end`. */
static bool read_base64(const char **at, char end, size_t min, size_t max)
{
    size_t size = strspn(*at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    size_t decoded = size * 3 / 4;
    if ((*at)[size] != end || size % 4 == 1 || decoded < min || decoded > max) {
        return false;
    }
    *at += size + (end != '\0');
    return true;
}

/* libargon2 tells a faulty hash from a wrong password only when somebody logs in. */
static bool is_hash(const char *text)
{
    static const char prefix[] = "$argon2id$v=19$";
    const char *at = text + strlen(prefix);
    return strlen(text) <= HASH_BYTES_MAX && strncmp(text, prefix, strlen(prefix)) == 0 &&
           read_number(&at, "m=", ',', HASH_MEMORY_KIB_MIN, HASH_MEMORY_KIB_MAX) &&
           read_number(&at, "t=", ',', 1, HASH_PASSES_MAX) &&
           read_number(&at, "p=", '$', 1, HASH_LANES_MAX) &&
           read_base64(&at, '$', HASH_SALT_BYTES_MIN, HASH_SALT_BYTES_MAX) &&
           read_base64(&at, '\0', HASH_RESULT_BYTES_MIN, HASH_RESULT_BYTES_MAX);
}

/* Returns NULL, or why the list is not acceptable. */
static const char *read_roles(const struct auth_rules *rules, char *list, uint64_t *out)
{
    while (list != NULL && *list != '\0') {
        char *name = strsep(&list, ",");
        int role = auth_find_role(rules, bytes_of_text(name));
        if (role < 0) {
            return "names a role that auth.roles does not have";
        }
        *out |= UINT64_C(1) << role;
    }
    return NULL;
}

/* Returns NULL, or why the line is not acceptable. The user's memory is freed with the rules. */
static const char *read_user(const struct auth_rules *rules, char *line, struct auth_user *out,
                             int *rc)
{
    char *rest = line;
    char *name = strsep(&rest, ":");
    char *hash = strsep(&rest, ":");
    char *roles = rest;
    if (roles == NULL || strchr(roles, ':') != NULL) {
        return "is not name:argon2id-hash:role,role";
    }
    if (!auth_is_subject(bytes_of_text(name))) {
        return "has a name that is empty, longer than 256 bytes or not printable UTF-8";
    }
    if (auth_find_user(rules, bytes_of_text(name)) != NULL) {
        return "has a name that an earlier line has";
    }
    if (!is_hash(hash)) {
        return "has no argon2id hash as the program argon2 -id -e writes it, of at most 256 MiB "
               "of memory";
    }
    const char *reason = read_roles(rules, roles, &out->role_bits);
    if (reason != NULL) {
        return reason;
    }
    size_t name_size = strlen(name) + 1;
    out->name = malloc(name_size + strlen(hash) + 1);
    if (out->name == NULL) {
        *rc = ERR_NOMEM;
        return "cannot be kept: out of memory";
    }
    memcpy(out->name, name, name_size);
    out->hash = out->name + name_size;
    memcpy(out->hash, hash, strlen(hash) + 1);
    SHA256((const unsigned char *)hash, strlen(hash), out->credential);
    return NULL;
}

static int read_lines(struct auth_rules *rules, char *text, const struct auth_error *error)
{
    int number = 0;
    while (text != NULL) {
        char *line = strsep(&text, "\n");
        number++;
        line[strcspn(line, "\r")] = '\0';
        if (line[0] == '\0' || line[0] == '#') {
            continue;
        }
        int rc = ERR_INVALID;
        const char *reason = "is one user too many: 10000 are allowed";
        if (rules->user_count < AUTH_USERS_MAX) {
            reason = read_user(rules, line, &rules->users[rules->user_count], &rc);
        }
        if (reason != NULL) {
            snprintf(error->text, error->size, "%s:%d: %s", rules->users_file, number, reason);
            return rc;
        }
        rules->user_count++;
    }
    return 0;
}

int auth_load_users(struct auth_rules *rules, const struct auth_error *error)
{
    struct buf text = {0};
    int rc =
        secret_file_read(rules->users_file, USERS_FILE_BYTES_MAX, &text, error->text, error->size);
    if (rc != 0) {
        goto finish_text;
    }
    if (text.size > 0 && memchr(text.data, '\0', text.size) != NULL) {
        snprintf(error->text, error->size, "%s: contains a NUL character", rules->users_file);
        rc = ERR_INVALID;
        goto finish_text;
    }
    rules->users = calloc(AUTH_USERS_MAX, sizeof(*rules->users));
    buf_append_byte(&text, '\0');
    if (rules->users == NULL || buf_failed(&text)) {
        rc = ERR_NOMEM;
        goto finish_text;
    }
    rc = read_lines(rules, (char *)text.data, error);
finish_text:
    buf_finish(&text);
    return rc;
}

const struct auth_user *auth_find_user(const struct auth_rules *rules, struct bytes name)
{
    for (size_t i = 0; i < rules->user_count; i++) {
        if (bytes_equal(name, bytes_of_text(rules->users[i].name))) {
            return &rules->users[i];
        }
    }
    return NULL;
}
