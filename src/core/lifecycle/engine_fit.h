/*
 * What llama.cpp's own tool says that a model takes: llama-fit-params, where it is installed beside llama-server. It builds the
 * model's graphs without its weights, so that it knows what the server will reserve; each answer is remembered.
 */
#ifndef LIFECYCLE_ENGINE_FIT_H
#define LIFECYCLE_ENGINE_FIT_H

#include "core/lifecycle/plan.h"

/* One line "NAME MODEL CONTEXT COMPUTE" of its output, in MiB: what it takes of a device, or of the host. */
struct engine_fit {
    int64_t model_bytes, context_bytes, compute_bytes;
};

/* Reads the first device of an output (is_host: the line of the host's memory). false: there is none. */
bool engine_fit_parse(const char *output, bool is_host, struct engine_fit *ret_fit);
/*
 * Asks the tool about a prepared start, and puts its answer into the parts of start->need. false: there is no tool, it does not
 * answer, or the start has a size of its own; the estimate stays as it is. Blocks: for as long as the tool runs, once for each
 * kind of start.
 */
bool engine_fit_apply(const struct start_context *context, struct start_request *start);

#endif
