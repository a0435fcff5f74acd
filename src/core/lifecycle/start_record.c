/*
 * Copies of records beside logs; see start_record.h. The first line is the identity of the log, the second the record.
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
#include "core/lifecycle/plan.h"
#include "core/lifecycle/worker_log.h"

#define RECORD_MAX_BYTES (256 << 10) /* 64 labels of 64 KiB in all, and paths */

static char *path_of(const char *log_path)
{
    char *path = NULL;
    return log_path && asprintf(&path, "%s.start", log_path) >= 0 ? path : NULL;
}

void start_record_write(const struct pool_worker_info *worker)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(RECORD_MAX_BYTES);
    CLEANUP_FREE char *path = path_of(worker->log_path);
    CLEANUP_FREE char *spec = worker_spec_encode(worker);
    if (!path || !spec || worker->log_identity == 0 ||
        !strbuf_printf(&text, "%" PRIu64 "\n%s\n", worker->log_identity, spec))
        return;
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
    enum pool_code code = worker_spec_decode(line + n + 1, ret_worker, err);
    return code == POOL_INVALID_REQUEST ? POOL_OK : code;
}
