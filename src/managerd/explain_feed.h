/*
 * Explanations on their way from the manager's thread to the loop, where they become events. Bounded: what is too much
 * is dropped here, and is in the registry all the same.
 */
#ifndef MANAGERD_EXPLAIN_FEED_H
#define MANAGERD_EXPLAIN_FEED_H

#include <pool/api.h>
#include <uv.h>

#define EXPLAIN_FEED_MAX 256 /* between two turns of the loop */

struct explain_feed;
/* Called on the loop; json is taken over (free). type is static: "explain.start", "explain.refusal", … */
typedef void explain_feed_fn(const char *type, char *json, void *context);

POOL_MUST_CHECK enum pool_code explain_feed_open(uv_loop_t *loop, explain_feed_fn *tell, void *context,
                                                 struct explain_feed **ret_feed, struct pool_error *err);
/* From any thread; context is a struct explain_feed, as pool_manager_options wants it. */
void explain_feed_put(const struct pool_explanation *explanation, void *context);
/* On the loop, which frees it in a later turn; nobody may put any more. Accepts NULL. */
void explain_feed_close(struct explain_feed *feed);

#endif
