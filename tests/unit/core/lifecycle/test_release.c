/*
 * What stopped workers held until it is free: of each of their devices, by every process of theirs that the driver was
 * seen to list, and not by the main one alone.
 */
#include "manager_ground.h"
#include "memory_inventory.h"

#include "core/lifecycle/attribution.h"
#include "core/lifecycle/release.h"

GROUND_FIXTURE

static struct memory_world world;
static struct pool_gpu_inventory *inventory;

static void open_two_gpus(void)
{
    world = (struct memory_world){ .n_gpus = 2 };
    for (size_t i = 0; i < 2; i++)
        world.gpus[i] = (struct memory_gpu){ .uuid = i == 0 ? GROUND_GPU : GROUND_GPU_2,
                                             .total_bytes = 1024 * GROUND_MIB,
                                             .free_bytes = 1024 * GROUND_MIB,
                                             .are_processes_known = true };
    inventory = memory_inventory_open(&world);
    ground_prepare(&ground);
    ground_configure(&ground, "static:/nonexistent",
                     "[backends.profiler]\nextends = \"fake_gpu\"\nexclusive_start = true\n");
    struct pool_manager_options options = { .struct_size = sizeof options,
                                            .environment = ground_environment,
                                            .gpu_inventory = inventory,
                                            .is_unrestricted = true };
    struct pool_error err = POOL_ERROR_INIT;
    if (pool_manager_open(ground.config, &options, &ground.manager, &err) != POOL_OK)
        fail_msg("%s", err.message);
}

static void close_gpus(void)
{
    ground_close(&ground);
    pool_gpu_inventory_close(inventory);
    inventory = NULL;
}

/* On both devices, half of it on each. */
static enum pool_code spawn_split(const char *backend, const char *worker_id, const char *words,
                                  struct pool_error *err)
{
    struct pool_worker_spawn_request *request = ground_request(&ground, backend, worker_id, words);
    request->gpu_ids = calloc(3, sizeof(char *));
    assert_non_null(request->gpu_ids);
    request->gpu_ids[0] = strdup(GROUND_GPU);
    request->gpu_ids[1] = strdup(GROUND_GPU_2);
    request->n_gpu_ids = 2;
    request->split = strdup("1,1");
    request->required_vram_bytes = (struct pool_reading){ true, 200 * GROUND_MIB };
    enum pool_code code = ground_try_spawn(ground.manager, request, err);
    pool_worker_spawn_request_free(request);
    return code;
}

static void note_processes(void)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_gpu_list *gpus = NULL;
    struct pool_worker_list *live = NULL;
    struct pool_attribution *attribution = NULL;
    assert_int_equal(pool_gpu_inventory_refresh(inventory, &err), POOL_OK);
    assert_int_equal(pool_gpu_inventory_list(inventory, &gpus, &err), POOL_OK);
    assert_int_equal(pool_manager_rows(ground.manager, POOL_REGISTRY_LIVE, &live, &err), POOL_OK);
    assert_int_equal(pool_attribution_make(gpus, live, &attribution, &err), POOL_OK);
    assert_int_equal(pool_manager_note_processes(ground.manager, attribution, &err), POOL_OK);
    pool_attribution_free(attribution);
    pool_worker_list_free(live);
    pool_gpu_list_free(gpus);
}

