/*
 * The entry of rbees-pool: makes the surroundings sound and runs the command line.
 */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "cli/program.h"

/* A descriptor 0, 1 or 2 that is closed would be given to the next file that is opened, a database for example. What
 * stands in for it can not be written to: losing the output must not look like success. */
static void fill_standard_descriptors(void)
{
    for (;;) {
        int fd = open("/dev/null", O_RDONLY);
        if (fd > STDERR_FILENO) {
            close(fd);
            return;
        }
        if (fd < 0)
            return;
    }
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    signal(SIGPIPE, SIG_IGN);                                        /* a write says EPIPE then */
    signal(SIGXFSZ, SIG_IGN);                                        /* and EFBIG behind a limit */
    locale_t characters = newlocale(LC_CTYPE_MASK, "", (locale_t)0); /* numbers and times stay as they are */
    if (characters)
        uselocale(characters);
    struct cli cli = { .out = stdout, .err = stderr, .environment = (const char *const *)environ };
    return cli_run(&cli, argc, (const char *const *)argv);
}
