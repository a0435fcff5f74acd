/*
 * The terminal as a screen; see screen.h.
 *
 * Source: ECMA-48 (CUP, EL, ED), XTerm Control Sequences (modes 7, 25, 1049; keys), termios(3), signalfd(2).
 */
#include "cli/screen.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#define SHOW   "\033[?1049h\033[?7l\033[?25l"
#define HIDE   "\033[?25h\033[?7h\033[?1049l"
#define ESCAPE '\033'
/* An escape that nothing follows for so long is the key of that name. */
#define ESCAPE_WAIT_MS 50

static void write_text(const struct screen *screen, const char *text)
{
    (void)fd_write_all(screen->out_fd, text,
                       strlen(text)); /* a terminal that is gone is noticed when it is read */
}

static void look_at_size(struct screen *screen)
{
    struct winsize size = { 0 };
    bool is_known = ioctl(screen->out_fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
    screen->rows = is_known ? size.ws_row : 24;
    screen->columns = is_known ? size.ws_col : 80;
}

static sigset_t our_signals(void)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH };
    sigset_t mask;
    sigemptyset(&mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaddset(&mask, numbers[i]);
    return mask;
}

static void show(struct screen *screen)
{
    struct termios raw = screen->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN); /* ISIG stays: ^C and ^Z are signals */
    raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    tcsetattr(screen->in_fd, TCSADRAIN, &raw);
    write_text(screen, SHOW);
    screen->is_shown = true;
    look_at_size(screen);
}

static void hide(struct screen *screen)
{
    write_text(screen, HIDE);
    tcsetattr(screen->in_fd, TCSADRAIN, &screen->before);
    screen->is_shown = false;
}

enum pool_code screen_open(struct screen *screen, const char *term, struct pool_error *err)
{
    sigset_t mask = our_signals();
    screen->in_fd = STDIN_FILENO;
    screen->out_fd = STDOUT_FILENO;
    if (isatty(screen->in_fd) != 1 || isatty(screen->out_fd) != 1)
        return pool_error_set(
            err, POOL_INVALID_REQUEST,
            "this needs a terminal; --once prints it a single time, 'status --json' is for programs");
    if (!term || !*term || strcmp(term, "dumb") == 0)
        return pool_error_set(err, POOL_INVALID_REQUEST,
                              "this terminal (TERM) can not move its cursor; --once prints it a single time");
    if (tcgetattr(screen->in_fd, &screen->before) < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "the terminal");
    screen->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (screen->signal_fd < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "signalfd");
    sigprocmask(SIG_BLOCK, &mask, &screen->mask_before);
    show(screen);
    return POOL_OK;
}

void screen_close(struct screen *screen)
{
    struct signalfd_siginfo info;
    if (screen->signal_fd < 0)
        return;
    if (screen->is_shown)
        hide(screen);
    while (read(screen->signal_fd, &info, sizeof info) > 0) /* seen, or without meaning now */
        ;
    close(screen->signal_fd);
    screen->signal_fd = -1;
    sigprocmask(SIG_SETMASK, &screen->mask_before, NULL);
}

void screen_suspend(struct screen *screen)
{
    hide(screen);
}

void screen_resume(struct screen *screen)
{
    struct signalfd_siginfo info;
    while (read(screen->signal_fd, &info, sizeof info) > 0) /* what was meant for who had the terminal */
        ;
    screen->n_pending = 0;
    show(screen);
}

bool screen_draw(const struct screen *screen, const char *text)
{
    CLEANUP(strbuf_done) struct strbuf frame = STRBUF_INIT(SCREEN_FRAME_MAX);
    int row = 1;
    strbuf_add_text(&frame, "\033[H");
    while (*text && row <= screen->rows) {
        size_t n = strcspn(text, "\n");
        strbuf_add_text(&frame, "\033[K"); /* before: behind a full line it would take the last character */
        strbuf_add(&frame, text, n);
        if (row < screen->rows)
            strbuf_add_text(&frame, "\r\n");
        text += n + (text[n] == '\n');
        row++;
    }
    if (row <= screen->rows)
        strbuf_add_text(&frame, "\033[J");
    return frame.failure == STRBUF_FINE && fd_write_all(screen->out_fd, frame.data, frame.n) == 0;
}

/* ---- keys ---- */

static uint32_t key_of_sequence(const char *parameters, size_t n, char final)
{
    switch (final) {
    case 'A': return SCREEN_KEY_UP;
    case 'B': return SCREEN_KEY_DOWN;
    case 'H': return SCREEN_KEY_HOME;
    case 'F': return SCREEN_KEY_END;
    case '~':
        if (n == 1 && (parameters[0] == '1' || parameters[0] == '7'))
            return SCREEN_KEY_HOME;
        if (n == 1 && (parameters[0] == '4' || parameters[0] == '8'))
            return SCREEN_KEY_END;
        if (n == 1 && parameters[0] == '5')
            return SCREEN_KEY_PAGE_UP;
        if (n == 1 && parameters[0] == '6')
            return SCREEN_KEY_PAGE_DOWN;
        return SCREEN_KEY_NONE;
    default: return SCREEN_KEY_NONE;
    }
}