static size_t check(void)
{
    struct pool_error err = POOL_ERROR_INIT;
    size_t n_left = 99;
    if (pool_manager_check_releases(ground.manager, &n_left, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return n_left;
}

/* The release of a device as it was explained, NULL: it was not. The caller frees the list. */
static const struct pool_explanation *find_release(const struct pool_explanation_list *list,
                                                   const char *device)
{
    for (size_t i = 0; i < list->n_explanations; i++) {
        const struct pool_explanation *explanation = list->explanations[i];
        for (size_t k = 0; explanation->kind == POOL_EXPLAIN_RELEASE && k < explanation->n_facts; k++) {
            const struct pool_fact *fact = &explanation->facts[k];
            if (strcmp(fact->name, "device") == 0 && strcmp(fact->text, device) == 0)
                return explanation;
        }
    }
    return NULL;
}

/* The worker is on the first device, and its helper on the second. */
static void take_memory(int64_t *ret_pid, int64_t *ret_helper)
{
    struct pool_worker_info *worker = ground_get(&ground, "w");
    *ret_pid = worker->process.pid;
    pool_worker_info_free(worker);
    GROUND_UNTIL(ground_timestamp(&ground, "times", "grandchild_pid") > 0);
    *ret_helper = ground_timestamp(&ground, "times", "grandchild_pid");
    memory_list(&world.gpus[0], *ret_pid, 90 * GROUND_MIB);
    memory_list(&world.gpus[1], *ret_helper, 80 * GROUND_MIB);
}

static struct pool_explanation_list *explain(const char *worker_id)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_explanation_list *list = NULL;
    assert_int_equal(pool_manager_explain(ground.manager, worker_id, &list, &err), POOL_OK);
    return list;
}

/* The helper of a split worker holds the second device; the driver gives its memory back last. */
static void test_a_helper_on_the_second_device(void **state)
{
    (void)state;
    struct host_identity host;
    assert_int_equal(host_identity_read(&host), 0);
    if (!attribution_sees_drivers_pids(&host))
        skip();
    struct pool_error err = POOL_ERROR_INIT;
    open_two_gpus();
    char words[1300], path[1200];
    SCRATCH_PATH(&ground.tree, "times", path);
    snprintf(words, sizeof words, "--grandchildren 1 --timestamps %s", path);
    assert_int_equal(spawn_split("fake_gpu", "w", words, &err), POOL_OK);
    int64_t pid, helper;
    take_memory(&pid, &helper);
    struct pool_worker_info *worker = ground_wait_ready(&ground, "w");
    assert_true(worker->shares);
    pool_worker_info_free(worker);
    note_processes();

    kill((pid_t)helper, SIGKILL);
    kill((pid_t)pid, SIGKILL);
    GROUND_UNTIL(ground_status(&ground, "w") == POOL_WORKER_STOPPED);
    memory_unlist(&world.gpus[0], pid);

    assert_int_equal(check(), 1); /* the first device is free, the helper's is not */
    struct pool_explanation_list *told = explain("w");
    assert_non_null(find_release(told, GROUND_GPU));
    assert_null(find_release(told, GROUND_GPU_2));
    pool_explanation_list_free(told);
    assert_int_equal(spawn_split("profiler", "next", "", &err), POOL_CONFLICT);
    assert_string_equal(pool_error_detail(&err, "wait_reason")->text, "releasing");
    assert_string_equal(pool_error_detail(&err, "device")->text, GROUND_GPU_2);

    memory_unlist(&world.gpus[1], helper);
    assert_int_equal(check(), 0);
    told = explain("w");
    assert_non_null(find_release(told, GROUND_GPU_2));
    pool_explanation_list_free(told);
    assert_int_equal(spawn_split("profiler", "next", "", &err), POOL_OK);
    close_gpus();
}

/* A stop notes the tree before it ends it, whether or not the driver was asked since the start. */
static void test_a_stop_notes_the_tree(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    open_two_gpus();
    char words[1300], path[1200];
    SCRATCH_PATH(&ground.tree, "times", path);
    snprintf(words, sizeof words, "--grandchildren 1 --timestamps %s", path);
    assert_int_equal(spawn_split("fake_gpu", "w", words, &err), POOL_OK);
    int64_t pid, helper;
    take_memory(&pid, &helper);
    pool_worker_info_free(ground_wait_ready(&ground, "w"));

    assert_int_equal(ground_stop_as(ground.manager, "w", 8000, false, false, -1, NULL, &err), POOL_OK);
    kill((pid_t)helper, SIGKILL);
    GROUND_UNTIL(ground_status(&ground, "w") == POOL_WORKER_STOPPED);
    memory_unlist(&world.gpus[0], pid);
    assert_int_equal(check(), 1);
    memory_unlist(&world.gpus[1], helper);
    assert_int_equal(check(), 0);
    close_gpus();
}

/* What one on several devices holds is a sum, and the next worker's own is not mistaken for a part of it. */
static void test_what_is_shown_beside_a_split(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_status_response *status = NULL;
    struct host_identity host;
    assert_int_equal(host_identity_read(&host), 0);
    if (!attribution_sees_drivers_pids(&host))
        skip();
    open_two_gpus();
    assert_int_equal(spawn_split("fake_gpu", "both", "", &err), POOL_OK);
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake_gpu", "one", "");
    request->gpu_id = strdup(GROUND_GPU);
    assert_int_equal(ground_try_spawn(ground.manager, request, &err), POOL_OK);
    pool_worker_spawn_request_free(request);
    struct pool_worker_info *both = ground_get(&ground, "both"), *one = ground_get(&ground, "one");
    memory_list(&world.gpus[0], both->process.pid, 90 * GROUND_MIB);
    memory_list(&world.gpus[1], both->process.pid, 80 * GROUND_MIB);
    memory_list(&world.gpus[0], one->process.pid, 7 * GROUND_MIB);
    pool_worker_info_free(both);
    pool_worker_info_free(one);
    assert_int_equal(pool_manager_status(ground.manager, &status, &err), POOL_OK);
    assert_int_equal(status->workers->n_workers, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct pool_worker_info *worker = status->workers->workers[i];
        bool is_both = strcmp(worker->worker_id, "both") == 0;
        assert_true(worker->observed_bytes.is_present);
        assert_int_equal(worker->observed_bytes.value, (is_both ? 170 : 7) * GROUND_MIB);
    }
    pool_status_response_free(status);
    close_gpus();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_a_helper_on_the_second_device),
        GROUND_TEST(test_a_stop_notes_the_tree),
        GROUND_TEST(test_what_is_shown_beside_a_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
