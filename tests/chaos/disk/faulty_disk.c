/* A disk that can be cut off: preloaded into the daemon (LD_PRELOAD), it notes what each write and
 * each change of a name would lose if the power failed now, and it fails on command.
 *
 *   RAFTOGRAM_CHAOS_DIR      only what is below this directory is looked at (absolute)
 *   RAFTOGRAM_CHAOS_CONTROL  a file of uint32_t, see enum control; written to at any time
 *   RAFTOGRAM_CHAOS_JOURNAL  where the notes go, on the same file system; absent: none are kept
 *
 * The notes outlive the process: what a killed process had not synced is still not on the disk.
 * A power cut is then SIGKILL, and disk/powercut.mjs takes back a random part of what was noted:
 *
 *   JOURNAL/<inode>.undo  struct note, each followed by the bytes that were there before; emptied
 *                         by a successful fsync or fdatasync of the file
 *   JOURNAL/names         one line for each change of a name, and for each fsync of a directory
 *   JOURNAL/saved/<n>     links to files that an unsynced change has unlinked or replaced
 *
 * An O_DSYNC write makes its own range durable and nothing else. Writes through mmap are not seen:
 * LMDB makes none here but to its table of readers, which does not outlive a process. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum control {
    CONTROL_SYNC_EIO,      /* fsync and fdatasync fail */
    CONTROL_NO_SPACE,      /* what needs new blocks or names fails with ENOSPC */
    CONTROL_SYNC_DELAY_US, /* each fsync and fdatasync takes so much longer */
    CONTROL_WRITE_EIO,     /* writes fail */
    CONTROL_READ_EIO,      /* reads by pread fail */
    CONTROL_WORDS,
};

enum { FILES_MAX = 4096, SAVED_MAX = 4096, INODE_LOCKS = 64, NAME_LINE_MAX = 3 * PATH_MAX };
enum { DELAY_SLICE_US = 10000 };

enum note_kind {
    NOTE_WRITE,   /* [offset, offset + size) was written; the first `old_size` bytes follow */
    NOTE_SIZE,    /* the file was cut or grown to `offset`; the bytes that were cut off follow */
    NOTE_BARRIER, /* [offset, offset + size) is durable: nothing before this is undone there */
};

#define NOTE_MAGIC 0x4f444e55u

struct note {
    uint32_t magic;
    uint32_t kind;
    uint64_t offset;
    uint64_t size;
    uint64_t old_size;
    uint64_t file_size; /* before it */
};

struct tracked {
    bool is_open;
    bool is_dsync;
    ino_t inode;
    int notes; /* the journal's file */
};

/* What a sync of `directory` makes superfluous. */
struct saved {
    char *directories[2];
    char *path;
};

static struct {
    pthread_mutex_t names_lock; /* also of the table of open files */
    pthread_mutex_t inode_locks[INODE_LOCKS];
    const char *dir;
    size_t dir_size;
    const char *journal;
    bool is_lying;
    volatile uint32_t *control;
    int names;
    unsigned saved_next;
    struct saved saved[SAVED_MAX];
    struct tracked files[FILES_MAX];
} disk = {.names_lock = PTHREAD_MUTEX_INITIALIZER, .names = -1};

static struct {
    int (*openat)(int, const char *, int, ...);
    int (*close)(int);
    ssize_t (*pread)(int, void *, size_t, off_t);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    int (*ftruncate)(int, off_t);
    int (*fsync)(int);
    int (*fdatasync)(int);
    int (*rename)(const char *, const char *);
    int (*unlinkat)(int, const char *, int);
    int (*mkdir)(const char *, mode_t);
} real;

/* The notes are the test's own memory: without them its verdict would be worthless. */
static void die(const char *what)
{
    fprintf(stderr, "faulty_disk: %s: %s\n", what, strerror(errno));
    _exit(99);
}

static void find_real(const char *name, void *function)
{
    void *address = dlsym(RTLD_NEXT, name);
    if (address == NULL) {
        die(name);
    }
    memcpy(function, &address, sizeof(address));
}

static void find_all_real(void)
{
    find_real("openat", &real.openat);
    find_real("close", &real.close);
    find_real("pread", &real.pread);
    find_real("pwrite", &real.pwrite);
    find_real("write", &real.write);
    find_real("writev", &real.writev);
    find_real("ftruncate", &real.ftruncate);
    find_real("fsync", &real.fsync);
    find_real("fdatasync", &real.fdatasync);
    find_real("rename", &real.rename);
    find_real("unlinkat", &real.unlinkat);
    find_real("mkdir", &real.mkdir);
}

