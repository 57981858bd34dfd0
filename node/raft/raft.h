/* The Raft core: a pure state machine. No clock, no randomness of its own, no I/O, no threads, and
 * no allocation after raft_create(). Time, seeds and messages come in as events; what is to be done
 * goes out as effects. Rules are cited from Ongaro and Ousterhout, "In Search of an Understandable
 * Consensus Algorithm (Extended Version)" ("Raft"), and Ongaro's thesis ("thesis").
 *
 * The driver (node/driver/turn.c) runs turns:
 *   1. raft_step() for each waiting message, proposal, read, then TICK; after each step it does the
 *      effects in their order: stage hard state and entries in the log, keep the messages;
 *   2. raft_step(REPLICATE), which makes at most one batch of AppendEntries per peer out of all
 * that was appended, and opens one ReadIndex round for all reads that wait;
 *   3. sends the messages whose `save_seq` is durable already, commits the log (write + fdatasync),
 *      raft_step(PERSISTED), sends the held messages, applies up to the commit index.
 *
 * Members are known by their position in the list of node ids sorted bytewise, the same on every
 * node. Payload bytes belong to the log: the core handles indexes, terms and config changes. */
#ifndef RAFTOGRAM_RAFT_RAFT_H
#define RAFTOGRAM_RAFT_RAFT_H

#include "base/cluster.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t raft_index; /* the first entry has 1; 0 is "before the log" */
typedef uint64_t raft_term;  /* 0 is "before any election" */
typedef int raft_member;     /* 0 .. member_count - 1 */

#define RAFT_NO_MEMBER (-1)
#ifndef RAFT_APPEND_ENTRIES_MAX
#define RAFT_APPEND_ENTRIES_MAX 4096 /* entries in one AppendEntries */
#endif
#ifndef RAFT_APPEND_BYTES_MAX
#define RAFT_APPEND_BYTES_MAX \
    (1u << 20) /* payload in one, unless its first entry alone is larger */
#endif
#define RAFT_ENTRY_BYTES_MAX (4u << 20)                      /* payload of one entry */
#define RAFT_INFLIGHT_MAX 64                                 /* unanswered AppendEntries per peer */
#define RAFT_INFLIGHT_BYTES_MAX (8u * RAFT_APPEND_BYTES_MAX) /* of payload in them */
#define RAFT_READS_MAX 256  /* reads that wait, from this node and from peers */
#define RAFT_ROUNDS_MAX 64  /* ReadIndex rounds that are open */
#define RAFT_CONFIGS_MAX 32 /* config changes in the log that are not committed */
#define RAFT_MESSAGES_MAX (4 * CLUSTER_MEMBERS_MAX + RAFT_READS_MAX)

/* The bounds of what a peer may say. Terms and indexes of real clusters stay far below: at ten
 * elections a second a cluster needs a million years for this term. So each node always has terms
 * left for campaigns of its own, and can always be started again. */
#define RAFT_TERM_MAX (UINT64_C(1) << 48)
#define RAFT_INDEX_MAX (UINT64_C(1) << 61)
/* How far messages may raise the term at once. It is spent by each raise, and grows by one a
 * microsecond: a thousand times faster than elections can follow one another. While the node leads
 * or has a leader it does not grow beyond this; a node that was cut off or stopped for long has
 * missed more, and may take more. */
#define RAFT_TERM_CREDIT (UINT64_C(1) << 32)
#define RAFT_TERM_CREDIT_NS 1000

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

/* ---- log entries and membership ---- */

/* A no-op is a COMMAND without data. */
enum raft_entry_type { RAFT_ENTRY_COMMAND = 0, RAFT_ENTRY_CONFIG_CHANGE = 1 };

enum raft_change_kind {
    RAFT_CHANGE_GENESIS, /* always entry 1: founds the cluster */
    RAFT_CHANGE_ADMIT,   /* replaces the incarnation of one member; comes twice (membership.c) */
};

/* What a CONFIG_CHANGE entry says. The driver encodes and decodes it. */
struct raft_change {
    enum raft_change_kind kind;
    uint8_t cluster_id[CLUSTER_ID_BYTES];       /* GENESIS */
    uint64_t incarnations[CLUSTER_MEMBERS_MAX]; /* GENESIS: of each member */
    raft_member member;                         /* ADMIT */
    uint64_t incarnation;                       /* ADMIT */
};

