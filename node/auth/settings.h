/* The section `auth` of the configuration as plain data: config fills it, auth reads it. */
#ifndef RAFTOGRAM_AUTH_SETTINGS_H
#define RAFTOGRAM_AUTH_SETTINGS_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define AUTH_PATH_BYTES_MAX (PATH_MAX - 256)
#define AUTH_SUBJECT_BYTES_MAX 256
#define AUTH_ROLE_BYTES_MAX 64
#define AUTH_PATTERN_BYTES_MAX 256 /* as a channel's id and a key */
#define AUTH_ISSUER_BYTES_MAX 512
#define AUTH_ROLES_MAX 64 /* a set of roles is a uint64_t */
#define AUTH_PATTERNS_MAX 64
#define AUTH_CERTIFICATES_MAX 256
#define AUTH_CERTIFICATE_ROLES_MAX 16

enum auth_mode { AUTH_MODE_OFF, AUTH_MODE_REQUIRED };

/* Bits of a set. */
enum auth_right {
    /* on a channel */
    AUTH_READ = 1 << 0,
    AUTH_SEND = 1 << 1,
    AUTH_CREATE = 1 << 2,
    AUTH_SEND_AS = 1 << 3,
    AUTH_MODERATE = 1 << 4,
    AUTH_MANAGE = 1 << 5,
    /* on a key */
    AUTH_KV_READ = 1 << 8,
    AUTH_KV_WRITE = 1 << 9,
    /* on the cluster */
    AUTH_STATUS = 1 << 16,
    AUTH_OPERATE = 1 << 17,
    AUTH_BACKUP = 1 << 18,
};
#define AUTH_CHANNEL_RIGHTS 0xffu
#define AUTH_KV_RIGHTS 0xff00u
#define AUTH_CLUSTER_RIGHTS 0xff0000u

struct auth_pattern {
    char text[AUTH_PATTERN_BYTES_MAX + 1]; /* the whole name, or its beginning and `*` */
    uint32_t rights;
};

struct auth_role {
    char name[AUTH_ROLE_BYTES_MAX + 1];
    struct auth_pattern channels[AUTH_PATTERNS_MAX];
    size_t channel_count;
    struct auth_pattern kv[AUTH_PATTERNS_MAX];
    size_t kv_count;
    uint32_t cluster; /* rights */
};

struct auth_certificate {
    char name[AUTH_SUBJECT_BYTES_MAX + 1]; /* the first subject alternative name */
    char roles[AUTH_CERTIFICATE_ROLES_MAX][AUTH_ROLE_BYTES_MAX + 1];
    size_t role_count;
};

struct auth_jwt {
    char keys_dir[AUTH_PATH_BYTES_MAX + 1];    /* of <kid>.pem; "": no tokens */
    char issuer[AUTH_ISSUER_BYTES_MAX + 1];    /* "": any */
    char audience[AUTH_SUBJECT_BYTES_MAX + 1]; /* "": any */
    uint64_t clock_skew_ns;
    uint64_t max_lifetime_ns;
};

struct auth_settings {
    uint32_t mode; /* enum auth_mode */
    struct auth_jwt jwt;
    char users_file[AUTH_PATH_BYTES_MAX + 1]; /* "": no users */
    struct auth_certificate certificates[AUTH_CERTIFICATES_MAX];
    size_t certificate_count;
    struct auth_role roles[AUTH_ROLES_MAX];
    size_t role_count;
};

#endif
