/* The rules: loading, reloading, and their reference counts. */
#include "auth/auth.h"

#include "auth/auth_internal.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/references.h"

#include <dirent.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct auth {
    pthread_mutex_t lock; /* of both below */
    struct auth_rules *rules;
    uint64_t generation;
    /* What was looked at last, and how it looked. One thread at a time. */
    char *keys_dir;
    char *users_file;
    uint8_t seen[AUTH_DIGEST_BYTES];
};

/* ---- how the files look ---- */

static void note_file(struct buf *out, const char *path, const char *name)
{
    struct stat status;
    buf_append_text(out, name);
    buf_append_byte(out, 0);
    if (stat(path, &status) == 0) {
        buf_append_u64(out, (uint64_t)status.st_dev);
        buf_append_u64(out, (uint64_t)status.st_ino);
        buf_append_u64(out, (uint64_t)status.st_size);
        buf_append_u64(out, (uint64_t)status.st_mode);
        buf_append_u64(out, (uint64_t)status.st_mtim.tv_sec);
        buf_append_u64(out, (uint64_t)status.st_mtim.tv_nsec);
        buf_append_u64(out, (uint64_t)status.st_ctim.tv_sec);
        buf_append_u64(out, (uint64_t)status.st_ctim.tv_nsec);
    }
}

static int is_key_entry(const struct dirent *entry)
{
    return auth_is_key_file(entry->d_name);
}

static void look(const char *keys_dir, const char *users_file, uint8_t out[AUTH_DIGEST_BYTES])
{
    struct buf text = {0};
    struct dirent **entries = NULL;
    int count = keys_dir[0] == '\0' ? 0 : scandir(keys_dir, &entries, is_key_entry, alphasort);
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX + 8];
        snprintf(path, sizeof(path), "%.*s/%s", AUTH_PATH_BYTES_MAX, keys_dir, entries[i]->d_name);
        note_file(&text, path, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    note_file(&text, users_file, "");
    SHA256(text.data, text.size, out);
    buf_finish(&text);
}

static void free_text(char **text)
{
    free(*text);
    *text = NULL;
}

/* Errors: ERR_NOMEM. */
static int remember(struct auth *auth, const struct auth_settings *settings)
{
    bool is_used = settings->mode != AUTH_MODE_OFF;
    char *keys_dir = strdup(is_used ? settings->jwt.keys_dir : "");
    char *users_file = strdup(is_used ? settings->users_file : "");
    if (keys_dir == NULL || users_file == NULL) {
        free(keys_dir);
        free(users_file);
        return ERR_NOMEM;
    }
    free_text(&auth->keys_dir);
    free_text(&auth->users_file);
    auth->keys_dir = keys_dir;
    auth->users_file = users_file;
    look(keys_dir, users_file, auth->seen);
    return 0;
}

bool auth_has_changed(struct auth *auth)
{
    uint8_t now[AUTH_DIGEST_BYTES];
    look(auth->keys_dir, auth->users_file, now);
    return memcmp(now, auth->seen, sizeof(now)) != 0;
}

/* ---- rules ---- */

static void free_rules(struct auth_rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(rules[i].prefix);
    }
    free(rules);
}

static void destroy_rules(struct auth_rules *rules)
{
    auth_cache_finish(&rules->tokens);
    auth_cache_finish(&rules->logins);
    for (size_t i = 0; i < rules->role_count; i++) {
        free_rules(rules->roles[i].channels, rules->roles[i].channel_count);
        free_rules(rules->roles[i].kv, rules->roles[i].kv_count);
    }
    for (size_t i = 0; i < rules->key_count; i++) {
        token_key_destroy(rules->keys[i].key);
    }
    for (size_t i = 0; i < rules->user_count; i++) {
        free(rules->users[i].name);
    }
    for (size_t i = 0; i < rules->certificate_count; i++) {
        free(rules->certificates[i].name);
    }
    free(rules->roles);
    free(rules->keys);
    free(rules->users);
    free(rules->certificates);
    free(rules->issuer);
    free(rules->audience);
    free(rules->keys_dir);
    free(rules->users_file);
    OPENSSL_cleanse(rules->secret, sizeof(rules->secret));
    free(rules);
}

