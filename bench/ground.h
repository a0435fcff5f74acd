/*
 * A manager to measure: the configuration that bench/run wrote, requests for its fake worker, and the timestamps that
 * such a worker leaves in a file.
 */
#ifndef BENCH_GROUND_H
#define BENCH_GROUND_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

#include <pool/lifecycle.h>

#include "measure.h"

#define GROUND_PATIENCE_NS (20 * NS_PER_SEC)

static const char *const ground_environment[] = { "PATH=/usr/bin:/bin", "HOME=/nonexistent", NULL };

static inline struct pool_config *ground_load(const char *path)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_config *config = NULL;
    struct pool_config_sources sources = { .struct_size = sizeof sources,
                                           .file = path,
                                           .environment = ground_environment };
    expect_ok(pool_config_load(&sources, &config, &err), &err);
    return config;
}

static inline struct pool_manager *ground_open(const struct pool_config *config)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_manager *manager = NULL;
    struct pool_manager_options options = { .struct_size = sizeof options,
                                            .environment = ground_environment,
                                            .is_unrestricted = true };
    /* A manager keeps a descriptor for each worker that it started. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    expect_ok(pool_manager_open(config, &options, &manager, &err), &err);
    return manager;
}

static inline char *ground_text(const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        die("out of memory");
    return copy;
}

/* A request for one MiB; arguments of the fake worker, separated by blanks. */
static inline struct pool_worker_spawn_request *ground_request(const char *backend, const char *model_ref,
                                                               const char *arguments)
{
    struct pool_worker_spawn_request *request = pool_worker_spawn_request_new();
    if (!request)
        die("out of memory");
    request->backend = ground_text(backend);
    request->model_ref = ground_text(model_ref);
    request->required_vram_bytes = (struct pool_reading){ true, INT64_C(1) << 20 };
    request->extra_args = calloc(POOL_EXTRA_ARGS_MAX, sizeof(char *));
    if (!request->extra_args)
        die("out of memory");
    while (*arguments && request->n_extra_args < POOL_EXTRA_ARGS_MAX) {
        size_t n = strcspn(arguments, " ");
        char *word = strndup(arguments, n);
        if (!word)
            die("out of memory");
        request->extra_args[request->n_extra_args++] = word;
        arguments += n + (arguments[n] == ' ');
    }
    return request;
}

/* Starts a worker; its id, which the caller frees. */
static inline char *ground_spawn(struct pool_manager *manager,
                                 const struct pool_worker_spawn_request *request, int64_t *ret_pid)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_response *response = NULL;
    expect_ok(pool_manager_spawn(manager, request, &response, &err), &err);
    char *id = ground_text(response->worker_id);
    if (ret_pid)
        *ret_pid = response->pid;
    pool_worker_spawn_response_free(response);
    return id;
}

static inline void ground_stop(struct pool_manager *manager, const char *worker_id)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    struct pool_worker_stop_request request = { .worker_id = ground_text(worker_id),
                                                .force = true,
                                                .wait = true };
    expect_ok(pool_manager_stop(manager, &request, -1, &worker, &err), &err);
    pool_worker_info_free(worker);
    free(request.worker_id);
}

static inline int64_t read_timestamp(const char *path, const char *name)
{
    char line[128];
    int64_t value = -1;
    size_t n = strlen(name);
    FILE *file = fopen(path, "re");
    while (file && value < 0 && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, n) == 0 && line[n] == ' ' && strchr(line, '\n'))
            value = strtoll(line + n + 1, NULL, 10);
    }
    if (file)
        fclose(file);
    return value;
}

/* The worker writes when it likes, after what it writes down has happened. */
static inline int64_t ground_timestamp(const char *path, const char *name)
{
    int64_t deadline_ns = clock_boottime_ns() + GROUND_PATIENCE_NS;
    for (;;) {
        int64_t value = read_timestamp(path, name);
        if (value >= 0)
            return value;
        if (clock_boottime_ns() > deadline_ns)
            die("%s: no '%s' of the fake worker", path, name);
        poll(NULL, 0, 1);
    }
}

#endif
