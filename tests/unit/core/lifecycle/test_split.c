/*
 * One worker over several devices: every layer lies on one of them, by their weights, and each share is admitted on its own
 * device.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/lifecycle/split.h"

#define MIB      (INT64_C(1) << 20)
#define GIB      (INT64_C(1) << 30)
#define N_GPUS   3
#define N_LAYERS 8

struct scene {
    struct pool_gpu_info infos[N_GPUS];
    struct pool_gpu_info *list[N_GPUS];
    struct pool_gpu_list gpus;
    struct pool_ledger ledgers[N_GPUS + 1];
    struct pool_worker_spawn_request request;
    struct pool_backend backend;
    struct pool_model_header header;
    struct pool_model_layer layers[N_LAYERS];
    struct start_request start;
    struct placement_input input;
    char *ids[N_GPUS + 1];
};

static char uuid0[] = "GPU-0", id9[] = "9", automatic[] = "auto";
static char id0[] = "0", id1[] = "GPU-1", id2[] = "2", architecture[] = "llama";

static void set_scene(struct scene *scene)
{
    memset(scene, 0, sizeof *scene);
    for (uint32_t i = 0; i < N_GPUS; i++) {
        struct pool_gpu_info *info = &scene->infos[i];
        info->gpu_id = i;
        info->is_placeable = info->is_vram_known = true;
        snprintf(info->uuid, sizeof info->uuid, "GPU-%u", i);
        snprintf(info->name, sizeof info->name, "Fake %u", i);
        scene->list[i] = info;
        scene->ledgers[i].available_bytes = scene->ledgers[i].total_bytes = (8 << i) * GIB;
        snprintf(scene->ledgers[i].device, sizeof scene->ledgers[i].device, "GPU-%u", i);
    }
    scene->gpus = (struct pool_gpu_list){ .n_gpus = N_GPUS, .gpus = scene->list };
    for (size_t i = 0; i < N_LAYERS; i++)
        scene->layers[i] =
            (struct pool_model_layer){ .weight_bytes = 100 * MIB, .head_count_kv = 2, .has_attention = true };
    scene->header = (struct pool_model_header){ .format = POOL_MODEL_FORMAT_GGUF,
                                                .architecture = architecture,
                                                .embedding_length = { true, 512 },
                                                .block_count = { true, N_LAYERS },
                                                .head_count = { true, 8 },
                                                .is_size_known = true,
                                                .tensor_bytes = 900 * MIB,
                                                .output_bytes = 50 * MIB,
                                                .token_embedding_bytes = 50 * MIB,
                                                .shard_count = 1,
                                                .n_layers = N_LAYERS,
                                                .layers = scene->layers };
    scene->ids[0] = id0;
    scene->ids[1] = id1;
    scene->request.gpu_ids = scene->ids;
    scene->request.n_gpu_ids = 2;
    scene->start = (struct start_request){ .request = &scene->request,
                                           .backend = &scene->backend,
                                           .header = &scene->header };
    scene->start.engine.estimate =
        (struct pool_estimate_options){ .struct_size = sizeof(struct pool_estimate_options),
                                        .ctx_size = 4096,
                                        .parallel = 1,
                                        .is_on_gpu = true };
    assert_int_equal(start_estimate(&scene->start, 0, 0, &scene->start.need.estimate, NULL), POOL_OK);
    scene->start.need.source = "estimate";
    scene->start.need.bytes = scene->start.need.estimate.total_bytes;
    scene->input = (struct placement_input){
        .start = &scene->start, .gpus = &scene->gpus, .n_ledgers = N_GPUS + 1, .ledgers = scene->ledgers
    };
}

static struct split plan_fine(const struct scene *scene)
{
    struct split split;
    struct pool_error err = POOL_ERROR_INIT;
    if (split_plan(&scene->input, &split, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return split;
}

static void layers_lie_by_weight(void **state)
{
    (void)state;
    static const char *const weights[] = { "1,1", "2,1", "1,8", "8,1", "1000000000,1", "1,1000000000" };
    struct scene scene;
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        set_scene(&scene);
        scene.request.split = (char *)(uintptr_t)weights[i];
        struct split split = plan_fine(&scene);
        assert_int_equal(split.n, 2);
        assert_ptr_equal(split.parts[1].gpu, &scene.infos[1]);
        assert_int_equal(split.need.estimate.weights_bytes, scene.start.need.estimate.weights_bytes);
        assert_int_equal(split.need.estimate.kv_cache_bytes, scene.start.need.estimate.kv_cache_bytes);
        assert_int_equal(split.parts[0].bytes + split.parts[1].bytes, split.need.bytes);
        assert_true(split.parts[0].bytes > 0 && split.parts[1].bytes > 0); /* a context at least */
    }
    set_scene(&scene); /* without a split: GPU 1 has twice the room of GPU 0 */
    struct split split = plan_fine(&scene);
    assert_true(split.parts[1].bytes > split.parts[0].bytes);
    char *text = split_weights(&split);
    assert_string_equal(text, "8192,16384");
    free(text);
    text = split_uuids(&split);
    assert_string_equal(text, "GPU-0,GPU-1");
    free(text);
    char name[64];
    split_name(&scene.request, &scene.gpus, name, sizeof name);
    assert_string_equal(name, "Fake 0 + Fake 1");
}

