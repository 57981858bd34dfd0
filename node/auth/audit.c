/* The audit file: its queue, its thread, and reopening. */
#include "auth/audit.h"

#include "auth/secret_file.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/list.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct audit_line {
    struct list link;
    size_t size;
    char text[];
};

struct audit {
    char *node_id;
    atomic_uint_fast64_t dropped;
    pthread_t thread;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    struct list lines;
    size_t queued_bytes; /* with what the thread is writing */
    uint64_t untold;     /* lines dropped since the last notice */
    int fd;
    int next_fd; /* of audit_switch(); -1: none */
    bool is_stopping;
};

/* ---- the file ---- */

int audit_open_file(const char *path, int *fd, char *error, size_t error_size)
{
    int opened =
        open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (opened < 0) {
        int number = errno;
        snprintf(error, error_size, "%s: cannot be written: %s", path, strerror(number));
        return number == ENOENT || number == ENOTDIR ? ERR_NOT_FOUND
               : number == EACCES || number == EPERM ? ERR_ACCESS
                                                     : ERR_IO;
    }
    struct stat status;
    int rc = 0;
    if (fstat(opened, &status) != 0) {
        snprintf(error, error_size, "%s: %s", path, strerror(errno));
        rc = ERR_IO;
    } else if (S_ISREG(status.st_mode) && (status.st_mode & S_IWOTH) != 0) {
        snprintf(error, error_size, "%s: others can write to it; run: chmod 0600 %s", path, path);
        rc = ERR_ACCESS;
    } else if (!S_ISREG(status.st_mode) && !S_ISCHR(status.st_mode)) {
        snprintf(error, error_size, "%s: is not a regular file", path);
        rc = ERR_INVALID;
    }
    if (rc != 0) {
        close(opened);
        return rc;
    }
    *fd = opened;
    return 0;
}

static bool write_text(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, text, size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return false;
        }
        text += written;
        size -= (size_t)written;
    }
    return true;
}

/* ---- lines ---- */

static void format_time(int64_t time_ms, char out[static 40])
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm parts;
    char text[24] = "";
    if (gmtime_r(&seconds, &parts) != NULL) {
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    }
    snprintf(out, 40, "%s.%03dZ", text, (int)(time_ms % 1000));
}

/* A JSON string of any bytes; NULL becomes null. */
static json_t *text_value(struct bytes bytes)
{
    char clean[3 * AUDIT_TEXT_BYTES_MAX + 1];
    size_t size = 0;
    if (bytes.data == NULL) {
        return json_null();
    }
    const char *data = bytes.data;
    for (size_t i = 0; i < bytes.size && i < AUDIT_TEXT_BYTES_MAX;) {
        struct bytes rest = {data + i, bytes.size - i};
        size_t count = bytes_utf8_character(rest);
        memcpy(clean + size, count > 0 ? data + i : "\xef\xbf\xbd", count > 0 ? count : 3);
        size += count > 0 ? count : 3;
        i += count > 0 ? count : 1;
    }
    return json_stringn(clean, size);
}

static struct bytes bytes_of(const char *text)
{
    return text == NULL ? (struct bytes){NULL, 0} : bytes_of_text(text);
}

/* NULL without memory. */
static struct audit_line *make_line(const struct audit *audit, const struct audit_event *event)
{
    char time[40];
    format_time(event->time_ms, time);
    json_t *json = json_pack(
        "{ss ss so so so so so}", "time", time, "node", audit->node_id, "subject",
        text_value(bytes_of(event->subject)), "address", text_value(bytes_of(event->address)),
        "method", text_value(bytes_of(event->method)), "target", text_value(event->target),
        "result", text_value(bytes_of(event->result)));
    if (json == NULL) {
        return NULL;
    }
    size_t size = json_dumpb(json, NULL, 0, JSON_COMPACT | JSON_ENSURE_ASCII);
    struct audit_line *line = size == 0 ? NULL : malloc(sizeof(*line) + size + 1);
    if (line != NULL) {
        line->size = json_dumpb(json, line->text, size, JSON_COMPACT | JSON_ENSURE_ASCII) + 1;
        line->text[line->size - 1] = '\n';
    }
    json_decref(json);
    return line;
}

/* With the lock held. Takes the line; false: it was dropped. */
static bool enqueue(struct audit *audit, struct audit_line *line)
{
    if (line == NULL || audit->queued_bytes + line->size > AUDIT_QUEUE_BYTES ||
        audit->is_stopping) {
        free(line);
        return false;
    }
    audit->queued_bytes += line->size;
    list_push_back(&audit->lines, &line->link);
    pthread_cond_broadcast(&audit->changed);
    return true;
}

static void drop(struct audit *audit, uint64_t lines)
{
    atomic_fetch_add(&audit->dropped, lines);
    audit->untold += lines;
}