/* Who is admitted. A member is whole if its data_dir's incarnation is the admitted one: then its
 * votes and acknowledgements count. Otherwise it is recovering: it stores what it is sent, but it
 * neither votes nor campaigns, and its acknowledgements count for nothing; a quorum is still a
 * majority of all members. A wiped or damaged node thus cannot un-acknowledge what it had. Nor can
 * one that was given an old copy of its data, once its leader sees that entries are missing which
 * it had acknowledged: it does not count any more, and takes a new incarnation. An ADMIT counts
 * once it is known to be committed, GENESIS at once (membership.c says why). */
struct raft_config {
    bool is_founded;
    uint8_t cluster_id[CLUSTER_ID_BYTES];
    uint64_t incarnations[CLUSTER_MEMBERS_MAX]; /* admitted ones; 0 when not founded */
};

void raft_config_apply(struct raft_config *config, const struct raft_change *change);

struct raft_entry {
    raft_term term;
    enum raft_entry_type type;
    const void *data; /* the driver's; NULL in entries that the core makes itself */
    uint32_t size;
    const struct raft_change *change; /* decoded, of a CONFIG_CHANGE; else NULL */
};

/* Read-only view of the log as of all effects of earlier steps, staged entries included. */
struct raft_log_view {
    void *context;
    raft_index (*first)(void *context); /* first readable; last + 1 when empty */
    /* Also for first - 1 (the snapshot's or the beginning, 0); 0 when unknown. */
    raft_term (*term)(void *context, raft_index index);
    /* Largest last with at most bytes_max of payload in [first, last], last <= last_max; >= first.
     * `bytes` gets that payload. */
    raft_index (*fit)(void *context, raft_index first, raft_index last_max, uint64_t bytes_max,
                      uint64_t *bytes);
};

/* ---- messages ---- */

enum raft_message_kind {
    RAFT_APPEND_REQUEST,
    RAFT_APPEND_RESPONSE,
    RAFT_VOTE_REQUEST,
    RAFT_VOTE_RESPONSE,
    RAFT_TIMEOUT_NOW,
    RAFT_READ_REQUEST,
    RAFT_READ_RESPONSE,
};

struct raft_message {
    enum raft_message_kind kind;
    raft_member peer; /* whom it goes to, or came from */
    raft_term term;   /* the sender's current term */
    union {
        struct {
            raft_index prev_index;
            raft_term prev_term;
            raft_index commit;
            uint64_t read_round; /* 0: none */
            bool no_answer; /* tells a commit index only: answered just when it does not match */
            /* The receiver's incarnation, if it has forgotten entries that it had acknowledged. */
            uint64_t forgotten;
            uint32_t count; /* entries prev_index + 1 .. prev_index + count */
            /* In: the entries. Out: NULL, the driver reads them from the log when it sends. */
            const struct raft_entry *entries;
        } append_request;
        struct {
            bool success;
            raft_index last_index; /* success: matched; else a hint where to try */
            raft_term hint_term;   /* refused: the term at last_index */
            /* refused: prev_index of the request; 0: refused for its term */
            raft_index rejected_index;
            uint64_t read_round;
            bool cannot_lead; /* it may not campaign now: no target for a transfer */
            bool is_full;     /* it has no room for many more entries */
        } append_response;
        struct {
            raft_index last_index;
            raft_term last_term;
            raft_term for_term; /* the term that is asked for: term + 1 for a pre-vote, else term */
            bool is_pre_vote;
            bool is_transfer; /* campaign started by TimeoutNow: contact rule does not apply */
        } vote_request;
        struct {
            raft_term for_term;
            bool is_pre_vote;
            bool granted;
        } vote_response;
        struct {
            uint64_t id; /* the asking node's own */
        } read_request;
        struct {
            uint64_t id;
            raft_index index;
            bool confirmed;
        } read_response;
    };
};

/* ---- events ---- */

