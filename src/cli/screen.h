/*
 * The whole terminal as a screen that is drawn again and again: its other page, keys one by one, its size. Whatever ends
 * the program in order gives the terminal back as it was; so do the signals that people and terminals send, which arrive
 * here as keys.
 *
 * Why not curses: what is drawn is whole lines, many at once, without windows or optimisation by terminal type; the few
 * control sequences are those of ECMA-48 that every terminal of today knows. A library would be loaded by every command,
 * or by hand and by name for each function.
 */
#ifndef CLI_SCREEN_H
#define CLI_SCREEN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

#include <pool/error.h>

#include "base/strbuf.h"

#define SCREEN_FRAME_MAX   ((size_t)1 << 20)
#define SCREEN_COLUMNS_MIN 20
#define SCREEN_ROWS_MIN    6

/* What is no character. */
enum screen_key {
    SCREEN_KEY_NONE = 0,
    SCREEN_KEY_UP = 0x110000, /* beyond Unicode */
    SCREEN_KEY_DOWN,
    SCREEN_KEY_PAGE_UP,
    SCREEN_KEY_PAGE_DOWN,
    SCREEN_KEY_HOME,
    SCREEN_KEY_END,
    SCREEN_KEY_RESIZED,
    SCREEN_KEY_QUIT, /* a signal that wants an end, or the terminal is gone */
};

struct screen {
    int in_fd, out_fd;
    int signal_fd; /* -1: the screen is not open */
    int rows, columns;
    bool is_shown; /* the other page is */
    struct termios before;
    sigset_t mask_before;
    char pending[64]; /* bytes of keys that are not read yet */
    size_t n_pending;
};

#define SCREEN_INIT     \
    {                   \
        .signal_fd = -1 \
    }

/**
 * Takes the terminal of descriptors 0 and 1.
 * Errors: INVALID_REQUEST (they are no terminal, or one that can not move its cursor), INTERNAL.
 * Owner: screen_close.
 */
POOL_MUST_CHECK enum pool_code screen_open(struct screen *screen, const char *term, struct pool_error *err);
void screen_close(struct screen *screen);
/* Gives the terminal back for a while, signals too, and takes it again. */
void screen_suspend(struct screen *screen);
void screen_resume(struct screen *screen);
/* Draws a frame, lines with '\n' at their ends; those that are too many or too long are cut by the terminal. */
bool screen_draw(const struct screen *screen, const char *text);
/**
 * Waits for a key, a signal or one of the descriptors, at most until a moment of CLOCK_BOOTTIME.
 * @return the key; SCREEN_KEY_NONE when the time is over or a descriptor is ready
 */
uint32_t screen_wait(struct screen *screen, const int *fds, size_t n_fds, int64_t until_boottime_ns);

#define SCREEN_FDS_MAX 8

/* The first key of some bytes; *ret_n bytes of it, 0: more are needed to tell. */
uint32_t screen_parse_key(const char *bytes, size_t n, size_t *ret_n);

#endif