static void disk_init(void)
{
    find_all_real();
    for (size_t i = 0; i < INODE_LOCKS; i++) {
        pthread_mutex_init(&disk.inode_locks[i], NULL);
    }
    disk.dir = getenv("RAFTOGRAM_CHAOS_DIR");
    disk.journal = getenv("RAFTOGRAM_CHAOS_JOURNAL");
    disk.is_lying = getenv("RAFTOGRAM_CHAOS_LYING") != NULL;
    const char *control = getenv("RAFTOGRAM_CHAOS_CONTROL");
    if (disk.dir == NULL || control == NULL) {
        errno = EINVAL;
        die("RAFTOGRAM_CHAOS_DIR and RAFTOGRAM_CHAOS_CONTROL must be set");
    }
    disk.dir_size = strlen(disk.dir);
    int fd = real.openat(AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        die(control);
    }
    void *map = mmap(NULL, CONTROL_WORDS * sizeof(uint32_t), PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        die("mmap");
    }
    disk.control = map;
    real.close(fd);
    if (disk.journal != NULL) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/names", disk.journal);
        disk.names = real.openat(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (disk.names < 0) {
            die(path);
        }
    }
}

/* Before all else: libraries open files before main(). */
static void ensure_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, disk_init);
}

static bool is_on(enum control word)
{
    return disk.control[word] != 0;
}

static bool is_ours(const char *path)
{
    return strncmp(path, disk.dir, disk.dir_size) == 0 &&
           (path[disk.dir_size] == '/' || path[disk.dir_size] == '\0');
}

/* The absolute path of a name; false if it is not below our directory. */
static bool find_path(int dir_fd, const char *name, char path[PATH_MAX])
{
    ensure_init();
    if (name[0] == '/' || dir_fd == AT_FDCWD) {
        snprintf(path, PATH_MAX, "%s", name);
    } else {
        char link[64];
        snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
        ssize_t size = readlink(link, path, PATH_MAX - 1);
        if (size < 0) {
            return false;
        }
        snprintf(path + size, PATH_MAX - (size_t)size, "/%s", name);
    }
    return is_ours(path);
}

static struct tracked *find_file(int fd)
{
    ensure_init();
    return fd >= 0 && fd < FILES_MAX && disk.files[fd].is_open ? &disk.files[fd] : NULL;
}

static pthread_mutex_t *lock_of(const struct tracked *file)
{
    return &disk.inode_locks[file->inode % INODE_LOCKS];
}

/* ---- notes about contents ---- */

static void append(int fd, const void *data, size_t size, const void *more, size_t more_size)
{
    struct iovec parts[2] = {
        {.iov_base = (void *)(uintptr_t)data, .iov_len = size},
        {.iov_base = (void *)(uintptr_t)more, .iov_len = more_size},
    };
    if (real.writev(fd, parts, more_size > 0 ? 2 : 1) != (ssize_t)(size + more_size)) {
        die("the journal cannot be written");
    }
}

static void note(int fd, const struct tracked *file, enum note_kind kind, off_t offset, size_t size)
{
    if (file->notes < 0) {
        return;
    }
    struct stat status;
    if (fstat(fd, &status) != 0) {
        die("fstat");
    }
    struct note head = {
        .magic = NOTE_MAGIC,
        .kind = (uint32_t)kind,
        .offset = (uint64_t)offset,
        .size = size,
        .file_size = (uint64_t)status.st_size,
    };
    if (kind != NOTE_BARRIER && offset < status.st_size) {
        size_t rest = (size_t)(status.st_size - offset);
        head.old_size = kind == NOTE_SIZE || rest < size ? rest : size;
    }
    uint8_t *old = NULL;
    if (head.old_size > 0) {
        /* The descriptor may be open for writing only. */
        char path[64];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        int reader = real.openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        old = malloc(head.old_size);
        if (reader < 0 || old == NULL ||
            real.pread(reader, old, head.old_size, offset) != (ssize_t)head.old_size) {
            die("what is overwritten cannot be read");
        }
        real.close(reader);
    }
    append(file->notes, &head, sizeof(head), old, head.old_size);
    free(old);
}

static void forget_notes(const struct tracked *file)
{
    if (file->notes >= 0 && real.ftruncate(file->notes, 0) != 0) {
        die("the journal cannot be cut");
    }
}

static void track(int fd, int flags, bool is_new)
{
    struct stat status;
    if (fd >= FILES_MAX || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        return;
    }
    struct tracked *file = &disk.files[fd];
    *file = (struct tracked){
        .is_open = true,
        .is_dsync = (flags & O_DSYNC) != 0,
        .inode = status.st_ino,
        .notes = -1,
    };
    if (disk.journal == NULL) {
        return;
    }
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%llu.undo", disk.journal, (unsigned long long)status.st_ino);
    /* An inode may have a second life. */
    int mode = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | (is_new ? O_TRUNC : 0);
    file->notes = real.openat(AT_FDCWD, path, mode, 0600);
    if (file->notes < 0) {
        die(path);
    }
}

