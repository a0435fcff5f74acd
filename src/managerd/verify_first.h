/*
 * With workers.require_verified a model is hashed before its first start. That takes as long as reading it, so it is done beside
 * everything else that uses the manager; the start finds the proof.
 */
#ifndef MANAGERD_VERIFY_FIRST_H
#define MANAGERD_VERIFY_FIRST_H

#include <pool/api.h>

struct daemon;

/* On the loop. An error is the answer to the start; a refusal of a start was recorded by then. */
typedef void verify_first_fn(enum pool_code code, const struct pool_error *error, void *context);

/*
 * Calls `then` at once when nothing has to be verified, else when that is done. What can not be found is left to the start, which
 * says so.
 * @param wanted borrowed until then
 * @param is_start false: only a check, which leaves no record
 */
void verify_first(struct daemon *daemon, const struct pool_worker_spawn_request *wanted, bool is_unrestricted,
                  bool is_start, verify_first_fn *then, void *context);

#endif
