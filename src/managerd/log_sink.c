/*
 * Where the log goes; see log_sink.h.
 *
 * Source: systemd.exec(5), JOURNAL_STREAM; "Native Journal Protocol", systemd.io/JOURNAL_NATIVE_PROTOCOL.
 */
#include "managerd/log_sink.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "managerd/variables.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static struct {
    enum log_form form;
    bool is_socket; /* standard error is one */
    int journal_fd; /* connected; -1 without a journal */
} sink = { LOG_FORM_JSON, false, -1 };

/* "DEVICE:INODE" of what systemd connected. Somebody may have led standard error elsewhere since. */
static bool is_journal_stream(const char *text, const struct stat *seen)
{
    int64_t device;
    int64_t inode;
    size_t n_device = strcspn(text, ":");
    return text[n_device] == ':' && parse_int64_n(text, n_device, 0, INT64_MAX, &device) &&
           parse_int64(text + n_device + 1, 0, INT64_MAX, &inode) && (dev_t)device == seen->st_dev &&
           (ino_t)inode == seen->st_ino;
}

static int connect_journal(void)
{
    static const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    return take_fd(&fd);
}

void log_sink_open(const char *const *environment)
{
    struct stat seen = { 0 };
    const char *stream = variable_find(environment, "JOURNAL_STREAM");
    bool is_known = fstat(STDERR_FILENO, &seen) == 0;
    close_fd(&sink.journal_fd);
    sink.journal_fd = is_known && stream && is_journal_stream(stream, &seen) ? connect_journal() : -1;
    sink.is_socket = is_known && S_ISSOCK(seen.st_mode);
    sink.form = sink.journal_fd >= 0         ? LOG_FORM_JOURNAL
                : isatty(STDERR_FILENO) == 1 ? LOG_FORM_TEXT
                                             : LOG_FORM_JSON;
}

enum log_form log_sink_form(void)
{
    return sink.form;
}

bool log_sink_put(const char *data, size_t n)
{
    if (sink.form == LOG_FORM_JOURNAL)
        return send(sink.journal_fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
    if (sink.is_socket)
        return send(STDERR_FILENO, data, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
    /* The open file is shared with whoever started us: it is not ours to make it non-blocking. */
    struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };
    if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
        return false;
    return write(STDERR_FILENO, data, n) == (ssize_t)n;
}
