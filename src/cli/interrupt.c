/*
 * Interruption by signalfd. A second Ctrl-C does nothing more: what is waited for has a deadline of its own.
 */
#include "cli/interrupt.h"

#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

static sigset_t interrupts(void)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGHUP);
    return mask;
}

void interrupt_end_program(bool is_ending)
{
    sigset_t mask = interrupts();
    sigprocmask(is_ending ? SIG_UNBLOCK : SIG_BLOCK, &mask, NULL);
}

enum pool_code interrupt_open(struct interrupt *interrupt, struct pool_error *err)
{
    sigset_t mask = interrupts();
    int fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "signalfd");
    if (sigprocmask(SIG_BLOCK, &mask, &interrupt->old_mask) < 0) {
        int failure = errno;
        close(fd);
        return pool_error_set_errno(err, POOL_INTERNAL, failure, "sigprocmask");
    }
    interrupt->fd = fd;
    return POOL_OK;
}

void interrupt_close(struct interrupt *interrupt)
{
    struct signalfd_siginfo info;
    if (interrupt->fd < 0)
        return;
    while (read(interrupt->fd, &info, sizeof info) > 0)
        ;
    close(interrupt->fd);
    interrupt->fd = -1;
    sigprocmask(SIG_SETMASK, &interrupt->old_mask, NULL);
}
