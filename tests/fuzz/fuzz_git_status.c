/*
 * What git says of a checkout: any bytes are refused or read, and what was read lies within them.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/git.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct git_status *status, size_t n, const char *text)
{
    if (text && (text < status->text || text + strlen(text) >= status->text + n))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct git_status status = { 0 };
    char *text = malloc(size ? size : 1);
    if (!text)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    if (git_parse_status(text, size, &status, NULL) != POOL_OK)
        return 0;
    check_text(&status, size, status.branch);
    check_text(&status, size, status.upstream);
    for (size_t i = 0; i < status.n_changes; i++) {
        const struct git_change *change = &status.changes[i];
        if (!change->path || !change->path[0] || !change->index || !change->work_tree)
            abort();
        check_text(&status, size, change->path);
        check_text(&status, size, change->from);
    }
    git_status_done(&status);
    return 0;
}
