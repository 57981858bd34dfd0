/* Wraps a file system and lets one call fail: the n-th from now. So a test can run a workload with
 * a fault at call 1, 2, 3 … until it succeeds. Every call that can fail counts. */
#ifndef RAFTOGRAM_TESTS_FS_FAULTY_H
#define RAFTOGRAM_TESTS_FS_FAULTY_H

#include "storage/fs.h"

/* What the failing call does before it fails. */
enum fs_faulty_effect {
    FS_FAULTY_NOTHING,
    FS_FAULTY_PART,  /* a write: its first half, in whole sectors; a sync: `lose`; else nothing */
    FS_FAULTY_WHOLE, /* all of it */
};

struct fs_faulty {
    struct fs fs; /* pass &faulty.fs on */
    struct fs *inner;
    uint64_t countdown; /* 0: no fault is due */
    int error;
    enum fs_faulty_effect effect;
    bool is_sticky; /* after the fault every call fails, without any effect: a dying disk */
    bool has_failed;
    uint64_t calls;                                       /* so far */
    void (*lose)(struct fs *inner, struct fs_file *file); /* NULL: nothing is lost */
};

/* `inner` must outlive `faulty`. */
void fs_faulty_init(struct fs_faulty *faulty, struct fs *inner);
/* The `countdown`-th call from now fails with `error`; forgets an earlier fault. */
void fs_faulty_arm(struct fs_faulty *faulty, uint64_t countdown, int error,
                   enum fs_faulty_effect effect, bool is_sticky);

#endif
