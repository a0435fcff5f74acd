/*
 * Asking before something is lost; see confirm.h.
 */
#include "cli/confirm.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define ANSWER_MAX 16

/* One line from the terminal, byte by byte: what stands behind it is for others. false: it ended, or is too long. */
static bool read_line(char line[ANSWER_MAX])
{
    size_t n = 0;
    for (;;) {
        char c;
        ssize_t n_read = read(STDIN_FILENO, &c, 1);
        if (n_read < 0 && errno == EINTR)
            continue;
        if (n_read <= 0)
            return false;
        if (c == '\n')
            break;
        if (n < ANSWER_MAX)
            line[n++] = c;
    }
    if (n >= ANSWER_MAX)
        return false;
    line[n] = '\0';
    return true;
}

enum pool_code confirm(const struct cli *cli, bool is_sure, const char *question, struct pool_error *err)
{
    char line[ANSWER_MAX];
    if (is_sure)
        return POOL_OK;
    if (isatty(STDIN_FILENO) != 1) {
        pool_error_set(err, POOL_INVALID_REQUEST, "%s Nobody can be asked here; --yes goes ahead", question);
        pool_error_set_field(err, "yes");
        return POOL_INVALID_REQUEST;
    }
    terminal_print(&cli->terminal, cli->err, question);
    fputs(" [y/N] ", cli->err);
    fflush(cli->err);
    if (read_line(line) && (strcasecmp(line, "y") == 0 || strcasecmp(line, "yes") == 0))
        return POOL_OK;
    return pool_error_set(err, POOL_CANCELLED, "nothing was done");
}
