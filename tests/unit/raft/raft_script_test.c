/* Runs tests/scripts/raft_*.txt: protocol scenarios with expected traces, in the style of
 * etcd-io/raft's testdata. A script is a list of
 *
 *     command
 *     [command …]
 *     ----
 *     the expected trace, up to an empty line
 *
 * Lines that begin with # are comments. With RAFT_SCRIPT_REWRITE set in the environment the
 * expectations are written anew; read the difference before you commit it. Nodes are 1, 2, 3.
 *
 *     cluster N [founded]        new, fresh; founded: a leader is there, and what led to it is not
 *                                traced; it is always node 1
 *     run DURATION               time passes: messages take 1 ms
 *     tick N DURATION            time passes for node N alone; messages wait in their streams
 *     deliver [A->B]             hands over what waits in the streams (all, or one of them)
 *     drop A->B                  loses what waits in it
 *     propose N COUNT            | read N | transfer A B | status
 *     crash N [synced] [silent]  | restart N | wipe N | damage N | pause N | resume N
 *     cut A->B | heal A->B | break A->B | flush N | compact N TRAILING
 *     hide WORD | show           lines with that word are left out of the traces from now on
 */
#include "raft_testing.h"

#include <ctype.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>

#define HIDDEN_MAX 8
#define LINE_MAX_BYTES 256

struct text {
    char *bytes;
    size_t size;
};

struct script {
    struct cluster *cluster;
    struct text trace;
    bool is_silent;
    char hidden[HIDDEN_MAX][32];
    size_t hidden_count;
};

static void add_text(struct text *text, const char *line)
{
    size_t size = strlen(line);
    text->bytes = realloc(text->bytes, text->size + size + 1);
    assert_non_null(text->bytes);
    memcpy(text->bytes + text->size, line, size + 1);
    text->size += size;
}

static void on_trace(void *context, const char *line)
{
    struct script *script = context;
    for (size_t i = 0; i < script->hidden_count; i++) {
        if (strstr(line, script->hidden[i]) != NULL) {
            return;
        }
    }
    if (!script->is_silent) {
        add_text(&script->trace, line);
        add_text(&script->trace, "\n");
    }
}

static uint64_t parse_duration(const char *text)
{
    char *unit;
    uint64_t value = strtoull(text, &unit, 10);
    if (strcmp(unit, "ms") == 0) {
        return value * MS;
    }
    assert_string_equal(unit, "s");
    return value * 1000 * MS;
}

/* "1" or "1->2": nodes as people count them. */
static void parse_nodes(const char *text, raft_member *a, raft_member *b)
{
    char *end;
    *a = (raft_member)strtol(text, &end, 10) - 1;
    *b = RAFT_NO_MEMBER;
    if (strncmp(end, "->", 2) == 0) {
        *b = (raft_member)strtol(end + 2, NULL, 10) - 1;
    }
}

/* Seeds are tried until node 1 is the one that leads. */
static struct cluster *found_cluster(int count)
{
    for (uint64_t seed = 1;; seed++) {
        struct cluster *cluster = make_cluster(count, seed);
        if (cluster_leader(cluster) == 0) {
            return cluster;
        }
        cluster_destroy(cluster);
    }
}

static void make_script_cluster(struct script *script, int count, bool is_founded)
{
    cluster_destroy(script->cluster);
    script->cluster = is_founded
                          ? found_cluster(count)
                          : cluster_create(&(struct cluster_options){.count = count, .seed = 1});
    script->cluster->on_trace = on_trace;
    script->cluster->context = script;
}

static void tick_one(struct script *script, raft_member node, uint64_t duration_ns)
{
    struct cluster *cluster = script->cluster;
    uint64_t end_ns = cluster->now_ns + duration_ns;
    while (cluster->nodes[node].deadline_ns <= end_ns) {
        if (cluster->nodes[node].deadline_ns > cluster->now_ns) {
            cluster->now_ns = cluster->nodes[node].deadline_ns;
        }
        cluster_turn(cluster, node);
    }
    cluster->now_ns = end_ns;
}