/* With the lock held: what was dropped is told before the next line. */
static void enqueue_notice(struct audit *audit, int64_t time_ms)
{
    char result[48];
    snprintf(result, sizeof(result), "DROPPED %" PRIu64, audit->untold);
    const struct audit_event notice = {.time_ms = time_ms, .method = "audit", .result = result};
    if (enqueue(audit, make_line(audit, &notice))) {
        audit->untold = 0;
    }
}

void audit_write(struct audit *audit, const struct audit_event *event)
{
    if (audit == NULL) {
        return;
    }
    struct audit_line *line = make_line(audit, event);
    pthread_mutex_lock(&audit->lock);
    if (audit->untold > 0) {
        enqueue_notice(audit, event->time_ms);
    }
    if (!enqueue(audit, line)) {
        drop(audit, 1);
    }
    pthread_mutex_unlock(&audit->lock);
}

uint64_t audit_dropped_total(const struct audit *audit)
{
    return audit == NULL ? 0 : atomic_load(&audit->dropped);
}

/* ---- the thread ---- */

/* With the lock held, and not while it writes. */
static void take_next_file(struct audit *audit)
{
    if (audit->next_fd >= 0) {
        close(audit->fd);
        audit->fd = audit->next_fd;
        audit->next_fd = -1;
    }
}

static void *run(void *context)
{
    struct audit *audit = context;
    pthread_mutex_lock(&audit->lock);
    for (;;) {
        take_next_file(audit);
        struct list *link = list_pop_front(&audit->lines);
        if (link == NULL && audit->is_stopping) {
            break;
        }
        if (link == NULL) {
            pthread_cond_wait(&audit->changed, &audit->lock);
            continue;
        }
        struct audit_line *line = LIST_ENTRY(link, struct audit_line, link);
        int fd = audit->fd;
        pthread_mutex_unlock(&audit->lock);
        bool is_written = write_text(fd, line->text, line->size);
        pthread_mutex_lock(&audit->lock);
        audit->queued_bytes -= line->size;
        if (!is_written) {
            drop(audit, 1);
        }
        free(line);
        pthread_cond_broadcast(&audit->changed);
    }
    pthread_mutex_unlock(&audit->lock);
    return NULL;
}

static int start_thread(struct audit *audit)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&audit->thread, NULL, run, audit);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return ERR_NOMEM;
    }
    (void)pthread_setname_np(audit->thread, "audit");
    return 0;
}

static int init_locks(struct audit *audit)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0) {
        return ERR_NOMEM;
    }
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int error = pthread_cond_init(&audit->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (error != 0) {
        return ERR_NOMEM;
    }
    if (pthread_mutex_init(&audit->lock, NULL) != 0) {
        pthread_cond_destroy(&audit->changed);
        return ERR_NOMEM;
    }
    return 0;
}

int audit_create(const char *node_id, int fd, struct audit **out)
{
    int rc = ERR_NOMEM;
    struct audit *audit = calloc(1, sizeof(*audit));
    if (audit == NULL) {
        goto close_file;
    }
    audit->fd = fd;
    audit->next_fd = -1;
    list_init(&audit->lines);
    audit->node_id = strdup(node_id);
    if (audit->node_id == NULL || init_locks(audit) != 0) {
        goto free_memory;
    }
    rc = start_thread(audit);
    if (rc != 0) {
        goto finish_locks;
    }
    *out = audit;
    return 0;
finish_locks:
    pthread_mutex_destroy(&audit->lock);
    pthread_cond_destroy(&audit->changed);
free_memory:
    free(audit->node_id);
    free(audit);
close_file:
    close(fd);
    return rc;
}

void audit_switch(struct audit *audit, int fd)
{
    pthread_mutex_lock(&audit->lock);
    if (audit->next_fd >= 0) {
        close(audit->next_fd);
    }
    audit->next_fd = fd;
    pthread_cond_broadcast(&audit->changed);
    pthread_mutex_unlock(&audit->lock);
}

bool audit_flush(struct audit *audit, uint32_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int error = 0;
    pthread_mutex_lock(&audit->lock);
    while (audit->queued_bytes > 0 && error == 0) {
        error = pthread_cond_timedwait(&audit->changed, &audit->lock, &until);
    }
    bool is_flushed = audit->queued_bytes == 0;
    pthread_mutex_unlock(&audit->lock);
    return is_flushed;
}

void audit_destroy(struct audit *audit)
{
    if (audit == NULL) {
        return;
    }
    pthread_mutex_lock(&audit->lock);
    audit->is_stopping = true;
    pthread_cond_broadcast(&audit->changed);
    pthread_mutex_unlock(&audit->lock);
    (void)pthread_join(audit->thread, NULL);
    CHECK(list_is_empty(&audit->lines));
    if (audit->next_fd >= 0) {
        close(audit->next_fd);
    }
    close(audit->fd);
    pthread_mutex_destroy(&audit->lock);
    pthread_cond_destroy(&audit->changed);
    free(audit->node_id);
    free(audit);
}
