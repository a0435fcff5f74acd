/*
 * The gate of a device: who waits for whom, as a table of situations; and through a manager without a daemon, where who has
 * to wait is refused instead.
 */
#include <limits.h>

#include "manager_ground.h"

#include "base/cleanup.h"
#include "core/lifecycle/gate.h"

GROUND_FIXTURE

static const char exclusive_backend[] =
    "[backends.profiler]\nextends = \"fake_gpu\"\nexclusive_start = true\n";

static void prepare(void)
{
    char inventory[1200];
    ground_prepare(&ground);
    snprintf(inventory, sizeof inventory, "static:%s/gpus.toml", ground.tree.root);
    ground_configure(&ground, inventory, exclusive_backend);
}

struct row {
    const char *id, *backend, *gpu;
    enum pool_worker_status status;
    const char *phase;
    int64_t queue_position;
    const char *shares;
};

static struct pool_worker_list *make_list(const struct row *rows)
{
    struct pool_worker_list *list = calloc(1, sizeof *list);
    assert_non_null(list);
    list->workers = calloc(8, sizeof(struct pool_worker_info *));
    assert_non_null(list->workers);
    for (const struct row *row = rows; row->id; row++) {
        struct pool_worker_info *worker = pool_worker_info_new();
        assert_non_null(worker);
        worker->worker_id = strdup(row->id);
        worker->backend = strdup(row->backend);
        worker->gpu_uuid = strdup(row->gpu);
        worker->status = row->status;
        worker->stop_phase = row->phase ? strdup(row->phase) : NULL;
        worker->queue_position = row->queue_position;
        worker->shares = row->shares ? strdup(row->shares) : NULL;
        list->workers[list->n_workers++] = worker;
    }
    return list;
}

static void test_who_waits_for_whom(void **state)
{
    (void)state;
    prepare();
    static const struct {
        struct row rows[3];
        int64_t releasing_bytes;
        const char *plain, *exclusive,
            *stop; /* what a start, an exclusive start and the stop of "x" wait for */
    } cases[] = {
        { { { .id = NULL } }, 0, NULL, NULL, NULL },
        { { { .id = NULL } }, 1, NULL, "releasing", NULL },
        { { { "a", "profiler", GROUND_GPU, POOL_WORKER_SPAWNING, NULL, 0, NULL } },
          0,
          "exclusive_start",
          "exclusive_start",
          "exclusive_start" },
        { { { "a", "profiler", GROUND_GPU_2, POOL_WORKER_SPAWNING, NULL, 0, NULL } }, 0, NULL, NULL, NULL },
        { { { "a", "profiler", GROUND_GPU, POOL_WORKER_READY, NULL, 0, NULL } }, 0, NULL, NULL, NULL },
        { { { "a", "fake_gpu", GROUND_GPU, POOL_WORKER_SPAWNING, NULL, 0, NULL } },
          0,
          NULL,
          "starting",
          NULL },
        { { { "a", "fake_gpu", GROUND_GPU, POOL_WORKER_STOPPING, "term", 0, NULL } },
          0,
          NULL,
          "stopping",
          NULL },
        { { { "a", "fake_gpu", GROUND_GPU, POOL_WORKER_STOPPING, "drain", 0, NULL } }, 0, NULL, NULL, NULL },
        { { { "a", "fake_gpu", GROUND_GPU, POOL_WORKER_STOPPING, "wait", 0, NULL } }, 0, NULL, NULL, NULL },
        { { { "a", "profiler", GROUND_GPU, POOL_WORKER_SPAWNING, NULL, 1, NULL } },
          0,
          "queue",
          "queue",
          NULL },
        { { { "a", "profiler", GROUND_GPU, POOL_WORKER_SPAWNING, NULL, 1, NULL },
            { "b", "profiler", GROUND_GPU, POOL_WORKER_SPAWNING, NULL, 0, NULL } },
          0,
          "exclusive_start",
          "exclusive_start",
          "exclusive_start" },
    };
    static const struct row x = { "x", "fake_gpu", GROUND_GPU, POOL_WORKER_READY, NULL, 0, NULL };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_worker_list *live = make_list(cases[i].rows);
        struct row subject[2] = { x };
        struct pool_worker_list *stopped = make_list(subject);
        for (int is_exclusive = 0; is_exclusive < 2; is_exclusive++) {
            const char *wanted = is_exclusive ? cases[i].exclusive : cases[i].plain;
            struct gate_blocker blocker = { 0 };
            bool is_blocked = gate_blocks_start(ground.config, live, GROUND_GPU, is_exclusive, NULL,
                                                cases[i].releasing_bytes, &blocker);
            assert_int_equal(is_blocked, wanted != NULL);
            if (wanted)
                assert_string_equal(blocker.reason, wanted);
        }
        struct gate_blocker blocker = { 0 };
        assert_int_equal(gate_blocks_stop(ground.config, live, stopped->workers[0], &blocker),
                         cases[i].stop != NULL);
        pool_worker_list_free(live);
        pool_worker_list_free(stopped);
    }
}

#define ON_BOTH GROUND_GPU "=1," GROUND_GPU_2 "=1"

