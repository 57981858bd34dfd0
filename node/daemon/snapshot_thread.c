/* The snapshot thread: runs the node's jobs. */
#include "base/errors.h"
#include "daemon/daemon_internal.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define JOB_GRACE_S 1 /* for the job that is running */

void daemon_submit_job(void *context, struct node_job *job)
{
    struct daemon *daemon = context;
    mailbox_post(&daemon->jobs, &job->link);
}

static void *run_jobs(void *context)
{
    struct daemon *daemon = context;
    /* Copies and checks are long and not urgent: threads that answer clients come first. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 10);
    while (!atomic_load(&daemon->is_job_thread_stopping)) {
        struct list jobs;
        list_init(&jobs);
        mailbox_wait(&daemon->jobs, UINT64_MAX);
        (void)mailbox_drain(&daemon->jobs, &jobs);
        struct list *link;
        while ((link = list_pop_front(&jobs)) != NULL) {
            struct node_job *job = LIST_ENTRY(link, struct node_job, link);
            if (!atomic_load(&daemon->is_job_thread_stopping)) {
                node_job_run(&daemon->files, job);
            }
            node_post_job(daemon->node, job);
        }
    }
    return NULL;
}

int daemon_start_jobs(struct daemon *daemon)
{
    node_files_init(&daemon->files, &daemon->boot.dir, daemon->boot.chat, &daemon->store.kind);
    int rc = mailbox_init(&daemon->jobs);
    if (rc != 0) {
        return rc;
    }
    if (pthread_create(&daemon->job_thread, NULL, run_jobs, daemon) != 0) {
        mailbox_finish(&daemon->jobs);
        return ERR_NOMEM;
    }
    (void)pthread_setname_np(daemon->job_thread, "snapshot");
    daemon->has_job_thread = true;
    return 0;
}

/* Cancels the running job as soon as possible; its result is no longer needed. */
static void cancel_jobs(struct daemon *daemon)
{
    if (daemon->has_job_thread && !atomic_exchange(&daemon->is_job_thread_stopping, true)) {
        node_files_cancel(&daemon->files);
        mailbox_wake(&daemon->jobs);
    }
}

bool daemon_stop_jobs(struct daemon *daemon)
{
    if (!daemon->has_job_thread) {
        return true;
    }
    cancel_jobs(daemon);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += JOB_GRACE_S;
    if (pthread_clockjoin_np(daemon->job_thread, NULL, CLOCK_MONOTONIC, &until) != 0) {
        return false;
    }
    struct list left;
    list_init(&left);
    (void)mailbox_drain(&daemon->jobs, &left);
    struct list *link;
    while ((link = list_pop_front(&left)) != NULL) {
        node_job_destroy(LIST_ENTRY(link, struct node_job, link));
    }
    mailbox_finish(&daemon->jobs);
    node_files_finish(&daemon->files);
    return true;
}
