/*
 * Messages to the service manager; see notify.h.
 */
#include "managerd/notify.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "managerd/variables.h"

#define MESSAGE_MAX 512

void notify_done(struct notify *notify)
{
    close_fd(&notify->fd);
    *notify = (struct notify)NOTIFY_INIT;
}

/* An absolute path, or a name in the abstract namespace behind '@'. A vsock is for virtual machines, not for us. */
static bool read_address(const char *text, struct notify *notify)
{
    size_t n = strlen(text);
    if (n < 2 || n > sizeof notify->address.sun_path - (text[0] == '/') || (text[0] != '/' && text[0] != '@'))
        return false;
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, text, n);
    if (text[0] == '@')
        notify->address.sun_path[0] = '\0';
    /* a path with its NUL, a name without */
    notify->n_address = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (text[0] == '/'));
    return true;
}

static void read_watchdog(const char *const *environment, struct notify *notify)
{
    int64_t interval_us;
    int64_t pid;
    const char *interval_text = variable_find(environment, "WATCHDOG_USEC");
    const char *pid_text = variable_find(environment, "WATCHDOG_PID");
    bool is_ours = !pid_text || (parse_int64(pid_text, 1, INT32_MAX, &pid) && pid == getpid());
    if (is_ours && interval_text && parse_int64(interval_text, 1000, INT64_MAX, &interval_us))
        notify->watchdog_ms = interval_us / 1000;
}

enum pool_code notify_open(const char *const *environment, struct notify *notify, struct pool_error *err)
{
    *notify = (struct notify)NOTIFY_INIT;
    const char *text = variable_find(environment, "NOTIFY_SOCKET");
    if (!text)
        return POOL_OK;
    if (!read_address(text, notify))
        return pool_error_set(err, POOL_INVALID_CONFIG,
                              "NOTIFY_SOCKET: neither an absolute path nor an abstract name");
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify->fd < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "a socket for NOTIFY_SOCKET");
    read_watchdog(environment, notify);
    return POOL_OK;
}

bool notify_send(const struct notify *notify, int wait_ms, const char *format, ...)
{
    char message[MESSAGE_MAX];
    if (notify->fd < 0)
        return true;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n <= 0)
        return false;
    size_t n_message = (size_t)n < sizeof message ? (size_t)n : sizeof message - 1;
    for (;;) {
        if (sendto(notify->fd, message, n_message, MSG_DONTWAIT | MSG_NOSIGNAL,
                   (const struct sockaddr *)&notify->address, notify->n_address) >= 0)
            return true;
        if (errno == EINTR)
            continue;
        struct pollfd room = { .fd = notify->fd, .events = POLLOUT };
        if (errno != EAGAIN || wait_ms <= 0 || poll(&room, 1, wait_ms) < 0)
            return false;
        wait_ms = 0; /* once more, and no more */
    }
}
