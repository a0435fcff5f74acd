/*
 * The state of models.
 */
#include "cli/model_state.h"

#include <stdlib.h>

#include <pool/api.h>
#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "cli/json_document.h"

const char *model_condition_name(enum model_condition condition)
{
    static const char *const names[] = {
#define CONDITION(name, text) [MODEL_##name] = text,
        MODEL_CONDITIONS(CONDITION)
#undef CONDITION
    };
    return names[condition];
}

enum terminal_style model_condition_style(enum model_condition condition)
{
    switch (condition) {
    case MODEL_VERIFIED: return STYLE_GOOD;
    case MODEL_UNVERIFIED: return STYLE_PLAIN;
    case MODEL_ABSENT: return STYLE_DIM;
    case MODEL_CORRUPT:
    case MODEL_REFUSED: return STYLE_BAD;
    }
    return STYLE_PLAIN;
}

enum pool_code open_catalog(struct cli *cli, struct pool_model_catalog **ret_catalog, struct pool_error *err)
{
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    return code == POOL_OK ? pool_config_open_catalog(config, ret_catalog, err) : code;
}

static enum model_condition condition_of_error(enum pool_code code)
{
    if (code == POOL_MODEL_NOT_FOUND)
        return MODEL_ABSENT;
    if (code == POOL_MODEL_UNVERIFIED)
        return MODEL_UNVERIFIED;
    return code == POOL_MODEL_CORRUPT ? MODEL_CORRUPT : MODEL_REFUSED;
}

/* Without reading the model: by what an earlier verification left behind. */
static enum pool_code look_for_proof(const struct pool_config *config, const struct pool_model *model,
                                     bool *ret_is_verified, struct pool_error *err)
{
    CLEANUP_FREE char *proof_dir = pool_config_proof_dir(config);
    struct pool_verify_result result = { 0 };
    if (!proof_dir)
        return pool_error_no_memory(err);
    struct pool_verify_options options = { .struct_size = sizeof options,
                                           .proof_dir = proof_dir,
                                           .only_proof = true };
    enum pool_code code = pool_model_verify(model, &options, &result, err);
    if (code == POOL_OK)
        *ret_is_verified = result.is_verified;
    return code;
}

enum pool_code model_state_find(struct cli *cli, const struct pool_model_catalog *catalog,
                                const char *model_ref, struct model_state *ret_state, struct pool_error *err)
{
    CLEANUP(release_model) struct pool_model *model = NULL;
    const struct pool_config *config;
    struct pool_error error = POOL_ERROR_INIT;
    bool is_verified = false;
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code != POOL_OK)
        return code;
    code = pool_config_resolve_model(config, cli->environment, catalog, true, model_ref, &model, &error);
    if (code == POOL_OK)
        code = look_for_proof(config, model, &is_verified, &error);
    if (code == POOL_INSUFFICIENT_MEMORY)
        return pool_error_no_memory(err);
    if (code == POOL_OK)
        ret_state->condition = is_verified ? MODEL_VERIFIED : MODEL_UNVERIFIED;
    else
        ret_state->condition = condition_of_error(code);
    if (ret_state->condition == MODEL_UNVERIFIED)
        error = (struct pool_error)POOL_ERROR_INIT; /* the condition says it all */
    ret_state->error = error;
    ret_state->model = take_ptr(&model);
    return POOL_OK;
}

void model_state_done(struct model_state *state)
{
    pool_model_free(state->model);
    state->model = NULL;
}

json_t *json_of_model(const struct pool_model_metadata *metadata, const struct model_state *state,
                      const struct pool_model_header *header)
{
    char *text = NULL;
    if (pool_model_encode(metadata, state->model, header, &text, NULL) != POOL_OK)
        return NULL;
    json_t *object = json_of_encoded(&text);
    if (json_object_set_new(object, "condition", json_string(model_condition_name(state->condition))) < 0 ||
        json_object_set_new(object, "error", json_of_error(&state->error)) < 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}
