/*
 * Finding the daemon of a state directory, and losing it.
 */
#include "cli/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/bearer_token.h"
#include "base/cleanup.h"
#include "base/clock.h"

#define SYSTEM_SOCKET "/run/pool-core/daemon.sock"
#define DAEMON_WAIT_MS \
    8000 /* for one that starts or stops: longer than either takes with answers under way */
#define DAEMON_LOOK_MS 20
#define RUNS_MAX       10 /* of one command: five daemons may come and go */

/* What the lock of a state directory says. */
enum lock_state {
    LOCK_STATE_FREE,    /* no daemon has it */
    LOCK_STATE_HELD,    /* one has */
    LOCK_STATE_UNKNOWN, /* it is not ours to look at */
};

static const char *find_variable(const struct cli *cli, const char *name)
{
    size_t n = strlen(name);
    for (const char *const *variable = cli->environment; *variable; variable++) {
        if (strncmp(*variable, name, n) == 0 && (*variable)[n] == '=' && (*variable)[n + 1])
            return *variable + n + 1;
    }
    return NULL;
}

static enum pool_code look_at_lock(const struct pool_config *config, enum lock_state *ret_state,
                                   struct pool_error *err)
{
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/daemon.lock", config->state_dir) < 0) {
        path = NULL;
        return pool_error_no_memory(err);
    }
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
    if (fd < 0)
        *ret_state = errno == EACCES ? LOCK_STATE_UNKNOWN : LOCK_STATE_FREE;
    else
        *ret_state =
            flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK ? LOCK_STATE_HELD : LOCK_STATE_FREE;
    return POOL_OK;
}

/* Whether somebody listens there; a file that was left behind refuses. */
static bool does_socket_answer(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address.sun_path)
        return false;
    memcpy(address.sun_path, path, strlen(path) + 1);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* EAGAIN: its queue is full, so there is one */
    return fd >= 0 &&
           (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN);
}

static void wipe_text(char **text)
{
    if (*text)
        explicit_bzero(*text, strlen(*text));
    free(*text);
}

/* The token comes from a file or the environment, never from an argument, which everybody on the machine may read. */
static enum pool_code send_token(struct cli *cli, struct pool_error *err)
{
    CLEANUP(wipe_text) char *token_of_file = NULL;
    const char *token = find_variable(cli, "POOL_TOKEN");
    const char *path = cli->globals.token_file;
    if (!path && !token)
        path = find_variable(cli, "POOL_TOKEN_FILE");
    if (path) {
        enum pool_code code = bearer_token_read(path, &token_of_file, err);
        if (code == POOL_INVALID_CONFIG)
            pool_error_set_field(err, "token_file");
        if (code != POOL_OK)
            return code;
        token = token_of_file;
    }
    if (!token)
        return POOL_OK;
    if (!bearer_token_is_valid(token, strlen(token)))
        return pool_error_set(err, POOL_INVALID_CONFIG,
                              "POOL_TOKEN: not a token: longer than %d bytes, or not visible ASCII",
                              BEARER_TOKEN_MAX_BYTES);
    return remote_http_set_token(cli->daemon, token) ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code open_daemon(struct cli *cli, const char *text, struct pool_error *err)
{
    struct remote_address address = { 0 };
    enum pool_code code = remote_address_parse(text, &address, err);
    /* On its socket a daemon knows us by our user id, and a token has no business there. */
    bool is_tcp = code == POOL_OK && !address.socket_path;
    if (code == POOL_OK)
        code = remote_http_open(&address, &cli->daemon, err);
    if (code == POOL_OK && is_tcp)
        code = send_token(cli, err);
    if (code != POOL_OK)
        remote_http_close(take_ptr(&cli->daemon));
    return code;
}

static enum pool_code open_socket(struct cli *cli, const char *path, struct pool_error *err)
{
    CLEANUP_FREE char *text = NULL;
    if (asprintf(&text, "unix:%s", path) < 0) {
        text = NULL;
        return pool_error_no_memory(err);
    }
    return open_daemon(cli, text, err);
}

/*
 * The system's daemon, for everybody else who may use its socket: root and the user pool find it by the state directory.
 * Who names a state directory wants that one.
 */
static enum pool_code look_for_system_daemon(struct cli *cli, const struct pool_config *config,
                                             struct pool_error *err)
{
    if (config->is_state_dir_explicit || strcmp(config->daemon_socket, SYSTEM_SOCKET) == 0 ||
        !does_socket_answer(SYSTEM_SOCKET))
        return POOL_OK;
    return open_socket(cli, SYSTEM_SOCKET, err);
}

/* *ret_is_held: a daemon has the state directory, and nothing answers. */
static enum pool_code look_for_daemon(struct cli *cli, const struct pool_config *config, bool *ret_is_held,
                                      struct pool_error *err)
{
    enum lock_state lock = LOCK_STATE_FREE;
    enum pool_code code = look_at_lock(config, &lock, err);
    *ret_is_held = false;
    if (code != POOL_OK)
        return code;
    if (lock == LOCK_STATE_FREE)
        return look_for_system_daemon(cli, config, err);
    if (does_socket_answer(config->daemon_socket)) {
        cli->is_daemon_ours = lock == LOCK_STATE_HELD;
        return open_socket(cli, config->daemon_socket, err);
    }
    *ret_is_held = lock == LOCK_STATE_HELD;
    return POOL_OK;
}

static enum pool_code check_url(const struct cli *cli, const char **ret_url, struct pool_error *err)
{
    if (cli->globals.url && cli->globals.is_local) {
        pool_error_set(err, POOL_INVALID_REQUEST, "--local asks no daemon, --url names one");
        pool_error_set_field(err, "url");
        return POOL_INVALID_REQUEST;
    }
    *ret_url = cli->globals.is_local ? NULL
               : cli->globals.url    ? cli->globals.url
                                     : find_variable(cli, "POOL_URL");
    return POOL_OK;
}

/* *ret_is_known: there is nothing more to look for. */
static enum pool_code begin_finding(struct cli *cli, bool *ret_is_known, struct pool_error *err)
{
    const char *url = NULL;
    if (cli->daemon) {
        *ret_is_known = true;
        return POOL_OK;
    }
    enum pool_code code = check_url(cli, &url, err);
    *ret_is_known = url || cli->globals.is_local || cli->manager;
    return code == POOL_OK && url ? open_daemon(cli, url, err) : code;
}

enum pool_code cli_find_daemon(struct cli *cli, struct remote_http **ret_daemon, struct pool_error *err)
{
    const struct pool_config *config;
    bool is_known = false;
    bool is_held = false;
    enum pool_code code = begin_finding(cli, &is_known, err);
    if (code == POOL_OK && !is_known) {
        code = cli_get_config(cli, &config, err);
        if (code == POOL_OK)
            code = look_for_daemon(cli, config, &is_held, err);
    }
    if (code == POOL_OK)
        *ret_daemon = cli->daemon;
    return code;
}

enum pool_code cli_is_daemon_silent(struct cli *cli, bool *ret_is_silent, struct pool_error *err)
{
    const struct pool_config *config;
    enum lock_state lock = LOCK_STATE_FREE;
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code == POOL_OK)
        code = look_at_lock(config, &lock, err);
    if (code == POOL_OK)
        *ret_is_silent = lock == LOCK_STATE_HELD && !does_socket_answer(config->daemon_socket);
    return code;
}