static uint32_t parse_escape(const char *bytes, size_t n, size_t *ret_n)
{
    *ret_n = 0;
    if (n < 2)
        return SCREEN_KEY_NONE;
    if (bytes[1] != '[' && bytes[1] != 'O') {
        *ret_n = 1; /* the key itself, and something behind it */
        return ESCAPE;
    }
    for (size_t i = 2; i < n; i++) {
        if (bytes[i] >= 0x40 && bytes[i] <= 0x7e) {
            *ret_n = i + 1;
            return key_of_sequence(bytes + 2, i - 2, bytes[i]);
        }
    }
    if (n >= 16) /* no key is that long */
        *ret_n = n;
    return SCREEN_KEY_NONE;
}

uint32_t screen_parse_key(const char *bytes, size_t n, size_t *ret_n)
{
    unsigned char first = (unsigned char)bytes[0];
    *ret_n = 1;
    if (first == ESCAPE)
        return parse_escape(bytes, n, ret_n);
    if (first < 0x80)
        return first == '\r' ? '\n' : first;
    return SCREEN_KEY_NONE; /* of a longer character: no key of ours */
}

static uint32_t take_pending(struct screen *screen, bool is_all_there)
{
    while (screen->n_pending > 0) {
        size_t n = 0;
        uint32_t key = screen_parse_key(screen->pending, screen->n_pending, &n);
        if (n == 0 && !is_all_there)
            return SCREEN_KEY_NONE;
        if (n == 0) {
            n = 1;
            key = (unsigned char)screen->pending[0];
        }
        screen->n_pending -= n;
        memmove(screen->pending, screen->pending + n, screen->n_pending);
        if (key != SCREEN_KEY_NONE)
            return key;
    }
    return SCREEN_KEY_NONE;
}

/* ---- signals ---- */

/* As if we had never caught it: stops here until somebody continues us. */
static void stop_ourselves(struct screen *screen)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    hide(screen);
    raise(SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &stop, NULL);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    show(screen);
}

static uint32_t take_signal(struct screen *screen)
{
    struct signalfd_siginfo info;
    if (read(screen->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return SCREEN_KEY_NONE;
    switch (info.ssi_signo) {
    case SIGWINCH: look_at_size(screen); return SCREEN_KEY_RESIZED;
    case SIGTSTP: stop_ourselves(screen); return SCREEN_KEY_RESIZED;
    case SIGCONT: return SCREEN_KEY_RESIZED; /* also after a SIGSTOP, which nobody can catch */
    default: return SCREEN_KEY_QUIT;
    }
}

static bool has_partial_key(const struct screen *screen)
{
    size_t n = 1;
    if (screen->n_pending > 0)
        screen_parse_key(screen->pending, screen->n_pending, &n);
    return n == 0;
}

static int wait_ms(const struct screen *screen, int64_t until_boottime_ns)
{
    int64_t ms = (until_boottime_ns - clock_boottime_ns() + NS_PER_MS - 1) / NS_PER_MS;
    if (ms < 0)
        ms = 0;
    if (has_partial_key(screen) && ms > ESCAPE_WAIT_MS)
        ms = ESCAPE_WAIT_MS;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

uint32_t screen_wait(struct screen *screen, const int *fds, size_t n_fds, int64_t until_boottime_ns)
{
    struct pollfd polled[SCREEN_FDS_MAX + 2] = { { .fd = screen->in_fd, .events = POLLIN },
                                                 { .fd = screen->signal_fd, .events = POLLIN } };
    uint32_t key = take_pending(screen, false);
    if (key != SCREEN_KEY_NONE)
        return key;
    for (size_t i = 0; i < n_fds && i < SCREEN_FDS_MAX; i++)
        polled[2 + i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
    int n = poll(polled, (nfds_t)(2 + (n_fds < SCREEN_FDS_MAX ? n_fds : SCREEN_FDS_MAX)),
                 wait_ms(screen, until_boottime_ns));
    if (n == 0)
        return take_pending(screen, true);
    if (n < 0)
        return SCREEN_KEY_NONE;
    if (polled[1].revents)
        return take_signal(screen);
    if (polled[0].revents & POLLIN) {
        ssize_t n_read = read(screen->in_fd, screen->pending + screen->n_pending,
                              sizeof screen->pending - screen->n_pending);
        if (n_read <= 0)
            return SCREEN_KEY_QUIT; /* the terminal is gone */
        screen->n_pending += (size_t)n_read;
        return take_pending(screen, false);
    }
    return polled[0].revents ? SCREEN_KEY_QUIT : SCREEN_KEY_NONE;
}
