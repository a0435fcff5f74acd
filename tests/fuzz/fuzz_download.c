/*
 * What a download reads from outside: states of unfinished files, headers of the Hub, catalogs as text. The first byte says
 * which. A state that is accepted must hold together.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/catalog_file.h"
#include "cli/download/hub_headers.h"
#include "cli/download/part_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_state(const uint8_t *data, size_t n)
{
    struct part_content content = { .size_bytes = (3 << 20) + 5 };
    struct part_state state;
    if (!part_state_read(&state, &content, data, n))
        return;
    int64_t done_bytes = part_state_done_bytes(&state);
    int64_t frontier_bytes = part_state_frontier(&state);
    assert(done_bytes >= 0 && done_bytes <= content.size_bytes);
    assert(frontier_bytes >= 0 && frontier_bytes <= done_bytes);
    part_state_done(&state);
}

static void read_headers(const char *text)
{
    int64_t first;
    int64_t last;
    int64_t total;
    char name[HUB_NAME_MAX + 1];
    char commit[HUB_COMMIT_HEX + 1];
    assert(hub_limit_ms(text, NULL) >= -1 && hub_limit_ms(NULL, text) >= -1);
    if (hub_read_content_range(text, &first, &last, &total))
        assert(first >= 0 && first <= last && last < total);
    if (hub_read_content_name(text, name))
        assert(strlen(name) == HUB_NAME_MAX || strlen(name) == HUB_COMMIT_HEX);
    if (hub_read_commit(text, commit))
        assert(strlen(commit) == HUB_COMMIT_HEX);
}

static void find_entry(const char *text)
{
    for (uint32_t line = 0; line < 8; line++) {
        size_t from;
        size_t to;
        if (catalog_text_find(text, line, &from, &to))
            assert(from < to && to <= strlen(text));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    CLEANUP_FREE char *text = strndup((const char *)data + 1, size - 1);
    if (!text)
        return 0;
    switch (data[0] % 3) {
    case 0: read_state(data + 1, size - 1); break;
    case 1: read_headers(text); break;
    default: find_entry(text); break;
    }
    return 0;
}
