/*
 * Copies of records beside logs; see start_record.h. The first line is the identity of the log, the second the record, the
 * third, which may be missing, how it is started, and the fourth the marks of its secrets, if it has any.
 */
#include "core/lifecycle/start_record.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "base/string_list.h"
#include "core/lifecycle/plan.h"
#include "core/lifecycle/redact.h"
#include "core/lifecycle/secret_marks.h"
#include "core/lifecycle/worker_log.h"

#define RECORD_MAX_BYTES \
    ((256 << 10) + POOL_CRASH_MAX_BYTES) /* 64 labels of 64 KiB in all, and paths; a launch */

static char *path_of(const char *log_path)
{
    char *path = NULL;
    return log_path && asprintf(&path, "%s.start", log_path) >= 0 ? path : NULL;
}

static bool take_texts(struct string_list *list, char ***ret_texts, size_t *ret_n)
{
    size_t n = list->n;
    *ret_texts = string_list_take(list);
    *ret_n = *ret_texts ? n : 0;
    return *ret_texts != NULL;
}

/* One line of JSON; NULL: no memory. */
static char *encode_launch(const struct pool_worker_info *worker, const struct pool_plan *plan,
                           struct string_list *secrets)
{
    CLEANUP(string_list_done) struct string_list argv = { 0 };
    CLEANUP(string_list_done) struct string_list environment = { 0 };
    char *json = NULL;
    struct pool_crash *crash = pool_crash_new();
    if (crash && redact_command(plan->argv, plan->environment, secrets, &argv, &environment) &&
        take_texts(&argv, &crash->command.argv, &crash->command.n_argv) &&
        take_texts(&environment, &crash->command.environment, &crash->command.n_environment)) {
        crash->worker_id = strdup(worker->worker_id);
        crash->engine_version = plan->engine_version ? strdup(plan->engine_version) : NULL;
        if (!crash->worker_id || pool_crash_encode(crash, &json, NULL) != POOL_OK)
            json = NULL;
    }
    pool_crash_free(crash);
    return json;
}

void start_record_write(const struct pool_worker_info *worker, const struct pool_plan *plan)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(RECORD_MAX_BYTES);
    CLEANUP_FREE char *path = path_of(worker->log_path);
    CLEANUP_FREE char *spec = worker_spec_encode(worker);
    CLEANUP(string_list_done) struct string_list secrets = { 0 };
    CLEANUP(strbuf_done) struct strbuf marks = STRBUF_INIT(SECRET_MARKS_TEXT_MAX);
    CLEANUP_FREE char *launch = encode_launch(worker, plan, &secrets);
    if (!path || !spec || worker->log_identity == 0 ||
        !strbuf_printf(&text, "%" PRIu64 "\n%s\n", worker->log_identity, spec))
        return;
    if (launch &&
        secret_marks_make(&secrets, &marks)) /* all of it, or what secrets there are is not known later */
        strbuf_printf(&text, "%s\n%s", launch, strbuf_text(&marks));
    unlink(path);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    /* Not synced: after a power cut there is no worker that it could be of. */
    if (fd >= 0 && fd_write_all(fd, strbuf_text(&text), text.n) != 0)
        unlink(path);
}

void start_record_remove(const struct pool_worker_info *worker)
{
    CLEANUP_FREE char *path = path_of(worker->log_path);
    if (path)
        unlink(path);
}

enum pool_code start_record_read(const char *log_path, struct pool_worker_info **ret_worker,
                                 struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(RECORD_MAX_BYTES);
    CLEANUP_FREE char *path = path_of(log_path);
    CLEANUP_FREE char *spec = NULL;
    int64_t identity;
    *ret_worker = NULL;
    if (!path)
        return pool_error_no_memory(err);
    if (file_read(path, &text) != 0)
        return text.failure == STRBUF_NO_MEMORY ? pool_error_no_memory(err) : POOL_OK;
    const char *line = strbuf_text(&text);
    size_t n = strcspn(line, "\n");
    if (line[n] != '\n' || !parse_int64_n(line, n, 1, INT64_MAX, &identity) ||
        (uint64_t)identity != worker_log_identity(log_path))
        return POOL_OK;
    spec = strndup(line + n + 1, strcspn(line + n + 1, "\n"));
    if (!spec)
        return pool_error_no_memory(err);
    enum pool_code code = worker_spec_decode(spec, ret_worker, err);
    return code == POOL_INVALID_REQUEST ? POOL_OK : code;
}

struct pool_crash *start_record_read_launch(const struct pool_worker_info *worker, char **ret_marks)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(RECORD_MAX_BYTES);
    CLEANUP_FREE char *path = path_of(worker->log_path);
    struct pool_crash *launch = NULL;
    int64_t identity;
    if (!path || file_read(path, &text) != 0)
        return NULL;
    const char *line = strbuf_text(&text);
    size_t n = strcspn(line, "\n");
    if (line[n] != '\n' || !parse_int64_n(line, n, 1, INT64_MAX, &identity) ||
        (uint64_t)identity != worker->log_identity)
        return NULL;
    const char *spec = line + n + 1;
    const char *json = spec + strcspn(spec, "\n");
    json += *json == '\n';
    size_t n_json = strcspn(json, "\n");
    const char *marks = json + n_json + (json[n_json] == '\n');
    if (n_json == 0 || pool_crash_decode(json, n_json, &launch, NULL) != POOL_OK)
        return NULL;
    *ret_marks = strndup(marks, strcspn(marks, "\n"));
    if (*ret_marks)
        return launch;
    pool_crash_free(launch);
    return NULL;
}
