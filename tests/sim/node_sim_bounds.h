/* Bounds so small that a short run reaches them. The compiler is told to include this before each
 * source of the simulated node (-include); the mutants are built with it, too. */
#ifndef RAFTOGRAM_TESTS_NODE_SIM_BOUNDS_H
#define RAFTOGRAM_TESTS_NODE_SIM_BOUNDS_H

#define NODE_PROPOSE_BYTES_MAX 4096u
#define NODE_PENDING_BYTES_MAX 4096u
#define NODE_LOG_SLACK_BYTES 2048u
#define CHAT_HASH_ENTRIES 16u
#define NODE_COMPLETE_TURN_MAX 4u
#define SNAPSHOT_CHUNK_BYTES 4096u
#define RAFT_APPEND_ENTRIES_MAX 64
#define RAFT_APPEND_BYTES_MAX 4096u

#endif
