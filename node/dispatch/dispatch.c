/* The life of dispatch. */
#include "base/check.h"
#include "base/errors.h"
#include "dispatch/dispatch_internal.h"

#include <stdlib.h>

int dispatch_create(const struct dispatch_options *options, struct dispatch **out)
{
    struct dispatch *dispatch = calloc(1, sizeof(*dispatch));
    if (dispatch == NULL) {
        return ERR_NOMEM;
    }
    CHECK(options->member_count <= CLUSTER_MEMBERS_MAX);
    CHECK(options->reader_count > 0);
    CHECK(options->reader_count <= READERS_MAX);
    dispatch->options = *options;
    dispatch->chat = options->chat;
    dispatch->started_ns = clock_monotonic_ns(clock_system());
    list_init(&dispatch->watchers);
    list_init(&dispatch->metric_sources);
    list_init(&dispatch->publishes);
    pthread_mutex_init(&dispatch->watch_lock, NULL);
    int rc = readers_start(dispatch, options->reader_count);
    if (rc != 0) {
        pthread_mutex_destroy(&dispatch->watch_lock);
        free(dispatch);
        return rc;
    }
    *out = dispatch;
    return 0;
}

void dispatch_attach(struct dispatch *dispatch, struct node *node)
{
    dispatch->node = node;
}

void dispatch_destroy(struct dispatch *dispatch)
{
    if (dispatch == NULL) {
        return;
    }
    readers_stop(dispatch);
    CHECK(list_is_empty(&dispatch->watchers));
    CHECK(list_is_empty(&dispatch->metric_sources));
    CHECK(list_is_empty(&dispatch->publishes));
    pthread_mutex_destroy(&dispatch->watch_lock);
    free(dispatch);
}
