/*
 * pool-managerd: the command line of the daemon.
 */
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/helper_path.h"
#include "managerd/daemon.h"
#include "managerd/log.h"

/* Blocking work beside the loop: starts in order on one thread, each stop on one of its own. */
#define WORK_THREADS "64"

static const struct option {
    const char *flag;
    const char *key; /* of the configuration; NULL: the file itself */
    const char *value_name;
    const char *summary;
} options[] = {
    { "--config", NULL, "FILE", "the configuration file" },
    { "--state-dir", "pool.state_dir", "DIR", "registry, locks and logs" },
    { "--log-level", "log_level", "LEVEL", "error, warning, info or debug" },
    { "--bind", "daemon.bind", "ADDR:PORT", "where to listen (default 127.0.0.1:9200)" },
    { "--socket", "daemon.socket", "PATH", "the Unix socket" },
};

#define N_OPTIONS (sizeof options / sizeof options[0])

static void print_help(void)
{
    printf("usage: pool-managerd [OPTION]...\n\nWatches the model workers of this host and serves the "
           "API.\n\nOptions\n");
    for (size_t i = 0; i < N_OPTIONS; i++)
        printf("  %-12s %-10s %s\n", options[i].flag, options[i].value_name, options[i].summary);
    printf("  %-12s %-10s read the configuration and the tokens, say what is wrong with them, and end\n"
           "  %-12s %-10s this text\n  %-12s %-10s the version\n",
           "--check", "", "--help", "", "--version", "");
    fputs("\nSignals\n"
          "  SIGTERM, SIGINT  end in order; workers go on unless daemon.stop_workers_on_exit is set\n"
          "  SIGHUP           read daemon.token_file and changed catalogs anew\n"
          "  SIGUSR1          log everything; a second one goes back\n"
          "\nVariables\n"
          "  POOL_CONFIG      the configuration file, as --config; each key has one too: POOL_DAEMON_BIND, "
          "...\n"
          "  NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS, JOURNAL_STREAM\n"
          "                   as systemd sets them for a service\n"
          "\nExit status\n"
          "  0  ended in order              2  a fault in the configuration, the tokens or an argument\n"
          "  4  the state is another user's 5  the state or the socket belongs to a daemon that runs\n"
          "  7  the address is taken        1  anything else\n"
          "\nKeys of the configuration: docs/configuration.md; running the daemon: docs/daemon.md\n",
          stdout);
}

static const struct option *find_option(const char *flag, size_t n)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (strlen(options[i].flag) == n && strncmp(options[i].flag, flag, n) == 0)
            return &options[i];
    }
    return NULL;
}

/* -1: go on; else the exit status. */
static int parse_arguments(int argc, char **argv, struct pool_config_sources *sources,
                           struct pool_config_override *overrides, bool *ret_is_check)
{
    for (int i = 1; i < argc; i++) {
        size_t n = strcspn(argv[i], "=");
        const struct option *option = find_option(argv[i], n);
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return 0;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("pool-managerd %s\n", pool_version());
            return 0;
        }
        if (strcmp(argv[i], "--check") == 0) {
            *ret_is_check = true;
            continue;
        }
        const char *value = argv[i][n] == '=' ? argv[i] + n + 1 : i + 1 < argc ? argv[i + 1] : NULL;
        if (!option || !value) {
            fprintf(stderr,
                    option ? "pool-managerd: %s needs a value\n" : "pool-managerd: there is no option %s\n",
                    argv[i]);
            return pool_code_exit_status(POOL_INVALID_REQUEST);
        }
        if (argv[i][n] != '=')
            i++;
        if (!option->key)
            sources->file = value;
        else
            overrides[sources->n_overrides++] =
                (struct pool_config_override){ option->key, value, option->flag };
        if (sources->n_overrides == N_OPTIONS)
            break;
    }
    return -1;
}

/* What only shows when it is used is not looked at: addresses that are taken, the state directory. */
static int check(const struct pool_config *config)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct access *access = NULL;
    enum pool_code code = access_open(config, &access, &error);
    if (code != POOL_OK)
        log_tell(LOG_CONFIG_ERROR, NULL, "%s: %s", error.field, error.message);
    access_close(access);
    return pool_code_exit_status(code);
}

static void report_problem(bool is_warning, const char *message, void *context)
{
    (void)context;
    log_tell(is_warning ? LOG_CONFIG_WARNING : LOG_CONFIG_ERROR, NULL, "%s", message);
}

/* What is meant for this process alone is not for its children. There are no other threads yet. */
static void forget_service(void)
{
    static const char *const names[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                         "LISTEN_PID",    "LISTEN_FDS",    "LISTEN_FDNAMES" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)uv_os_unsetenv(names[i]);
}

/* Whoever starts us without one of the first three would have the database as his standard error. */
static void hold_standard_fds(void)
{
    for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR)) {
        if (fd > STDERR_FILENO) {
            close(fd);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    struct pool_config_override overrides[N_OPTIONS + 1];
    struct pool_config_sources sources = { .struct_size = sizeof sources,
                                           .environment = (const char *const *)environ,
                                           .overrides = overrides };
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_config *config = NULL;
    struct service service = SERVICE_INIT;
    char probe[PATH_MAX];
    bool is_check = false;
    hold_standard_fds();
    int status = parse_arguments(argc, argv, &sources, overrides, &is_check);
    if (status >= 0)
        return status;
    signal(SIGPIPE, SIG_IGN);
#ifdef M_ARENA_MAX
    /* By default each thread that allocates gets a heap of its own, which keeps what it once had: megabytes in months. */
    (void)mallopt(M_ARENA_MAX, 2);
#endif
    (void)uv_os_setenv("UV_THREADPOOL_SIZE", WORK_THREADS); /* before libuv makes its threads */
    log_open("info", (const char *const *)environ);
    enum pool_code code = service_open(&service, (const char *const *)environ, &error);
    if (code != POOL_OK) {
        log_tell(LOG_START_FAILED, NULL, "%s: %s", pool_code_name(code), error.message);
        return pool_code_exit_status(code);
    }
    forget_service();
    code = pool_config_check(&sources, report_problem, NULL, &config, &error);
    if (code != POOL_OK)
        return pool_code_exit_status(code);
    log_open(config->log_level, (const char *const *)environ);
    if (is_check) {
        status = check(config);
        pool_config_free(config);
        return status;
    }
    if (!helper_path_find("pool-gpu-probe", probe)) {
        log_tell(LOG_START_FAILED, NULL,
                 "pool-gpu-probe is neither beside this program nor in ../libexec/pool-core");
        pool_config_free(config);
        return 1;
    }
    struct daemon_options daemon = { .config = config,
                                     .environment = (const char *const *)environ,
                                     .probe_path = probe,
                                     .service = &service };
    status = daemon_run(&daemon);
    service_done(&service);
    pool_config_free(config);
    return status;
}
