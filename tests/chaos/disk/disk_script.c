/* Does what its arguments say, for the tests of faulty_disk.c: each is one step.
 *
 *   create=NAME  open=NAME  dsync=NAME   the file that the next steps are about
 *   write=OFFSET:LETTER:COUNT  truncate=SIZE  sync
 *   mkdir=NAME  unlink=NAME  rename=FROM:TO  syncdir=NAME
 *
 * Names are relative to the first argument. Exit code 1 and errno's text when a step fails. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COUNT_MAX = 1 << 20 };

static const char *home;
static int file = -1;

static const char *path_of(const char *name, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s", home, name);
    return path;
}

static bool open_file(const char *name, int flags)
{
    char path[PATH_MAX];
    if (file >= 0) {
        close(file);
    }
    file = open(path_of(name, path), flags | O_CLOEXEC, 0600);
    return file >= 0;
}

static bool write_letters(const char *text)
{
    char letter;
    long offset, count;
    if (sscanf(text, "%ld:%c:%ld", &offset, &letter, &count) != 3 || count > COUNT_MAX) {
        return false;
    }
    char *data = malloc((size_t)count);
    if (data == NULL) {
        return false;
    }
    memset(data, letter, (size_t)count);
    bool is_done = pwrite(file, data, (size_t)count, offset) == count;
    free(data);
    return is_done;
}

static bool rename_file(char *text)
{
    char from[PATH_MAX], to[PATH_MAX];
    char *colon = strchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    *colon = '\0';
    return rename(path_of(text, from), path_of(colon + 1, to)) == 0;
}

static bool sync_directory(const char *name)
{
    char path[PATH_MAX];
    int fd = open(path_of(name, path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_done = fd >= 0 && fsync(fd) == 0;
    close(fd);
    return is_done;
}

static bool do_step(const char *what, char *value)
{
    char path[PATH_MAX];
    if (strcmp(what, "create") == 0) {
        return open_file(value, O_RDWR | O_CREAT | O_EXCL);
    }
    if (strcmp(what, "open") == 0) {
        return open_file(value, O_RDWR);
    }
    if (strcmp(what, "dsync") == 0) {
        return open_file(value, O_RDWR | O_DSYNC);
    }
    if (strcmp(what, "write") == 0) {
        return write_letters(value);
    }
    if (strcmp(what, "truncate") == 0) {
        return ftruncate(file, atol(value)) == 0;
    }
    if (strcmp(what, "sync") == 0) {
        return fdatasync(file) == 0;
    }
    if (strcmp(what, "mkdir") == 0) {
        return mkdir(path_of(value, path), 0700) == 0;
    }
    if (strcmp(what, "unlink") == 0) {
        return unlink(path_of(value, path)) == 0;
    }
    if (strcmp(what, "rename") == 0) {
        return rename_file(value);
    }
    return strcmp(what, "syncdir") == 0 && sync_directory(value);
}

int main(int count, char **arguments)
{
    home = arguments[1];
    for (int i = 2; i < count; i++) {
        char *value = strchr(arguments[i], '=');
        if (value != NULL) {
            *value++ = '\0';
        }
        if (!do_step(arguments[i], value == NULL ? (char[]){""} : value)) {
            fprintf(stderr, "%s: %s\n", arguments[i], strerror(errno));
            return 1;
        }
    }
    return 0;
}
