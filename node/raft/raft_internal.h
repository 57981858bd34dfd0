/* The core's state, shared by its files. raft.c owns the steps and effects; each other file is one
 * subject: election, replication, reads, snapshot, transfer, membership. */
#ifndef RAFTOGRAM_RAFT_RAFT_INTERNAL_H
#define RAFTOGRAM_RAFT_RAFT_INTERNAL_H

#include "base/check.h"
#include "base/errors.h"
#include "base/random.h"
#include "raft/raft.h"

#define RAFT_NEVER UINT64_MAX

/* What the leader knows of a follower's log (thesis 10.2.1). */
enum progress_state {
    PROGRESS_PROBE,     /* where its log agrees is unknown: one message in flight */
    PROGRESS_REPLICATE, /* it agrees: messages are pipelined, next_index is optimistic */
    PROGRESS_SNAPSHOT,  /* what it needs is compacted away: waits for a snapshot */
};

/* A message with entries that was not answered yet. */
struct inflight {
    raft_index last;
    uint64_t bytes;
};

struct member {
    /* As its newest stream and our own dials said. */
    uint64_t epoch;
    uint64_t incarnation; /* 0: no hello yet */
    bool is_fresh;
    bool is_connected;
    bool is_dial_down; /* our stream to it ended and has not come up since */
    bool is_dial_refused;
    bool has_forgotten; /* this incarnation lacks what it had acknowledged: it does not count */
    uint64_t heard_ns;

    /* Leader only, of this term. */
    enum progress_state progress;
    raft_index match_index;
    uint64_t match_round; /* the newest read round when match_index was heard of */
    raft_index next_index;
    struct inflight inflight[RAFT_INFLIGHT_MAX]; /* a ring */
    uint32_t inflight_first;
    uint32_t inflight_count;
    uint64_t inflight_bytes;
    bool is_probe_sent;
    bool must_send;         /* a heartbeat, a read round or a new connection wants a message */
    raft_index sent_commit; /* the newest commit index that it was told */
    uint64_t acked_round;   /* the newest read round that it answered */
    uint64_t contact_ns;    /* its last answer in this term */
    bool cannot_lead;       /* its last answer said so, and */
    bool is_full;           /* that it has (next to) no room: it is sent one entry at a time */
};

/* A config change in the log behind the commit index. */
struct pending_change {
    raft_index index;
    struct raft_change change;
};

struct read {
    uint64_t id;
    raft_member from;     /* self: asked here; else by a peer, on the leader */
    bool is_forwarded;    /* follower: the leader was asked */
    uint64_t deadline_ns; /* forwarded: given up then */
    uint64_t round;       /* leader: 0 while it waits for a round */
    raft_index index;     /* leader: the commit index when the round was opened */
};

struct raft {
    raft_member self;
    int member_count;
    uint64_t election_timeout_ns;
    uint64_t heartbeat_interval_ns;
    struct raft_log_view log;
    uint64_t incarnation;
    uint8_t new_cluster_id[CLUSTER_ID_BYTES];
    struct random random;
    uint64_t now_ns;

    raft_term term;
    uint64_t term_credit; /* how far messages may raise the term, as of credited_ns */
    uint64_t credited_ns;
    raft_member voted_for;
    enum raft_role role;
    raft_member leader;
    struct member members[CLUSTER_MEMBERS_MAX];

    /* The log. What is staged counts as present; messages that depend on it are held back. */
    raft_index last_index;
    raft_term last_term;
    raft_index commit_index;
    raft_index persisted_index; /* the durable prefix of the present log */
    uint64_t save_seq;
    uint64_t persisted_seq;

    /* Membership. */
    struct raft_config config; /* as of commit_index */
    struct pending_change changes[RAFT_CONFIGS_MAX];
    size_t change_count;
    uint32_t unsealed; /* a bit per member whose ADMIT was committed once, not yet twice */
    bool is_fresh;

