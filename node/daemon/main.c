/* The daemon's command line. See daemon.c for what it runs. */
#include "base/errors.h"
#include "base/log.h"
#include "base/random.h"
#include "base/table_hash.h"
#include "chat/command.h"
#include "config/config.h"
#include "daemon/daemon.h"
#include "storage/wal.h"
#include "json/json.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define DEFAULT_CONFIG "config.yaml"

struct arguments {
    const char *config_path;
    const char *dump_path;
    bool is_dev;
    bool is_check;
};

static const char usage[] =
    "Usage: raftogram [-config FILE] [-dev] [-check-config] [-dump-log DIR] [-version] [-help]\n"
    "\n"
    "One node of a raftogram cluster.\n"
    "\n"
    "  -config FILE    the configuration (default " DEFAULT_CONFIG "; RAFTOGRAM_CONFIG)\n"
    "  -dev            logs for people instead of JSON (RAFTOGRAM_DEV, any non-empty value)\n"
    "  -check-config   check the configuration and exit\n"
    "  -dump-log DIR   print the log in DIR (the data_dir of a stopped node) and exit\n"
    "  -version        print the version and exit\n"
    "  -help           print this and exit\n"
    "\n"
    "Flags take one or two dashes, and -config=FILE works too.\n"
    "Exit codes: 0 clean, 1 run-time failure, 2 usage or configuration error.\n";

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0';
}

/* Returns an exit code, or -1 to continue. */
static int parse_arguments(int argc, char **argv, struct arguments *out)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"dev", no_argument, NULL, 'd'},
        {"check-config", no_argument, NULL, 'k'},
        {"dump-log", required_argument, NULL, 'l'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    out->config_path = is_set("RAFTOGRAM_CONFIG") ? getenv("RAFTOGRAM_CONFIG") : DEFAULT_CONFIG;
    out->is_dev = is_set("RAFTOGRAM_DEV");
    opterr = 0;
    int option;
    while ((option = getopt_long_only(argc, argv, ":", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            out->config_path = optarg;
            break;
        case 'd':
            out->is_dev = true;
            break;
        case 'k':
            out->is_check = true;
            break;
        case 'l':
            out->dump_path = optarg;
            break;
        case 'v':
            printf("raftogram %s\n", RAFTOGRAM_VERSION);
            return 0;
        case 'h':
            fputs(usage, stdout);
            return 0;
        case ':':
            fprintf(stderr, "raftogram: %s needs a value; see raftogram -help\n", argv[optind - 1]);
            return EXIT_USAGE;
        default:
            fprintf(stderr, "raftogram: unknown flag %s; see raftogram -help\n", argv[optind - 1]);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "raftogram: unexpected argument \"%s\"; see raftogram -help\n",
                argv[optind]);
        return EXIT_USAGE;
    }
    return -1;
}

static void describe_entry(const struct wal_entry *entry, struct buf *out)
{
    if (entry->type != 0) {
        buf_append_text(out, "config change");
    } else if (entry->data.size == 0) {
        buf_append_text(out, "no-op");
    } else {
        command_describe(entry->data, out);
    }
}

/* `dir`: the log's, or the data_dir that it is in. */
static int dump_log(const char *dir)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/identity", dir);
    bool is_data_dir = access(path, F_OK) == 0;
    int length = snprintf(path, sizeof(path), "%s%s", dir, is_data_dir ? "/log" : "");
    int rc = length < (int)sizeof(path) ? wal_dump(fs_posix(), path, describe_entry, STDOUT_FILENO)
                                        : ERR_INVALID;
    if (rc != 0) {
        fprintf(stderr, "raftogram: %s: %s\n", path, error_text(rc));
        return EXIT_FAILED;
    }
    return 0;
}

/* Opens descriptors 0 to 2 if they are closed: else the first files opened would get these
 * numbers, and log lines would be written into them. Libraries open files before main(), hence
 * the section, and system calls instead of functions that libraries may replace. */
static void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (syscall(SYS_fcntl, fd, F_GETFD) < 0 &&
            syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR) < 0) {
            (void)syscall(SYS_openat, AT_FDCWD, "/", O_PATH); /* what is written there fails */
        }
    }
}

__attribute__((section(".preinit_array"),
               used)) static void (*const before_libraries)(void) = fill_standard_descriptors;

/* Prints the one line of a failed start. */
static int fail(int code, const char *error)
{
    char line[CONFIG_ERROR_BYTES_MAX + 32];
    snprintf(line, sizeof(line), "raftogram: %s", error);
    log_plain(line);
    (void)log_flush(LOG_LAST_WORDS_MS);
    return code;
}

/* Keys the hash tables that clients fill, so that they cannot prepare colliding keys. */
static void set_table_keys(void)
{
    uint64_t keys[2];
    random_bytes(keys, sizeof(keys));
    table_hash_set_key(keys[0]);
    json_set_key(keys[1]);
}

int main(int argc, char **argv)
{
    daemon_hold_signals();
    struct arguments arguments = {0};
    int code = parse_arguments(argc, argv, &arguments);
    if (code >= 0) {
        return code;
    }
    if (arguments.dump_path != NULL) {
        daemon_let_signals_go();
        return dump_log(arguments.dump_path);
    }
    set_table_keys();
    log_init(arguments.is_dev, LOG_LEVEL_INFO);
    (void)log_start(); /* without memory for a thread the start fails later, and says so */
    struct config *config = NULL;
    static char error[CONFIG_ERROR_BYTES_MAX];
    if (config_load(arguments.config_path, &config, error, sizeof(error)) != 0) {
        return fail(EXIT_USAGE, error);
    }
    const char *unsupported = config_find_unsupported(config);
    if (unsupported != NULL) {
        snprintf(error, sizeof(error), "%s: %s", arguments.config_path, unsupported);
        config_destroy(config);
        return fail(EXIT_USAGE, error);
    }
    if (arguments.is_check) {
        printf("%s: ok\n", arguments.config_path);
        config_destroy(config);
        return 0;
    }
    int rc = daemon_run(config, error, sizeof(error));
    config_destroy(config);
    if (rc != 0) {
        return fail(EXIT_FAILED, error);
    }
    (void)log_flush(LOG_LAST_WORDS_MS);
    return 0;
}
