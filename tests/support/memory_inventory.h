/*
 * GPUs that a test makes up and changes while a manager uses them: an inventory over a struct in the test's memory. As a
 * driver it tells what the struct says at each refresh, and nothing else.
 */
#ifndef MEMORY_INVENTORY_H
#define MEMORY_INVENTORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pool/gpu.h>

#define MEMORY_GPUS_MAX      4
#define MEMORY_PROCESSES_MAX 256

struct memory_gpu {
    const char *uuid;
    int64_t total_bytes, used_bytes, free_bytes;
    bool are_processes_known;
    size_t n_processes;
    struct pool_gpu_process processes[MEMORY_PROCESSES_MAX];
    bool are_bytes_hidden; /* it lists processes, and not what they hold */
    bool is_lost;
    int64_t less_free_bytes; /* than there are; it says that the rest is used */
};

struct memory_world {
    size_t n_gpus;
    struct memory_gpu gpus[MEMORY_GPUS_MAX];
};

/* The world that inventories opened from now on show. */
static struct memory_world *memory_world;
/* Keeps a refresh and a change of the world apart, where processes share it; NULL: nobody does. */
static void (*memory_world_lock)(bool is_locking);

static inline enum pool_code memory_open(void *self, const char *source, struct pool_error *err)
{
    (void)source;
    (void)err;
    *(struct memory_world **)self = memory_world;
    return POOL_OK;
}

static inline enum pool_code memory_show(void *self, struct pool_gpu_list *list, struct pool_error *err)
{
    const struct memory_world *world = *(struct memory_world **)self;
    for (size_t i = 0; i < world->n_gpus; i++) {
        const struct memory_gpu *gpu = &world->gpus[i];
        struct pool_gpu_info *info = pool_gpu_list_append(list);
        if (!info)
            return pool_error_set(err, POOL_INSUFFICIENT_MEMORY, "out of memory");
        info->gpu_id = (uint32_t)i;
        snprintf(info->uuid, sizeof info->uuid, "%s", gpu->uuid);
        snprintf(info->name, sizeof info->name, "GPU of a test");
        info->is_vram_known = true;
        info->is_placeable = true;
        info->vram_total_bytes = gpu->total_bytes;
        info->vram_used_bytes = gpu->used_bytes;
        info->vram_free_bytes = gpu->free_bytes;
        if (gpu->less_free_bytes > 0) {
            info->vram_free_bytes -=
                gpu->less_free_bytes < gpu->free_bytes ? gpu->less_free_bytes : gpu->free_bytes;
            info->vram_used_bytes = gpu->total_bytes - info->vram_free_bytes;
        }
        if (gpu->is_lost) { /* as NVML's reader shows it */
            info->health = POOL_GPU_UNHEALTHY;
            snprintf(info->health_reason, sizeof info->health_reason, "lost");
            info->is_vram_known = false;
            continue;
        }
        info->are_processes_known = gpu->are_processes_known;
        if (!gpu->are_processes_known || gpu->n_processes == 0)
            continue;
        info->processes = calloc(gpu->n_processes, sizeof *info->processes);
        if (!info->processes)
            return pool_error_set(err, POOL_INSUFFICIENT_MEMORY, "out of memory");
        memcpy(info->processes, gpu->processes, gpu->n_processes * sizeof *info->processes);
        info->n_processes = gpu->n_processes;
        for (size_t k = 0; gpu->are_bytes_hidden && k < info->n_processes; k++)
            info->processes[k].used_vram_bytes = (struct pool_reading){ false, 0 };
    }
    return POOL_OK;
}

static inline enum pool_code memory_refresh(void *self, struct pool_gpu_list *list, struct pool_error *err)
{
    if (memory_world_lock)
        memory_world_lock(true);
    enum pool_code code = memory_show(self, list, err);
    if (memory_world_lock)
        memory_world_lock(false);
    return code;
}

static inline void memory_close(void *self)
{
    (void)self;
}

static inline struct pool_gpu_inventory *memory_inventory_open(struct memory_world *world)
{
    static const struct pool_gpu_inventory_ops ops = { "memory", sizeof(struct memory_world *), memory_open,
                                                       memory_refresh, memory_close };
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    memory_world = world;
    if (pool_gpu_inventory_open_ops(&ops, "", &inventory, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return inventory;
}

/* A process that the driver lists from now on. */
static inline void memory_list(struct memory_gpu *gpu, int64_t pid, int64_t bytes)
{
    assert_true(gpu->n_processes < MEMORY_PROCESSES_MAX);
    gpu->processes[gpu->n_processes++] =
        (struct pool_gpu_process){ .pid = pid, .used_vram_bytes = { true, bytes } };
    gpu->used_bytes += bytes;
    gpu->free_bytes -= bytes;
}

/* It is not listed any more, and its memory is free. */
static inline void memory_unlist(struct memory_gpu *gpu, int64_t pid)
{
    size_t n = 0;
    for (size_t i = 0; i < gpu->n_processes; i++) {
        if (gpu->processes[i].pid != pid) {
            gpu->processes[n++] = gpu->processes[i];
            continue;
        }
        gpu->used_bytes -= gpu->processes[i].used_vram_bytes.value;
        gpu->free_bytes += gpu->processes[i].used_vram_bytes.value;
    }
    gpu->n_processes = n;
}

#endif