    /* Elections. */
    bool is_eligible;
    bool is_last_resort;
    uint64_t resort_ns; /* when the last resort may campaign, if nobody leads until then */
    bool is_full;
    bool is_installing;
    bool is_contact_lost; /* the stream from the leader ended; nobody leads since */
    bool has_overslept;   /* one late timer was forgiven already */
    int fast_campaigns;   /* since contact was lost */
    uint64_t contact_ns;  /* when the leader was heard */
    uint64_t campaign_ns; /* when to campaign, if nothing changes */
    bool is_transfer_campaign;
    uint32_t granted; /* a bit per member that answered our campaign */
    uint32_t refused;
    uint64_t elections;

    /* Leader. */
    raft_index term_start; /* our term's first entry; RAFT_NEVER while there is none */
    bool is_quorum_stale;  /* contact was lost: steps down at the next TICK */
    uint64_t heartbeat_ns;

    /* Leadership transfer. */
    bool is_transferring;  /* leader: no proposals, no read answers */
    bool is_transfer_open; /* its end was not reported yet */
    bool is_transfer_sent; /* TimeoutNow went out */
    raft_member transfer_target;
    uint64_t transfer_deadline_ns;

    /* Reads, oldest first. */
    struct read reads[RAFT_READS_MAX];
    size_t read_count;
    uint64_t last_read_id;
    uint64_t notice_ns;       /* leader: when followers hear of a commit at the latest */
    uint64_t proposed_ns;     /* when something was proposed last, */
    uint64_t proposal_gap_ns; /* and how long after the time before */
    uint64_t round_newest;    /* never reused, also not in a later term */
    uint64_t round_confirmed;

    /* The effects of this step. */
    bool has_saved;
    enum raft_role role_before;
    raft_term term_before;
    raft_member leader_before;
    bool was_contact_lost;
    struct raft_effects effects;
    struct raft_outgoing messages[RAFT_MESSAGES_MAX];
    struct raft_ready_read ready[RAFT_READS_MAX + 1];
    struct raft_entry own_entry;
    struct raft_change own_change;
};

static inline bool is_leader(const struct raft *raft)
{
    return raft->role == RAFT_LEADER;
}

/* ---- raft.c: what a step collects ---- */

/* A message to `peer` in the current term. It may go at once, or, `hold`, once everything that is
 * staged up to the end of this step is durable. */
struct raft_message *raft_emit(struct raft *raft, enum raft_message_kind kind, raft_member peer,
                               bool hold);
void raft_emit_read(struct raft *raft, uint64_t id, bool confirmed, raft_index index);
void raft_save_hard_state(struct raft *raft);
/* A message raises the term by that much. */
void raft_spend_term_credit(struct raft *raft, uint64_t raise);
/* At most once a step. `term` 0: each entry has its own. */
void raft_stage_entries(struct raft *raft, raft_index first, const struct raft_entry *entries,
                        uint32_t count, raft_term term);
/* One entry of the core's own in the leader's term; `change` NULL: a no-op. */
void raft_stage_own(struct raft *raft, const struct raft_change *change);
/* Of the staged log too; 0 when compacted away or behind the end. */
raft_term raft_term_at(const struct raft *raft, raft_index index);
/* Uniform in [low, high) from now on. */
uint64_t raft_random_time(struct raft *raft, uint64_t low_ns, uint64_t high_ns);
/* The largest value that a majority of the members reaches. Reorders `values`. */
uint64_t raft_majority_value(const struct raft *raft, uint64_t *values);

/* ---- election.c ---- */

void raft_election_tick(struct raft *raft);
int raft_election_on_vote_request(struct raft *raft, const struct raft_message *message);
int raft_election_on_vote_response(struct raft *raft, const struct raft_message *message);
void raft_election_on_timeout_now(struct raft *raft, const struct raft_message *message);
void raft_election_on_stream_lost(struct raft *raft, raft_member peer);
void raft_election_on_dial_refused(struct raft *raft, raft_member peer);
/* Everybody has now said that he is fresh: do not wait for the timer's full time. */
void raft_election_hasten_founding(struct raft *raft);
/* Fails the reads, adopts the term if it is newer. `leader` may be RAFT_NO_MEMBER. */
void raft_election_become_follower(struct raft *raft, raft_term term, raft_member leader);
/* Somebody leads, or led until now: the last resort begins to wait anew. */
void raft_election_postpone_resort(struct raft *raft);
/* AppendEntries of the current term came from `leader`. */
void raft_election_on_leader_contact(struct raft *raft, raft_member leader);
bool raft_election_has_quorum_contact(const struct raft *raft, uint64_t now_ns);
/* When the leader's contact with a majority runs out. */
uint64_t raft_election_quorum_deadline(const struct raft *raft);