/* ---- notes about names ---- */

static void directory_of(const char *path, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    if (slash != NULL && slash != out) {
        *slash = '\0';
    }
}

static void note_name(const char *what, const char *path, const char *second, const char *saved)
{
    if (disk.names < 0) {
        return;
    }
    static char line[NAME_LINE_MAX + 64];
    int size = snprintf(line, sizeof(line), "%s\t%s\t%s\t%s\n", what, path, second, saved);
    append(disk.names, line, (size_t)size, NULL, 0);
}

/* Keeps what `path` names now, if it is a file; "" if it is none. The link goes when one of the
 * directories is synced. */
static void save_file(const char *path, const char *second, char saved[PATH_MAX])
{
    saved[0] = '\0';
    struct stat status;
    if (disk.names < 0 || lstat(path, &status) != 0 || !S_ISREG(status.st_mode)) {
        return;
    }
    struct saved *slot = &disk.saved[disk.saved_next % SAVED_MAX];
    if (slot->path != NULL) {
        errno = ENOSPC;
        die("too many files were unlinked without a sync of their directory");
    }
    snprintf(saved, PATH_MAX, "%s/saved/%d-%u", disk.journal, (int)getpid(), disk.saved_next++);
    if (link(path, saved) != 0) {
        die(saved);
    }
    char directory[PATH_MAX];
    directory_of(path, directory);
    slot->directories[0] = strdup(directory);
    directory_of(second, directory);
    slot->directories[1] = strdup(directory);
    slot->path = strdup(saved);
}

static void forget_names(const char *directory)
{
    note_name("synced", directory, "", "");
    for (size_t i = 0; i < SAVED_MAX; i++) {
        struct saved *slot = &disk.saved[i];
        if (slot->path == NULL || (strcmp(slot->directories[0], directory) != 0 &&
                                   strcmp(slot->directories[1], directory) != 0)) {
            continue;
        }
        real.unlinkat(AT_FDCWD, slot->path, 0);
        free(slot->directories[0]);
        free(slot->directories[1]);
        free(slot->path);
        *slot = (struct saved){0};
    }
}

/* ---- what the daemon calls ---- */

static bool needs_blocks(int fd, off_t end)
{
    struct stat status;
    return fstat(fd, &status) == 0 && end > status.st_size;
}

static int open_tracked(int dir_fd, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    if (!find_path(dir_fd, name, path)) {
        return real.openat(dir_fd, name, flags, mode);
    }
    pthread_mutex_lock(&disk.names_lock);
    struct stat status;
    bool is_new = (flags & O_CREAT) != 0 && lstat(path, &status) != 0;
    int fd = -1;
    if (is_new && is_on(CONTROL_NO_SPACE)) {
        errno = ENOSPC;
    } else {
        fd = real.openat(dir_fd, name, flags & ~O_TRUNC, mode);
    }
    if (fd >= 0) {
        track(fd, flags, is_new);
        if (is_new) {
            note_name("create", path, "", "");
        } else if ((flags & O_TRUNC) != 0) {
            note(fd, &disk.files[fd], NOTE_SIZE, 0, 0);
            if (real.ftruncate(fd, 0) != 0) {
                die("ftruncate");
            }
        }
    }
    int error = errno;
    pthread_mutex_unlock(&disk.names_lock);
    errno = error;
    return fd;
}

int open(const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_tracked(AT_FDCWD, name, flags, mode);
}

int openat(int dir_fd, const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_tracked(dir_fd, name, flags, mode);
}

int close(int fd)
{
    struct tracked *file = find_file(fd);
    if (file != NULL) {
        pthread_mutex_lock(&disk.names_lock);
        file->is_open = false;
        if (file->notes >= 0) {
            real.close(file->notes);
        }
        pthread_mutex_unlock(&disk.names_lock);
    }
    return real.close(fd);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    if (find_file(fd) != NULL && is_on(CONTROL_READ_EIO)) {
        errno = EIO;
        return -1;
    }
    return real.pread(fd, data, size, offset);
}