enum raft_event_kind {
    RAFT_EVENT_TICK,      /* time passed; nothing else */
    RAFT_EVENT_MESSAGE,   /* from a peer */
    RAFT_EVENT_PROPOSE,   /* commands to append, only if raft_can_propose() says NOW */
    RAFT_EVENT_READ,      /* wants a read index; answered by an effect, exactly once */
    RAFT_EVENT_REPLICATE, /* end of a turn's input: make AppendEntries, open a read round */
    RAFT_EVENT_PERSISTED, /* everything up to save_seq is durable */
    /* A stream from the peer began: who it is now. No message of an older stream of this peer may
     * be stepped after it: an acknowledgement of the old incarnation would count for the new. */
    RAFT_EVENT_PEER_HELLO,
    RAFT_EVENT_STREAM_LOST,  /* the stream that the peer dialled to us ended */
    RAFT_EVENT_DIAL_REFUSED, /* our dial to the peer was refused: nobody listens there */
    RAFT_EVENT_DIAL_LOST,    /* the stream that we dialled ended: what was on it may be lost */
    RAFT_EVENT_DIAL_UP,      /* the stream that we dialled stands */
    RAFT_EVENT_TRANSFER,     /* give leadership away */
    RAFT_EVENT_ELIGIBLE,     /* whether this node may campaign (disk full, store damaged: no), and
                              * whether it has room for more entries */
    /* This node has a new incarnation, durably: after raft_effects.has_forgotten. */
    RAFT_EVENT_REBORN,
    RAFT_EVENT_SNAPSHOT_SENT, /* leader: the peer installed a snapshot, or the transfer failed */
    RAFT_EVENT_SNAPSHOT_INSTALLING, /* follower: began (no campaign until it ends) or was given up
                                     */
    RAFT_EVENT_SNAPSHOT_INSTALLED,  /* follower: log and state machine now begin at (index, term);
                                     * what followed in the log: see raft_can_install() */
};

struct raft_event {
    enum raft_event_kind kind;
    uint64_t now_ns; /* monotonic, never decreasing from step to step */
    union {
        struct raft_message message; /* peer is the sender */
        struct {
            const struct raft_entry *entries; /* term is filled in by the core */
            uint32_t count;                   /* at most RAFT_APPEND_ENTRIES_MAX */
        } propose;
        struct {
            uint64_t id; /* strictly increasing */
        } read;
        struct {
            uint64_t save_seq;
            raft_index last_index; /* the last durable entry and its term */
            raft_term last_term;
        } persisted;
        struct {
            raft_member peer;
            uint64_t epoch; /* numbers a peer's streams, from 1, increasing; HELLO, STREAM_LOST */
            uint64_t incarnation; /* HELLO */
            bool is_fresh;        /* HELLO: its raft_status.is_fresh as of the hello */
        } stream;
        struct {
            raft_member target; /* RAFT_NO_MEMBER: the best follower */
        } transfer;
        struct {
            uint64_t incarnation;
        } reborn;
        struct {
            bool is_eligible;
            /* It may campaign all the same when nobody has led for three election timeouts: better
             * a leader that takes no proposals than none. */
            bool is_last_resort;
            /* Room is short: the driver may leave out the last entries of a request, or all, before
             * it steps it. The leader is told, and sends no more than one at a time. */
            bool is_full;
        } eligible;
        struct {
            raft_member peer; /* SENT */
            bool success;     /* SENT */
            bool is_active;   /* INSTALLING: began or was given up */
            raft_index index;
            raft_term term;
            struct raft_config config; /* INSTALLED: as of index */
        } snapshot;
    };
};

/* ---- effects ---- */

struct raft_outgoing {
    struct raft_message message;
    uint64_t save_seq; /* may go once this save is durable; 0: at once */
};

struct raft_ready_read {
    uint64_t id;
    bool confirmed;   /* false: no leader, leadership lost, or refused; the driver may ask again */
    raft_index index; /* serve once applied >= index */
};

/* Valid until the next raft_step(). Do them in this order. */
struct raft_effects {
    /* To stage in the log. save_seq is that of this step's saves; unchanged when it has none. */
    uint64_t save_seq;
    bool has_hard_state;
    raft_term term;
    raft_member voted_for;
    /* Entries to append from append_first on; an index that exists is replaced with all behind it.
     * For proposals these are the event's own entries in order, the terms filled in `append_term`;
     * for a follower a slice of the message's entries. The core's own entries have data == NULL. */
    raft_index append_first;
    const struct raft_entry *append;
    uint32_t append_count;
    raft_term append_term; /* nonzero: the term of all of them; 0: each entry's own */

    const struct raft_outgoing *messages;
    size_t message_count;

    raft_index commit_index; /* current, whether it changed or not */

    const struct raft_ready_read *reads;
    size_t read_count;

    /* Members that need a snapshot: start a transfer unless one is running. A bit per member. */
    uint32_t snapshot_wanted;

    /* Members that lack entries which they had acknowledged to this leader, found in this step: an
     * old copy of the data_dir, or a disk that lost its end. They do not count any more. */
    uint32_t forgetful;
    /* This node is one, says its leader: it must take a new incarnation (RAFT_EVENT_REBORN). */
    bool has_forgotten;

    bool is_role_changed;  /* role, leader or term changed: publish raft_get_status() */
    bool is_transfer_over; /* a TRANSFER ended: it succeeded if another leads now */

