/*
 * A copy of a worker's record beside its log, from its spawn to its end. What a worker carries in its environment says
 * the same, and is what a lost registry is rebuilt from; but a program may overwrite its environment (setproctitle does).
 * The log's lock is beyond its reach, so a log that is held, and the copy that names that very log, say whose it is.
 */
#ifndef LIFECYCLE_START_RECORD_H
#define LIFECYCLE_START_RECORD_H

#include <pool/crash.h>
#include <pool/error.h>
#include <pool/worker.h>

struct pool_plan;

/*
 * As well as can be: on a full disk there is none, and the environment has to do. How it is started goes along, without
 * secrets: for its crash bundle.
 */
void start_record_write(const struct pool_worker_info *worker, const struct pool_plan *plan);
void start_record_remove(const struct pool_worker_info *worker);
/*
 * Reads the copy of the start that has made this log. *ret_worker is NULL when there is none, or it is of another log.
 * Errors: INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code start_record_read(const char *log_path, struct pool_worker_info **ret_worker,
                                                 struct pool_error *err);
/*
 * How the worker was started: a bundle with its command line and engine alone. *ret_marks: the line of secret_marks.h, owned by
 * the caller. NULL, and no marks: that can not be read.
 */
struct pool_crash *start_record_read_launch(const struct pool_worker_info *worker, char **ret_marks);

#endif