static void deliver(struct script *script, raft_member from, raft_member to)
{
    struct cluster *cluster = script->cluster;
    for (raft_member i = 0; i < cluster->options.count; i++) {
        for (raft_member j = 0; j < cluster->options.count; j++) {
            if (i != j && (from == RAFT_NO_MEMBER || (i == from && j == to))) {
                cluster_deliver(cluster, i, j, SIZE_MAX);
            }
        }
    }
    for (raft_member i = 0; i < cluster->options.count; i++) {
        if (cluster->nodes[i].raft != NULL && cluster->nodes[i].inputs.first != NULL) {
            cluster_turn(cluster, i);
        }
    }
}

static void show_status(struct script *script)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    for (raft_member i = 0; i < script->cluster->options.count; i++) {
        struct raft_status status = cluster_status(script->cluster, i);
        char line[LINE_MAX_BYTES];
        if (script->cluster->nodes[i].raft == NULL) {
            snprintf(line, sizeof(line), "%d: down\n", i + 1);
        } else {
            snprintf(line, sizeof(line),
                     "%d: %s term %" PRIu64 " leader %d last %" PRIu64 " commit %" PRIu64 "%s%s\n",
                     i + 1, roles[status.role], status.term, status.leader + 1, status.last_index,
                     status.commit_index, status.is_whole ? " whole" : " recovering",
                     status.has_quorum ? " quorum" : "");
        }
        add_text(&script->trace, line);
    }
}

static bool fault(struct script *script, const char *verb, raft_member a, raft_member b,
                  const char *rest)
{
    struct cluster *cluster = script->cluster;
    if (strcmp(verb, "crash") == 0) {
        cluster_crash(cluster, a, strstr(rest, "synced") != NULL, strstr(rest, "silent") != NULL);
    } else if (strcmp(verb, "restart") == 0) {
        cluster_restart(cluster, a);
    } else if (strcmp(verb, "wipe") == 0 || strcmp(verb, "damage") == 0) {
        cluster_wipe(cluster, a, verb[0] == 'd');
    } else if (strcmp(verb, "pause") == 0) {
        cluster_pause(cluster, a);
    } else if (strcmp(verb, "resume") == 0) {
        cluster_resume(cluster, a);
    } else if (strcmp(verb, "cut") == 0) {
        cluster_cut(cluster, a, b);
    } else if (strcmp(verb, "heal") == 0) {
        cluster_heal(cluster, a, b);
    } else if (strcmp(verb, "break") == 0) {
        cluster_break(cluster, a, b);
    } else if (strcmp(verb, "drop") == 0) {
        cluster_drop(cluster, a, b);
    } else if (strcmp(verb, "flush") == 0) {
        cluster_flush(cluster, a);
    } else if (strcmp(verb, "compact") == 0) {
        cluster_compact(cluster, a, strtoull(rest, NULL, 10));
    } else {
        return false;
    }
    return true;
}

static bool work(struct script *script, const char *verb, raft_member a, const char *rest)
{
    struct cluster *cluster = script->cluster;
    if (strcmp(verb, "propose") == 0) {
        for (uint64_t i = strtoull(rest, NULL, 10); i > 0; i--) {
            if (!cluster_propose(cluster, a, i)) {
                add_text(&script->trace, "not accepted\n");
            }
        }
        if (cluster->is_manual) {
            cluster_turn(cluster, a);
        }
    } else if (strcmp(verb, "read") == 0) {
        if (cluster_read(cluster, a) == SIZE_MAX) {
            add_text(&script->trace, "not accepted\n");
        } else if (cluster->is_manual) {
            cluster_turn(cluster, a);
        }
    } else if (strcmp(verb, "transfer") == 0) {
        cluster_transfer(cluster, a, (raft_member)strtol(rest, NULL, 10) - 1);
        if (cluster->is_manual) {
            cluster_turn(cluster, a);
        }
    } else if (strcmp(verb, "status") == 0) {
        show_status(script);
    } else {
        return false;
    }
    return true;
}