    uint64_t next_deadline_ns; /* call with TICK at the latest then; UINT64_MAX: never */
};

/* ---- the core ---- */

struct raft_options {
    raft_member self;
    int member_count; /* odd, at most CLUSTER_MEMBERS_MAX */
    uint64_t election_timeout_ns;
    uint64_t heartbeat_interval_ns;
    uint64_t seed; /* for election jitter */
    struct raft_log_view log;

    /* What was durable. */
    raft_term term;
    raft_member voted_for;
    raft_index last_index;     /* the log's last entry, or its base when empty */
    raft_index applied_index;  /* of the durable state machine: committed for certain */
    struct raft_config config; /* as of applied_index */
    /* The config changes in the log behind applied_index, ascending; at most RAFT_CONFIGS_MAX. */
    const struct raft_change *changes;
    const raft_index *change_indexes;
    size_t change_count;

    uint64_t incarnation; /* of this data_dir; not 0 */
    /* The data_dir never held an entry nor a snapshot (hard state it may hold, so that a restart
     * before the founding changes nothing): may take part in founding a cluster. */
    bool is_fresh;
    bool is_eligible;                         /* may campaign */
    uint8_t new_cluster_id[CLUSTER_ID_BYTES]; /* used if this node founds the cluster */
    uint64_t now_ns;
};

struct raft;

/* Errors: ERR_NOMEM, ERR_INVALID. */
int raft_create(const struct raft_options *options, struct raft **out);
void raft_destroy(struct raft *raft);

/* Advances by one event. `*effects` stays valid until the next step.
 * Errors: ERR_INVALID for a message that no correct peer sends (nothing has changed); ERR_FULL:
 * RAFT_EVENT_READ over RAFT_READS_MAX. */
int raft_step(struct raft *raft, const struct raft_event *event,
              const struct raft_effects **effects);

/* Whether a correct peer can be in this term by now: see RAFT_TERM_CREDIT. */
bool raft_is_term_plausible(const struct raft *raft, raft_term term, uint64_t now_ns);

enum raft_propose_answer {
    RAFT_PROPOSE_NOW,
    RAFT_PROPOSE_WAIT, /* leader, but founding the cluster or handing leadership over: keep it
                          queued */
    RAFT_PROPOSE_NOT_LEADER,
};
enum raft_propose_answer raft_can_propose(const struct raft *raft);

/* Leader: so many members say that they are full, or are not heard, that what is proposed now might
 * not be committed for lack of room. What this node's own disk has is the driver's to know. */
bool raft_is_majority_full(const struct raft *raft);

struct raft_member_status {
    raft_index match_index;   /* leader only */
    raft_index next_index;    /* leader only; for tests */
    uint64_t last_contact_ns; /* when it was heard last; 0: never. */
    bool is_connected;        /* its stream to us stands */
    bool is_fresh;            /* as it said when it connected: it has never held an entry */
    bool is_whole;
    bool needs_snapshot; /* leader only */
    bool cannot_lead;    /* as it said; leader only */
};

struct raft_status {
    enum raft_role role;
    raft_term term;
    raft_member leader;    /* RAFT_NO_MEMBER: not known */
    raft_member voted_for; /* for tests */
    raft_index commit_index;
    raft_index last_index;
    bool has_quorum; /* leader: a majority heard within an election timeout; else: the leader was */
    bool is_whole;   /* this node */
    bool is_fresh;   /* for tests: this node has never held an entry */
    bool is_ready;   /* leader: an entry of its own term is committed */
    uint64_t elections;        /* campaigns started, pre-votes included */
    struct raft_config config; /* committed */
    struct raft_member_status members[CLUSTER_MEMBERS_MAX];
};
void raft_get_status(const struct raft *raft, uint64_t now_ns, struct raft_status *out);

enum raft_install_answer {
    RAFT_INSTALL_REFUSE,    /* it is older than the log's beginning: of no use */
    RAFT_INSTALL_KEEP_LOG,  /* the log has that entry: keep what follows, it may be acknowledged */
    RAFT_INSTALL_RESET_LOG, /* the log ends before it or disagrees: drop all of the log */
};
/* What installing a snapshot that ends at (index, term) must do to the log. With KEEP_LOG it is
 * needed only if the state machine itself is damaged: the log has everything already. */
enum raft_install_answer raft_can_install(const struct raft *raft, raft_index index,
                                          raft_term term);

/* Whether a (pre-)vote request would be granted now, changing nothing: for the unary RPC of the
 * reference document. */
bool raft_would_grant(const struct raft *raft, const struct raft_message *request, uint64_t now_ns);

#endif
