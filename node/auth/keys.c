/* The keys of tokens: <kid>.pem in one directory. */
#include "auth/auth_internal.h"
#include "auth/secret_file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool auth_is_key_file(const char *name)
{
    size_t size = strlen(name);
    size_t suffix = strlen(AUTH_KEY_SUFFIX);
    return name[0] != '.' && size > suffix && strcmp(name + size - suffix, AUTH_KEY_SUFFIX) == 0;
}

static int is_key_entry(const struct dirent *entry)
{
    return auth_is_key_file(entry->d_name);
}

/* Who may write the directory may add a key. */
static int check_directory(const char *path, const struct auth_error *error)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        int number = errno;
        snprintf(error->text, error->size, "%s: cannot be read: %s", path, strerror(number));
        return number == ENOENT || number == ENOTDIR ? ERR_NOT_FOUND
               : number == EACCES                    ? ERR_ACCESS
                                                     : ERR_IO;
    }
    if (!S_ISDIR(status.st_mode)) {
        snprintf(error->text, error->size, "%s: is not a directory", path);
        return ERR_INVALID;
    }
    mode_t mode = status.st_mode & ~(mode_t)(S_IROTH | S_IRGRP);
    if (secret_file_check_mode(path, mode, status.st_gid, error->text, error->size) != 0) {
        snprintf(error->text, error->size,
                 "%s: others can write to this directory (mode %04o); run: chmod 0755 %s", path,
                 (unsigned)(status.st_mode & 07777), path);
        return ERR_ACCESS;
    }
    return 0;
}

/* What a token of this key proves depends on all these. */
static void make_credential(const struct auth_rules *rules, struct auth_key *key)
{
    struct bytes pem = token_key_public_pem(key->key);
    struct buf text = {0};
    buf_append_text(&text, key->kid);
    buf_append_byte(&text, 0);
    buf_append_text(&text, rules->issuer);
    buf_append_byte(&text, 0);
    buf_append_text(&text, rules->audience);
    buf_append_byte(&text, 0);
    buf_append(&text, pem.data, pem.size);
    SHA256(text.data, text.size, key->credential);
    buf_finish(&text);
}

static int load_key(struct auth_rules *rules, const char *name, const struct auth_error *error)
{
    char path[PATH_MAX + 8];
    struct auth_key *key = &rules->keys[rules->key_count];
    size_t kid_size = strlen(name) - strlen(AUTH_KEY_SUFFIX);
    snprintf(path, sizeof(path), "%.*s/%s", AUTH_PATH_BYTES_MAX, rules->keys_dir, name);
    if (kid_size > AUTH_KID_BYTES_MAX) {
        snprintf(error->text, error->size, "%s: the name before .pem is longer than %d bytes", path,
                 AUTH_KID_BYTES_MAX);
        return ERR_INVALID;
    }
    memcpy(key->kid, name, kid_size);
    struct buf pem = {0};
    const char *reason = NULL;
    int rc = secret_file_read(path, TOKEN_KEY_BYTES_MAX, &pem, error->text, error->size);
    if (rc == 0) {
        rc = token_key_read_public(buf_bytes(&pem), &key->key, &reason);
        if (rc == ERR_INVALID) {
            snprintf(error->text, error->size, "%s: %s", path, reason);
        }
    }
    buf_finish(&pem);
    if (rc == 0) {
        make_credential(rules, key);
        rules->key_count++;
    }
    return rc;
}

int auth_load_keys(struct auth_rules *rules, const struct auth_error *error)
{
    int rc = check_directory(rules->keys_dir, error);
    if (rc != 0) {
        return rc;
    }
    struct dirent **entries = NULL;
    int count = scandir(rules->keys_dir, &entries, is_key_entry, alphasort);
    if (count < 0) {
        snprintf(error->text, error->size, "%s: cannot be read: %s", rules->keys_dir,
                 strerror(errno));
        return errno == ENOMEM ? ERR_NOMEM : errno == EACCES ? ERR_ACCESS : ERR_IO;
    }
    if (count == 0 || count > AUTH_KEYS_MAX) {
        snprintf(error->text, error->size, "%s: %s", rules->keys_dir,
                 count == 0 ? "holds no key; name public keys <kid>.pem"
                            : "holds more than 256 keys");
        static_assert(AUTH_KEYS_MAX == 256, "the text above names it");
        rc = ERR_INVALID;
    } else {
        rules->keys = calloc((size_t)count, sizeof(*rules->keys));
        rc = rules->keys == NULL ? ERR_NOMEM : 0;
    }
    for (int i = 0; i < count; i++) {
        if (rc == 0) {
            rc = load_key(rules, entries[i]->d_name, error);
        }
        free(entries[i]);
    }
    free(entries);
    return rc;
}

const struct auth_key *auth_find_key(const struct auth_rules *rules, const char *kid)
{
    for (size_t i = 0; i < rules->key_count; i++) {
        if (strcmp(rules->keys[i].kid, kid) == 0) {
            return &rules->keys[i];
        }
    }
    return NULL;
}
