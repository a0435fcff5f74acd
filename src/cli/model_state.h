/*
 * What is known of a model without reading it through: whether its files are there, and whether a proof says that
 * they are the right ones.
 */
#ifndef CLI_MODEL_STATE_H
#define CLI_MODEL_STATE_H

#include <pool/catalog.h>

#include "base/json.h"
#include "cli/program.h"

/* X(name, text) */
#define MODEL_CONDITIONS(X)                                                                    \
    X(ABSENT, "absent")         /* not on disk */                                              \
    X(UNVERIFIED, "unverified") /* on disk; not hashed since it changed, or no sum is known */ \
    X(VERIFIED, "verified")     /* a proof says that size and SHA-256 are right */             \
    X(CORRUPT, "corrupt")       /* a size or a sum is wrong, or a part is missing */           \
    X(REFUSED, "refused")       /* it can not be used; the error says why */

enum model_condition {
#define CONDITION(name, text) MODEL_##name,
    MODEL_CONDITIONS(CONDITION)
#undef CONDITION
};

struct model_state {
    enum model_condition condition;
    struct pool_model *model; /* NULL when its files were not found; owned */
    struct pool_error error;  /* POOL_OK when there is nothing to say */
};

const char *model_condition_name(enum model_condition condition);
enum terminal_style model_condition_style(enum model_condition condition);
/* The catalog of the configuration. Owner: the caller, release_catalog. */
POOL_MUST_CHECK enum pool_code open_catalog(struct cli *cli, struct pool_model_catalog **ret_catalog,
                                            struct pool_error *err);
static inline void release_catalog(struct pool_model_catalog **catalog)
{
    pool_model_catalog_close(*catalog);
}
static inline void release_model(struct pool_model **model)
{
    pool_model_free(*model);
}
/* Finds a model's files and looks for a proof. Errors: INSUFFICIENT_MEMORY; all others are in the state. */
POOL_MUST_CHECK enum pool_code model_state_find(struct cli *cli, const struct pool_model_catalog *catalog,
                                                const char *model_ref, struct model_state *ret_state,
                                                struct pool_error *err);
void model_state_done(struct model_state *state);
/* The model as the API shows it with "condition" and "error" beside. NULL: memory ran out. */
json_t *json_of_model(const struct pool_model_metadata *metadata, const struct model_state *state,
                      const struct pool_model_header *header);

#endif
