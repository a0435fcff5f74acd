/*
 * What git says of a checkout's state.
 *
 * Source: git-status(1), "Porcelain Format Version 2".
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/git.h"

#define COUNT_MAX INT64_C(1000000000)

/* The text behind the n-th blank; NULL when there are not as many. */
static const char *skip_fields(const char *entry, int n)
{
    for (; n > 0 && entry; n--) {
        entry = strchr(entry, ' ');
        entry = entry ? entry + 1 : NULL;
    }
    return entry;
}

static void read_head(const char *entry, struct git_status *status)
{
    const char *value = skip_fields(entry, 2);
    if (!value)
        return;
    if (strncmp(entry, "# branch.oid ", 13) == 0 && strcmp(value, "(initial)") != 0) {
        snprintf(status->commit, sizeof status->commit, "%s", value);
    } else if (strncmp(entry, "# branch.head ", 14) == 0 && strcmp(value, "(detached)") != 0) {
        status->branch = value;
    } else if (strncmp(entry, "# branch.upstream ", 18) == 0) {
        status->upstream = value;
    } else if (strncmp(entry, "# branch.ab +", 13) == 0) {
        const char *behind = skip_fields(value, 1);
        size_t n_ahead = strcspn(value, " ");
        status->is_compared = behind && n_ahead > 1 && behind[0] == '-' &&
                              parse_int64_n(value + 1, n_ahead - 1, 0, COUNT_MAX, &status->n_ahead) &&
                              parse_int64(behind + 1, 0, COUNT_MAX, &status->n_behind);
    }
}

/* One change; *ret_has_from: the next entry is the name that it had before. false: not of the format. */
static bool read_change(const char *entry, struct git_change *change, bool *ret_has_from)
{
    *change = (struct git_change){ .index = '?', .work_tree = '?' };
    *ret_has_from = entry[0] == '2';
    if (entry[0] == '?') {
        change->path = skip_fields(entry, 1);
        return change->path && change->path[0];
    }
    const char *fields = skip_fields(entry, 1);
    const char *submodule = skip_fields(entry, 2);
    change->path = skip_fields(entry, entry[0] == '1' ? 8 : entry[0] == '2' ? 9 : 10);
    if (!fields || !submodule || !change->path || !fields[0] || !fields[1] || !change->path[0])
        return false;
    change->index = fields[0];
    change->work_tree = fields[1];
    change->is_submodule = submodule[0] == 'S';
    if (entry[0] == 'u')
        change->index = change->work_tree = 'U';
    return true;
}

static enum pool_code refuse(struct pool_error *err)
{
    return pool_error_set(err, POOL_INTERNAL, "git says its status in a form that is not known");
}

static enum pool_code read_entries(char *text, size_t n, struct git_status *status, struct pool_error *err)
{
    size_t capacity = 0;
    for (char *entry = text; entry < text + n; entry += strlen(entry) + 1) {
        bool has_from = false;
        if (entry[0] == '#') {
            read_head(entry, status);
            continue;
        }
        if (!strchr("12u?!", entry[0]))
            return refuse(err);
        if (entry[0] == '!')
            continue;
        if (status->n_changes == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            struct git_change *longer = reallocarray(status->changes, capacity, sizeof *longer);
            if (!longer)
                return pool_error_no_memory(err);
            status->changes = longer;
        }
        struct git_change *change = &status->changes[status->n_changes];
        if (!read_change(entry, change, &has_from))
            return refuse(err);
        status->n_changes++;
        if (!has_from)
            continue;
        entry += strlen(entry) + 1;
        if (entry >= text + n)
            return refuse(err);
        change->from = entry;
    }
    return POOL_OK;
}

enum pool_code git_parse_status(char *text, size_t n, struct git_status *ret_status, struct pool_error *err)
{
    CLEANUP(git_status_done) struct git_status status = { .text = text };
    if (n > 0 && text[n - 1] != '\0') /* each entry has its end, or the last one would run on */
        return refuse(err);
    enum pool_code code = read_entries(text, n, &status, err);
    if (code != POOL_OK)
        return code;
    *ret_status = status;
    status = (struct git_status){ 0 };
    return POOL_OK;
}

enum pool_code git_read_status(const struct git *git, struct git_status *ret_status, struct pool_error *err)
{
    struct strbuf out = { 0 };
    enum pool_code code =
        git_run(git, GIT_ASK, NULL,
                (const char *const[]){ "status", "--porcelain=v2", "--branch", "--untracked-files=normal",
                                       "--ignore-submodules=none", "-z", NULL },
                &out, err);
    if (code != POOL_OK)
        return code;
    size_t n = out.n;
    char *text = strbuf_take(&out);
    return text ? git_parse_status(text, n, ret_status, err) : pool_error_no_memory(err);
}

void git_status_done(struct git_status *status)
{
    free(status->changes);
    free(status->text);
}
