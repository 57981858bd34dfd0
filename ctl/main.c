/* The command-line client: reads the words, opens the cluster, runs the verb. */
#include "arguments.h"
#include "base/errors.h"
#include "cluster.h"
#include "complain.h"
#include "verbs.h"

#include <locale.h>
#include <stdio.h>

static int run(const struct arguments *arguments)
{
    if (arguments->verb->is_local) {
        return arguments->verb->run(NULL, arguments);
    }
    struct cluster *cluster;
    int rc = cluster_create(arguments->addresses, arguments->address_count, arguments->timeout_ms,
                            &cluster);
    if (rc != 0) {
        complain("cannot start: %s", error_text(rc));
        return EXIT_REFUSED;
    }
    int code = arguments->verb->run(cluster, arguments);
    cluster_destroy(cluster);
    return code;
}

static int run_words(int argc, char **argv, struct arguments *arguments)
{
    if (argc == 1) {
        verbs_print_overview(stderr);
        return EXIT_USAGE;
    }
    int code = arguments_parse(argc, argv, arguments);
    if (code != 0) {
        return code;
    }
    if (arguments->is_version) {
        return verb_version.run(NULL, arguments);
    }
    if (!arguments->is_help) {
        return run(arguments);
    }
    if (arguments->verb == NULL) {
        verbs_print_overview(stdout);
    } else {
        verbs_print_help(arguments->verb);
    }
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    /* wcwidth() needs a UTF-8 locale. The output is UTF-8 whatever the user's locale is. */
    setlocale(LC_CTYPE, "C.UTF-8");
    struct arguments arguments = {0};
    int code = run_words(argc, argv, &arguments);
    arguments_finish(&arguments);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        complain("cannot write the output");
        return code == EXIT_DONE ? EXIT_REFUSED : code;
    }
    return code;
}