static enum pool_code refuse_silence(const struct pool_config *config, struct pool_error *err)
{
    return pool_error_set(err, POOL_CONFLICT,
                          "a daemon manages %s, but none answers at its socket %s: it hangs, or listens "
                          "elsewhere (--url names the place)",
                          config->state_dir, config->daemon_socket);
}

enum pool_code cli_get_pool(struct cli *cli, struct remote_http **ret_daemon,
                            struct pool_manager **ret_manager, struct pool_error *err)
{
    const struct pool_config *config = NULL;
    bool is_known = false;
    int64_t deadline_ns = clock_boottime_ns() + DAEMON_WAIT_MS * NS_PER_MS;
    enum pool_code code = begin_finding(cli, &is_known, err);
    if (code == POOL_OK && !cli->daemon)
        code = is_known ? cli_get_manager(cli, &(struct pool_manager *){ NULL }, err)
                        : cli_get_config(cli, &config, err);
    while (code == POOL_OK && config && !cli->daemon && !cli->manager) {
        bool is_held = false;
        code = look_for_daemon(cli, config, &is_held, err);
        if (code != POOL_OK || cli->daemon)
            break;
        if (!is_held)
            code = cli_get_manager(cli, &(struct pool_manager *){ NULL }, err);
        if (!is_held && code != POOL_CONFLICT)
            break;
        if (clock_boottime_ns() >= deadline_ns)
            return is_held ? refuse_silence(config, err) : code;
        code = POOL_OK; /* one came between the look and the opening, or is on its way: look again */
        poll(NULL, 0, DAEMON_LOOK_MS);
    }
    if (code == POOL_OK) {
        *ret_daemon = cli->daemon;
        *ret_manager = cli->daemon ? NULL : cli->manager;
    }
    return code;
}

void cli_forget_daemon(struct cli *cli)
{
    remote_http_close(take_ptr(&cli->daemon));
    cli->is_daemon_lost = false;
    cli->is_daemon_ours = false;
}

bool cli_may_run_again(struct cli *cli, enum pool_code code)
{
    bool is_lost = code != POOL_OK && cli->daemon && cli->is_daemon_lost && cli->is_daemon_ours;
    bool is_superseded = code != POOL_OK && cli->manager && pool_manager_is_superseded(cli->manager);
    if ((!is_lost && !is_superseded) || ++cli->n_runs >= RUNS_MAX)
        return false;
    if (is_lost)
        cli_forget_daemon(cli);
    else
        cli_release_manager(cli);
    return true;
}

bool cli_shares_state(const struct cli *cli)
{
    return cli->is_daemon_ours;
}