static void execute(struct script *script, const char *line)
{
    char verb[32] = "";
    char first[32] = "";
    char rest[128] = "";
    sscanf(line, "%31s %31s %127[^\n]", verb, first, rest);
    raft_member a;
    raft_member b;
    parse_nodes(first, &a, &b);
    if (strcmp(verb, "cluster") == 0) {
        make_script_cluster(script, a + 1, strcmp(rest, "founded") == 0);
        return;
    }
    if (strcmp(verb, "hide") == 0) {
        assert_true(script->hidden_count < HIDDEN_MAX);
        snprintf(script->hidden[script->hidden_count++], sizeof(script->hidden[0]), "%s", first);
        return;
    }
    if (strcmp(verb, "show") == 0) {
        script->hidden_count = 0;
        return;
    }
    assert_non_null(script->cluster);
    if (strcmp(verb, "run") == 0) {
        script->cluster->is_manual = false;
        cluster_run(script->cluster, parse_duration(first));
    } else if (strcmp(verb, "tick") == 0) {
        script->cluster->is_manual = true;
        tick_one(script, a, parse_duration(rest));
    } else if (strcmp(verb, "deliver") == 0) {
        script->cluster->is_manual = true;
        deliver(script, a >= 0 ? a : RAFT_NO_MEMBER, b);
    } else if (!fault(script, verb, a, b, rest) && !work(script, verb, a, rest)) {
        fail_msg("unknown command: %s", line);
    }
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    struct text text = {0};
    char line[LINE_MAX_BYTES];
    add_text(&text, "");
    while (fgets(line, sizeof(line), file) != NULL) {
        add_text(&text, line);
    }
    fclose(file);
    return text.bytes;
}

/* Runs the script and returns it with the expectations as they are now. */
static char *replay(const char *source)
{
    struct script script = {0};
    struct text out = {0};
    bool is_expectation = false;
    while (*source != '\0') {
        char line[LINE_MAX_BYTES];
        size_t size = strcspn(source, "\n");
        assert_true(size + 2 < sizeof(line));
        memcpy(line, source, size);
        strcpy(line + size, "\n");
        source += size + (source[size] == '\n');
        if (is_expectation) {
            is_expectation = size != 0;
            if (size == 0) {
                add_text(&out, line);
            }
            continue;
        }
        add_text(&out, line);
        if (strcmp(line, "----\n") == 0) {
            add_text(&out, script.trace.size > 0 ? script.trace.bytes : "ok\n");
            script.trace.size = 0;
            is_expectation = true;
        } else if (line[0] != '#' && size > 0) {
            execute(&script, line);
        }
    }
    cluster_destroy(script.cluster);
    free(script.trace.bytes);
    return out.bytes;
}

static void run_script(const char *path)
{
    char *expected = read_file(path);
    char *got = replay(expected);
    bool is_same = strcmp(expected, got) == 0;
    if (!is_same && getenv("RAFT_SCRIPT_REWRITE") != NULL) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs(got, file) >= 0);
        assert_int_equal(fclose(file), 0);
    } else if (!is_same) {
        size_t same = 0;
        while (expected[same] == got[same]) {
            same++;
        }
        while (same > 0 && got[same - 1] != '\n') {
            same--;
        }
        print_error("%s differs.\nexpected: %.200s\ngot: %.200s\n", path, expected + same,
                    got + same);
    }
    free(expected);
    free(got);
    assert_true(is_same || getenv("RAFT_SCRIPT_REWRITE") != NULL);
}

static void test_scripts_give_their_expected_traces(void **state)
{
    (void)state;
    glob_t paths;
    assert_int_equal(glob(TESTS_DIR "/scripts/raft_*.txt", 0, NULL, &paths), 0);
    assert_true(paths.gl_pathc >= 12);
    for (size_t i = 0; i < paths.gl_pathc; i++) {
        run_script(paths.gl_pathv[i]);
    }
    globfree(&paths);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scripts_give_their_expected_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
