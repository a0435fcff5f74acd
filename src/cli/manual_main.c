/*
 * pool-manuals: a tool of the build that writes the manual pages.
 * usage: pool-manuals HELP-OF-POOL-MANAGERD FOLDER
 */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cli/manual.h"

#define HELP_MAX 65536

static bool write_page(const char *folder, const char *name, const struct strbuf *page)
{
    CLEANUP_FREE char *path = NULL;
    if (page->failure != STRBUF_FINE || asprintf(&path, "%s/%s", folder, name) < 0) {
        path = NULL;
        fprintf(stderr, "pool-manuals: %s: memory ran out\n", name);
        return false;
    }
    int failure = file_replace(path, page->data, page->n, 0644);
    if (failure)
        fprintf(stderr, "pool-manuals: %s: %s\n", path, strerrordesc_np(failure));
    return failure == 0;
}

int main(int argc, char **argv)
{
    CLEANUP(strbuf_done) struct strbuf help = STRBUF_INIT(HELP_MAX);
    CLEANUP(strbuf_done) struct strbuf command_line = STRBUF_INIT(MANUAL_MAX_BYTES);
    CLEANUP(strbuf_done) struct strbuf daemon = STRBUF_INIT(MANUAL_MAX_BYTES);
    CLEANUP(strbuf_done) struct strbuf config = STRBUF_INIT(MANUAL_MAX_BYTES);
    if (argc != 3 || file_read(argv[1], &help) != 0) {
        fputs("usage: pool-manuals HELP-OF-POOL-MANAGERD FOLDER\n", stderr);
        return 2;
    }
    manual_write_command_line(&command_line);
    manual_write_daemon(&daemon, strbuf_text(&help));
    manual_write_config(&config);
    bool is_written = write_page(argv[2], "rbees-pool.1", &command_line) &&
                      write_page(argv[2], "pool-managerd.8", &daemon) &&
                      write_page(argv[2], "pool.toml.5", &config);
    return is_written ? 0 : 1;
}