/* ---- replication.c ---- */

void raft_replication_start(struct raft *raft); /* became leader */
void raft_replication_tick(struct raft *raft);
void raft_replication_note_proposal(struct raft *raft); /* RAFT_EVENT_PROPOSE */
void raft_replication_send(struct raft *raft);          /* RAFT_EVENT_REPLICATE */
/* Messages could be made at once: the next turn should not wait. */
bool raft_replication_has_work(const struct raft *raft);
int raft_replication_on_append_request(struct raft *raft, const struct raft_message *message);
int raft_replication_on_append_response(struct raft *raft, const struct raft_message *message);
void raft_replication_reset(struct raft *raft,
                            raft_member peer); /* back to probing, nothing in flight */
void raft_replication_forget(struct raft *raft,
                             raft_member peer);     /* it is another incarnation now */
void raft_replication_commit(struct raft *raft);    /* Raft 5.4.2 */
void raft_replication_open_term(struct raft *raft); /* appends the term's first entry if it may */

/* ---- reads.c ---- */

int raft_reads_on_read(struct raft *raft, uint64_t id);
void raft_reads_on_request(struct raft *raft, const struct raft_message *message);
void raft_reads_on_response(struct raft *raft, const struct raft_message *message);
void raft_reads_open_round(struct raft *raft);
void raft_reads_confirm(struct raft *raft);
void raft_reads_fail_all(struct raft *raft);
void raft_reads_expire(struct raft *raft);
void raft_reads_forget_peer(struct raft *raft,
                            raft_member peer); /* it restarted: its ids begin anew */
uint64_t raft_reads_deadline(const struct raft *raft);

/* ---- transfer.c ---- */

void raft_transfer_start(struct raft *raft, raft_member target);
void raft_transfer_advance(struct raft *raft);
/* An answer of a peer came: goes on, or gives up on a target that cannot lead. */
void raft_transfer_on_answer(struct raft *raft, raft_member peer);
void raft_transfer_tick(struct raft *raft);
void raft_transfer_on_role_change(struct raft *raft); /* stepped down, or a leader became known */

/* ---- snapshot.c ---- */

void raft_snapshot_on_sent(struct raft *raft, raft_member peer, bool success);
void raft_snapshot_on_installing(struct raft *raft, bool is_active);
int raft_snapshot_on_installed(struct raft *raft, raft_index index, raft_term term,
                               const struct raft_config *config);

/* ---- membership.c ---- */

bool raft_member_counts(const struct raft *raft, raft_member member);
bool raft_membership_is_whole(const struct raft *raft); /* may this node vote */
bool raft_membership_can_found(const struct raft *raft);
void raft_membership_on_hello(struct raft *raft, raft_member peer, uint64_t epoch,
                              uint64_t incarnation, bool is_fresh);
bool raft_membership_is_change_valid(const struct raft *raft, const struct raft_change *change,
                                     raft_index index);
void raft_membership_append(struct raft *raft, raft_index index, const struct raft_change *change);
void raft_membership_truncate(struct raft *raft,
                              raft_index first); /* drops changes from `first` on */
void raft_membership_commit(struct raft *raft);  /* folds those up to commit_index */
/* The config as of `index`, from a snapshot. */
void raft_membership_install(struct raft *raft, raft_index index, const struct raft_config *config);
void raft_membership_reborn(struct raft *raft, uint64_t incarnation);
void raft_membership_found(struct raft *raft); /* appends GENESIS */
void raft_membership_admit(struct raft *raft); /* appends an ADMIT if one is due */

#endif