static ssize_t write_tracked(int fd, struct tracked *file, const void *data, size_t size,
                             off_t offset)
{
    if (is_on(CONTROL_WRITE_EIO)) {
        errno = EIO;
        return -1;
    }
    if (is_on(CONTROL_NO_SPACE) && needs_blocks(fd, offset + (off_t)size)) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(lock_of(file));
    if (!file->is_dsync) {
        note(fd, file, NOTE_WRITE, offset, size);
    }
    ssize_t count = real.pwrite(fd, data, size, offset);
    if (file->is_dsync && count > 0) {
        note(fd, file, NOTE_BARRIER, offset, (size_t)count);
    }
    int error = errno;
    pthread_mutex_unlock(lock_of(file));
    errno = error;
    return count;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct tracked *file = find_file(fd);
    return file == NULL ? real.pwrite(fd, data, size, offset)
                        : write_tracked(fd, file, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    struct tracked *file = find_file(fd);
    if (file == NULL) {
        return real.write(fd, data, size);
    }
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t count = write_tracked(fd, file, data, size, offset);
    if (count > 0) {
        lseek(fd, offset + count, SEEK_SET);
    }
    return count;
}

/* In parts: a short count is one of its answers. */
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    struct tracked *file = find_file(fd);
    if (file == NULL) {
        return real.writev(fd, parts, count);
    }
    int before = errno;
    ssize_t sum = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (done < 0 && sum == 0) {
            return done;
        }
        sum += done > 0 ? done : 0;
        if (done < 0 || (size_t)done < parts[i].iov_len) {
            break;
        }
    }
    /* A short count is no error. */
    errno = before;
    return sum;
}

int ftruncate(int fd, off_t size)
{
    struct tracked *file = find_file(fd);
    if (file == NULL) {
        return real.ftruncate(fd, size);
    }
    if (is_on(CONTROL_NO_SPACE) && needs_blocks(fd, size)) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(lock_of(file));
    note(fd, file, NOTE_SIZE, size, 0);
    int rc = real.ftruncate(fd, size);
    int error = errno;
    pthread_mutex_unlock(lock_of(file));
    errno = error;
    return rc;
}

/* In slices: a disk that hangs is let go of by taking the delay away. */
static void delay_sync(void)
{
    uint32_t slept_us = 0;
    while (slept_us < disk.control[CONTROL_SYNC_DELAY_US]) {
        uint32_t left_us = disk.control[CONTROL_SYNC_DELAY_US] - slept_us;
        uint32_t slice_us = left_us < DELAY_SLICE_US ? left_us : DELAY_SLICE_US;
        struct timespec time = {0, (long)slice_us * 1000};
        nanosleep(&time, NULL);
        slept_us += slice_us;
    }
}

static int sync_fd(int fd, bool is_data_only)
{
    struct tracked *file = find_file(fd);
    int (*sync)(int) = is_data_only ? real.fdatasync : real.fsync;
    char link[64], path[PATH_MAX] = "";
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof(path) - 1) < 0 || !is_ours(path)) {
        return sync(fd);
    }
    delay_sync();
    if (is_on(CONTROL_SYNC_EIO)) {
        errno = EIO;
        return -1;
    }
    /* Nobody writes to it meanwhile, so that all that was noted is what the sync covers. */
    pthread_mutex_t *lock = file == NULL ? &disk.names_lock : lock_of(file);
    pthread_mutex_lock(lock);
    int rc = sync(fd);
    if (rc != 0 || disk.is_lying) {
        /* Nothing is durable that was not before. */
    } else if (file != NULL) {
        forget_notes(file);
    } else {
        forget_names(path);
    }
    int error = errno;
    pthread_mutex_unlock(lock);
    errno = error;
    return rc;
}

int fsync(int fd)
{
    return sync_fd(fd, false);
}

int fdatasync(int fd)
{
    return sync_fd(fd, true);
}

int rename(const char *from, const char *to)
{
    char path[PATH_MAX], saved[PATH_MAX];
    if (!find_path(AT_FDCWD, from, path)) {
        return real.rename(from, to);
    }
    pthread_mutex_lock(&disk.names_lock);
    save_file(to, from, saved);
    note_name("rename", from, to, saved);
    int rc = real.rename(from, to);
    int error = errno;
    pthread_mutex_unlock(&disk.names_lock);
    errno = error;
    return rc;
}

int unlinkat(int dir_fd, const char *name, int flags)
{
    char path[PATH_MAX], saved[PATH_MAX];
    if (!find_path(dir_fd, name, path)) {
        return real.unlinkat(dir_fd, name, flags);
    }
    pthread_mutex_lock(&disk.names_lock);
    save_file(path, path, saved);
    if (saved[0] != '\0') {
        note_name("unlink", path, "", saved);
    }
    int rc = real.unlinkat(dir_fd, name, flags);
    int error = errno;
    pthread_mutex_unlock(&disk.names_lock);
    errno = error;
    return rc;
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int mkdir(const char *name, mode_t mode)
{
    char path[PATH_MAX];
    if (!find_path(AT_FDCWD, name, path)) {
        return real.mkdir(name, mode);
    }
    pthread_mutex_lock(&disk.names_lock);
    int rc = -1;
    if (is_on(CONTROL_NO_SPACE)) {
        errno = ENOSPC;
    } else {
        rc = real.mkdir(name, mode);
    }
    if (rc == 0) {
        note_name("mkdir", path, "", "");
    }
    int error = errno;
    pthread_mutex_unlock(&disk.names_lock);
    errno = error;
    return rc;
}