static void sizes_are_shared_out(void **state)
{
    (void)state;
    struct scene scene;
    set_scene(&scene);
    scene.request.split = (char[]){ "3,1" };
    scene.start.need.source = "request";
    scene.start.need.bytes = 4 * GIB;
    struct split split = plan_fine(&scene);
    assert_in_range(split.parts[0].bytes, 3 * GIB, 3 * GIB + 2);
    assert_in_range(split.parts[1].bytes, GIB, GIB + 2);
    scene.start.split_need = scene.start.need;
    scene.start.split_need.source = "measured";
    scene.start.split_need.bytes = 2 * GIB;
    split = plan_fine(&scene);
    assert_in_range(split.need.bytes, 2 * GIB, 2 * GIB + 4);
    scene.start.split_need.source = NULL;
    scene.start.need.source = "file_size";
    scene.start.need.estimate.total_bytes = 0;
    split = plan_fine(&scene);
    assert_in_range(split.parts[0].bytes, 3 * GIB, 3 * GIB + 2);
}

static void each_device_is_asked(void **state)
{
    (void)state;
    struct scene scene;
    struct split split;
    struct pool_error err = POOL_ERROR_INIT;
    set_scene(&scene);
    scene.ledgers[1].available_bytes = 100 * MIB;
    scene.request.split = (char[]){ "1,1" };
    assert_int_equal(split_plan(&scene.input, &split, &err), POOL_INSUFFICIENT_VRAM);
    assert_int_equal(pool_error_detail(&err, "gpu_id")->number, 1);
    static const struct {
        const char *split;
        char *ids[3];
        size_t n;
        enum pool_code code;
    } cases[] = {
        { "1", { id0, id1 }, 2, POOL_INVALID_REQUEST },
        { "1,2,3", { id0, id1 }, 2, POOL_INVALID_REQUEST },
        { "1,0", { id0, id1 }, 2, POOL_INVALID_REQUEST },
        { "1,-1", { id0, id1 }, 2, POOL_INVALID_REQUEST },
        { "1,", { id0, id1 }, 2, POOL_INVALID_REQUEST },
        { "1,1000000001", { id0, id1 }, 2, POOL_INVALID_REQUEST },
        { "1;1", { id0, id1 }, 2, POOL_INVALID_REQUEST },
        { NULL, { id0, id0 }, 2, POOL_INVALID_REQUEST },
        { NULL, { id0, uuid0 }, 2, POOL_INVALID_REQUEST },
        { NULL, { id0, id9 }, 2, POOL_GPU_NOT_FOUND },
        { NULL, { id0, automatic }, 2, POOL_GPU_NOT_FOUND },
        { "1,1,1", { id0, id1, id2 }, 3, POOL_OK },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        set_scene(&scene);
        scene.request.split = (char *)(uintptr_t)cases[i].split;
        scene.request.n_gpu_ids = cases[i].n;
        memcpy(scene.ids, cases[i].ids, sizeof cases[i].ids);
        assert_int_equal(split_plan(&scene.input, &split, &err), cases[i].code);
    }
    set_scene(&scene);
    scene.infos[1].is_mig_instance = true;
    assert_int_equal(split_plan(&scene.input, &split, &err), POOL_INVALID_REQUEST);
    scene.infos[1].is_mig_instance = false;
    scene.infos[1].health = POOL_GPU_UNHEALTHY;
    assert_int_equal(split_plan(&scene.input, &split, &err), POOL_GPU_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_lie_by_weight),
        cmocka_unit_test(sizes_are_shared_out),
        cmocka_unit_test(each_device_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
