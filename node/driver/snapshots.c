/* Passes events and finished jobs about snapshots to snapshot_send.c and snapshot_receive.c. */
#include "driver/node_internal.h"

bool node_snapshot_event(struct node *node, struct peer_event *event)
{
    switch (event->kind) {
    case PEER_EVENT_SNAPSHOT_OFFER:
        node_snapshot_offered(node, event);
        return true;
    case PEER_EVENT_SNAPSHOT_CHUNK:
        node_snapshot_chunk_came(node, event);
        return true;
    case PEER_EVENT_SNAPSHOT_LOST:
        node_snapshot_receiving_lost(node, event);
        return false;
    case PEER_EVENT_SNAPSHOT_READY:
        node_snapshot_wants_chunk(node, event);
        return false;
    case PEER_EVENT_SNAPSHOT_ENDED:
        node_snapshot_sending_ended(node, event);
        return false;
    default:
        return false;
    }
}

void node_snapshot_job_done(struct node *node, struct node_job *job)
{
    switch (job->kind) {
    case NODE_JOB_MAKE:
        node_snapshot_made(node, job);
        break;
    case NODE_JOB_READ:
        node_snapshot_chunk_read(node, job);
        break;
    case NODE_JOB_RECEIVE:
        node_snapshot_taken_up(node, job);
        break;
    case NODE_JOB_WRITE:
        node_snapshot_chunk_written(node, job);
        break;
    case NODE_JOB_COMPLETE:
        node_snapshot_completed(node, job);
        break;
    case NODE_JOB_DROP:
    case NODE_JOB_FORGET:
        break;
    }
    node_job_destroy(job);
}