/* A worker of several devices waits, and is waited for, on each of them. */
static void test_every_device_of_a_split(void **state)
{
    (void)state;
    prepare();
    static const struct row starting_there[] = {
        { "a", "profiler", GROUND_GPU_2, POOL_WORKER_SPAWNING, NULL, 0, NULL }, { .id = NULL }
    };
    static const struct row split_starting[] = {
        { "a", "profiler", GROUND_GPU, POOL_WORKER_SPAWNING, NULL, 0, ON_BOTH }, { .id = NULL }
    };
    static const struct row split[] = { { "x", "fake_gpu", GROUND_GPU, POOL_WORKER_READY, NULL, 0, ON_BOTH },
                                        { .id = NULL } };
    static const struct row there[] = { { "x", "fake_gpu", GROUND_GPU_2, POOL_WORKER_READY, NULL, 0, NULL },
                                        { .id = NULL } };
    struct gate_blocker blocker = { 0 };
    struct pool_worker_list *live = make_list(starting_there), *stopped = make_list(split);
    assert_true(gate_blocks_stop(ground.config, live, stopped->workers[0], &blocker));
    assert_string_equal(blocker.device, GROUND_GPU_2);
    pool_worker_list_free(live);
    pool_worker_list_free(stopped);
    live = make_list(split_starting);
    stopped = make_list(there);
    assert_true(gate_blocks_stop(ground.config, live, stopped->workers[0], &blocker));
    assert_string_equal(blocker.device, GROUND_GPU_2);
    assert_true(gate_blocks_start(ground.config, live, GROUND_GPU_2, false, NULL, 0, &blocker));
    pool_worker_list_free(live);
    pool_worker_list_free(stopped);
}

/* In the order in which they came: each waits for those before it, and for nobody behind it. */
static void test_turns(void **state)
{
    (void)state;
    prepare();
    static const struct row rows[] = { { "a", "profiler", GROUND_GPU, POOL_WORKER_SPAWNING, NULL, 1, NULL },
                                       { "b", "fake_gpu", GROUND_GPU, POOL_WORKER_SPAWNING, NULL, 2, NULL },
                                       { "c", "profiler", GROUND_GPU, POOL_WORKER_SPAWNING, NULL, 3, NULL },
                                       { .id = NULL } };
    struct pool_worker_list *live = make_list(rows);
    struct gate_blocker blocker = { 0 };
    assert_false(gate_blocks_start(ground.config, live, GROUND_GPU, true, live->workers[0], 0, &blocker));
    assert_true(gate_blocks_start(ground.config, live, GROUND_GPU, false, live->workers[1], 0, &blocker));
    assert_string_equal(blocker.worker->worker_id, "a");
    assert_int_equal(gate_count_queued(live, GROUND_GPU, live->workers[2]), 2);
    assert_int_equal(gate_count_queued(live, GROUND_GPU, NULL), 3);
    pool_worker_list_free(live);
}

static enum pool_code spawn_on_gpu(const char *backend, const char *worker_id, const char *words,
                                   struct pool_error *err)
{
    struct pool_worker_spawn_request *request = ground_request(&ground, backend, worker_id, words);
    request->gpu_id = strdup(GROUND_GPU);
    enum pool_code code = ground_try_spawn(ground.manager, request, err);
    pool_worker_spawn_request_free(request);
    return code;
}

/* Without a daemon nobody can wait: who has to is refused, with whom for, and may try again. */
static void test_without_a_daemon(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    prepare();
    ground_open(&ground);
    assert_int_equal(spawn_on_gpu("fake_gpu", "old", "", &err), POOL_OK);
    pool_worker_info_free(ground_wait_ready(&ground, "old"));
    assert_int_equal(spawn_on_gpu("profiler", "first", "--never-ready", &err), POOL_OK);
    assert_int_equal(spawn_on_gpu("profiler", "second", "", &err), POOL_CONFLICT);
    assert_true(err.is_retriable);
    assert_string_equal(pool_error_detail(&err, "wait_reason")->text, "exclusive_start");
    assert_string_equal(pool_error_detail(&err, "blocking_worker_id")->text, "first");
    assert_int_equal(spawn_on_gpu("fake_gpu", "second", "", &err), POOL_CONFLICT);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 2); /* nothing is left of the refused ones */

    /* Nor does a stop take place beside it, unless it is forced, or is of that very start. */
    assert_int_equal(ground_stop_as(ground.manager, "old", 0, false, true, -1, NULL, &err), POOL_CONFLICT);
    assert_string_equal(pool_error_detail(&err, "wait_reason")->text, "exclusive_start");
    assert_int_equal(ground_status(&ground, "old"), POOL_WORKER_READY);
    assert_int_equal(ground_stop_as(ground.manager, "old", 0, true, true, -1, NULL, &err), POOL_OK);
    assert_int_equal(ground_stop_as(ground.manager, "first", 0, false, true, -1, NULL, &err), POOL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_who_waits_for_whom),
        GROUND_TEST(test_every_device_of_a_split),
        GROUND_TEST(test_turns),
        GROUND_TEST(test_without_a_daemon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
