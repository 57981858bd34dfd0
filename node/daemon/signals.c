/* Signals: SIGTERM and SIGINT stop the daemon. Other signals that would end the process are
 * ignored with a log line, except those that abort it or report a fault. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/daemon_internal.h"

#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define IGNORED_LINE_NS NS_PER_S /* between two lines about ignored signals */

static const int ignored_signals[] = {
    SIGHUP, SIGUSR1, SIGUSR2,   SIGALRM, SIGVTALRM, SIGPROF,
    SIGIO,  SIGPWR,  SIGSTKFLT, SIGXCPU, SIGXFSZ,
};

static void fill_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    for (size_t i = 0; i < sizeof(ignored_signals) / sizeof(ignored_signals[0]); i++) {
        sigaddset(set, ignored_signals[i]);
    }
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) {
        sigaddset(set, signal);
    }
}

void daemon_hold_signals(void)
{
    sigset_t set;
    fill_set(&set);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

void daemon_let_signals_go(void)
{
    sigset_t set;
    fill_set(&set);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int daemon_open_signals(void)
{
    sigset_t set;
    fill_set(&set);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void tell_ignored(struct daemon *daemon, const struct signalfd_siginfo *info)
{
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    daemon->signals_ignored++;
    if (daemon->ignored_line_ns != 0 && now_ns < daemon->ignored_line_ns + IGNORED_LINE_NS) {
        return;
    }
    daemon->ignored_line_ns = now_ns;
    const char *name = sigabbrev_np((int)info->ssi_signo);
    log_info("daemon",
             info->ssi_signo == SIGHUP ? "SIGHUP is ignored: a changed configuration is read when "
                                         "the node is started again"
                                       : "a signal is ignored",
             LOG_STR("signal", name != NULL ? name : "RT"), LOG_U64("number", info->ssi_signo),
             LOG_U64("sender_pid", info->ssi_pid), LOG_U64("ignored", daemon->signals_ignored));
}

int daemon_read_signal(struct daemon *daemon, int signals)
{
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
            return (int)info.ssi_signo;
        }
        tell_ignored(daemon, &info);
    }
    return 0;
}
