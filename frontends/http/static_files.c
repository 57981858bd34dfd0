/* Finds files of the page, embedded or in http.web_root, and their types. */
#include "static_files.h"

#include "base/checksum.h"
#include "base/errors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES_MAX 1024

static const char *resolve(const char *path)
{
    return strcmp(path, "/") == 0 ? "/index.html" : path;
}

const struct static_file *static_find(const char *path)
{
    const char *wanted = resolve(path);
    for (const struct static_file *file = embedded_files; file->path != NULL; file++) {
        if (strcmp(file->path, wanted) == 0) {
            return file;
        }
    }
    return NULL;
}

bool static_path_is_plain(const char *path)
{
    if (path[0] != '/') {
        return false;
    }
    for (const char *at = path; *at != '\0'; at++) {
        if (*at == '\\' || (unsigned char)*at < ' ') {
            return false;
        }
        if (*at == '/' && (at[1] == '.' || at[1] == '/' || at[1] == '\0')) {
            return false;
        }
    }
    return true;
}

static int read_all(int fd, size_t size, struct buf *out)
{
    uint8_t *data = buf_extend(out, size);
    if (data == NULL) {
        return ERR_NOMEM;
    }
    for (size_t at = 0; at < size;) {
        ssize_t count = read(fd, data + at, size - at);
        if (count > 0) {
            at += (size_t)count;
        } else if (count == 0 || errno != EINTR) {
            return ERR_IO; /* it shrank, or cannot be read */
        }
    }
    return 0;
}

int static_read(const char *root, const char *path, struct buf *out)
{
    char name[PATH_BYTES_MAX];
    const char *wanted = resolve(path);
    int length = snprintf(name, sizeof(name), "%s%s", root, wanted);
    if (!static_path_is_plain(wanted) || length < 0 || (size_t)length >= sizeof(name)) {
        return ERR_NOT_FOUND;
    }
    /* Opened without blocking, since it may be a pipe. */
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return ERR_NOT_FOUND;
    }
    struct stat status;
    int rc = 0;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        rc = ERR_NOT_FOUND;
    } else if ((uint64_t)status.st_size > STATIC_FILE_BYTES_MAX) {
        rc = ERR_FULL;
    } else {
        rc = read_all(fd, (size_t)status.st_size, out);
    }
    close(fd);
    return rc;
}

const char *static_type(const char *path)
{
    static const struct {
        const char *ending;
        const char *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/x-icon"},
        {".json", "application/json"},
        {".webmanifest", "application/manifest+json"},
        {".woff2", "font/woff2"},
        {".txt", "text/plain; charset=utf-8"},
        {".map", "application/json"},
    };
    const char *ending = strrchr(resolve(path), '.');
    for (size_t i = 0; ending != NULL && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcasecmp(ending, types[i].ending) == 0) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}

void static_etag(struct bytes content, char out[STATIC_ETAG_BYTES])
{
    snprintf(out, STATIC_ETAG_BYTES, "\"%016llx\"",
             (unsigned long long)checksum64(content.data, content.size));
}

bool static_etag_matches(const char *header, const char *etag)
{
    size_t size = strlen(etag);
    for (const char *at = header; *at != '\0';) {
        at += strspn(at, " \t,");
        if (*at == '*') {
            return true;
        }
        /* If-None-Match compares weakly (RFC 9110, 13.1.2). */
        if (strncmp(at, "W/", 2) == 0) {
            at += 2;
        }
        size_t length = strcspn(at, ",");
        while (length > 0 && (at[length - 1] == ' ' || at[length - 1] == '\t')) {
            length--;
        }
        if (length == size && strncmp(at, etag, size) == 0) {
            return true;
        }
        at += strcspn(at, ",");
    }
    return false;
}
