/*
 * What the words and variables that a worker of llama.cpp or vLLM is started with say about its memory. The engine takes
 * variables first and then its arguments, the last of a kind counts; so does this.
 */
#ifndef LIFECYCLE_ENGINE_OPTIONS_H
#define LIFECYCLE_ENGINE_OPTIONS_H

#include <pool/catalog.h>
#include <pool/lifecycle.h>

struct engine_options {
    struct pool_estimate_options estimate; /* strings borrowed from the words */
    struct pool_reading gpu_layers;        /* absent: all of them */
    int64_t extra_files_bytes;             /* of projectors, draft models and adapters beside the model */
    /* Of engines that fill a part of their device, in millionths of its whole memory; absent: as much as is reserved. */
    struct pool_reading memory_millionths;
};

/*
 * Reads the command of a backend and what a request adds. `options->estimate` has its ctx_size, parallel and is_on_gpu
 * before; words of the request that say otherwise win, as they do in the engine.
 */
void engine_options_read(const struct pool_backend *backend, const struct pool_worker_spawn_request *request,
                         struct engine_options *options);
/* Whether a backend is llama.cpp's server, so that the words mean what they mean there. */
bool engine_is_llama_server(const struct pool_backend *backend);
/* Whether a backend is vLLM, which divides every layer evenly over its devices. */
bool engine_is_vllm(const struct pool_backend *backend);
/* Whether a backend tells its engine by {gpu_memory_fraction} how much it may take, so that it takes what is reserved. */
bool engine_takes_fraction(const struct pool_backend *backend);

#endif