static int create_rules(const struct auth_settings *settings, struct auth_rules **out)
{
    struct auth_rules *rules = calloc(1, sizeof(*rules));
    if (rules == NULL) {
        return ERR_NOMEM;
    }
    if (auth_cache_init(&rules->tokens, AUTH_TOKENS_CACHED_MAX) != 0) {
        goto free_memory;
    }
    if (auth_cache_init(&rules->logins, AUTH_USERS_CACHED_MAX) != 0) {
        goto finish_tokens;
    }
    atomic_init(&rules->references, 1);
    rules->is_required = settings->mode != AUTH_MODE_OFF;
    rules->clock_skew_ms = (int64_t)(settings->jwt.clock_skew_ns / NS_PER_MS);
    rules->max_lifetime_ms = (int64_t)(settings->jwt.max_lifetime_ns / NS_PER_MS);
    rules->issuer = strdup(settings->jwt.issuer);
    rules->audience = strdup(settings->jwt.audience);
    rules->keys_dir = strdup(settings->jwt.keys_dir);
    rules->users_file = strdup(settings->users_file);
    random_bytes(rules->secret, sizeof(rules->secret));
    if (rules->issuer == NULL || rules->audience == NULL || rules->keys_dir == NULL ||
        rules->users_file == NULL) {
        destroy_rules(rules);
        return ERR_NOMEM;
    }
    *out = rules;
    return 0;
finish_tokens:
    auth_cache_finish(&rules->tokens);
free_memory:
    free(rules);
    return ERR_NOMEM;
}

static int fill_rules(struct auth_rules *rules, const struct auth_settings *settings,
                      const struct auth_error *error)
{
    if (!rules->is_required) {
        return 0;
    }
    if (rules->keys_dir[0] == '\0' && rules->users_file[0] == '\0' &&
        settings->certificate_count == 0) {
        snprintf(error->text, error->size,
                 "auth: nobody could log in; give auth.jwt.keys_dir, auth.users_file or "
                 "auth.certificate_roles");
        return ERR_INVALID;
    }
    int rc = auth_compile_roles(rules, settings, error);
    if (rc == 0 && rules->keys_dir[0] != '\0') {
        rc = auth_load_keys(rules, error);
    }
    if (rc == 0 && rules->users_file[0] != '\0') {
        rc = auth_load_users(rules, error);
    }
    return rc;
}

static int load(const struct auth_settings *settings, struct auth_rules **out,
                const struct auth_error *error)
{
    struct auth_rules *rules = NULL;
    snprintf(error->text, error->size, "auth: out of memory");
    int rc = create_rules(settings, &rules);
    if (rc != 0) {
        return rc;
    }
    rc = fill_rules(rules, settings, error);
    if (rc != 0) {
        destroy_rules(rules);
        return rc;
    }
    if (error->size > 0) {
        error->text[0] = '\0';
    }
    *out = rules;
    return 0;
}

int auth_open(const struct auth_settings *settings, struct auth **out, char *error,
              size_t error_size)
{
    struct auth *auth = calloc(1, sizeof(*auth));
    snprintf(error, error_size, "auth: out of memory");
    if (auth == NULL) {
        return ERR_NOMEM;
    }
    int rc = pthread_mutex_init(&auth->lock, NULL) == 0 ? 0 : ERR_NOMEM;
    if (rc != 0) {
        free(auth);
        return rc;
    }
    rc = auth_reload(auth, settings, error, error_size);
    if (rc != 0) {
        auth_close(auth);
        return rc;
    }
    *out = auth;
    return 0;
}

int auth_prepare(struct auth *auth, const struct auth_settings *settings, struct auth_rules **out,
                 char *error, size_t error_size)
{
    const struct auth_error place = {error, error_size};
    /* Before the files are read: one that changes meanwhile is noticed the next time. */
    int rc = remember(auth, settings);
    if (rc != 0) {
        snprintf(error, error_size, "auth: out of memory");
        return rc;
    }
    return load(settings, out, &place);
}

void auth_commit(struct auth *auth, struct auth_rules *rules)
{
    pthread_mutex_lock(&auth->lock);
    struct auth_rules *before = auth->rules;
    rules->generation = ++auth->generation;
    auth->rules = rules;
    pthread_mutex_unlock(&auth->lock);
    auth_release(before);
}

int auth_reload(struct auth *auth, const struct auth_settings *settings, char *error,
                size_t error_size)
{
    struct auth_rules *rules;
    int rc = auth_prepare(auth, settings, &rules, error, error_size);
    if (rc == 0) {
        auth_commit(auth, rules);
    }
    return rc;
}

void auth_close(struct auth *auth)
{
    if (auth == NULL) {
        return;
    }
    auth_release(auth->rules);
    pthread_mutex_destroy(&auth->lock);
    free(auth->keys_dir);
    free(auth->users_file);
    free(auth);
}

struct auth_rules *auth_acquire(struct auth *auth)
{
    pthread_mutex_lock(&auth->lock);
    struct auth_rules *rules = auth->rules;
    atomic_fetch_add_explicit(&rules->references, 1, memory_order_relaxed);
    pthread_mutex_unlock(&auth->lock);
    return rules;
}

void auth_release(struct auth_rules *rules)
{
    if (rules != NULL && references_drop(&rules->references)) {
        destroy_rules(rules);
    }
}

uint64_t auth_generation(const struct auth_rules *rules)
{
    return rules->generation;
}

bool auth_is_required(const struct auth_rules *rules)
{
    return rules->is_required;
}
