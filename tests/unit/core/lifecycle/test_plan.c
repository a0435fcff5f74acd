/*
 * Placement, uniqueness and plans: pure functions on made devices, requests and configurations.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "core/lifecycle/plan.h"
#include "sample_worker.h"

#define GIB (INT64_C(1) << 30)

/* ---- placement ---- */

struct device {
    int64_t available;
    bool is_unhealthy, is_divided, is_blind;
};

struct host {
    size_t n;
    struct pool_gpu_info gpus[4];
    struct pool_gpu_info *pointers[4];
    struct pool_ledger ledgers[5];
    struct pool_gpu_list list;
};

static void make_host(struct host *host, const struct device *devices, size_t n)
{
    memset(host, 0, sizeof *host);
    host->n = n;
    for (size_t i = 0; i < n; i++) {
        struct pool_gpu_info *gpu = &host->gpus[i];
        gpu->gpu_id = (uint32_t)i;
        snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%zu", i);
        gpu->is_placeable = !devices[i].is_divided;
        gpu->is_vram_known = !devices[i].is_blind;
        gpu->health = devices[i].is_unhealthy ? POOL_GPU_UNHEALTHY : POOL_GPU_HEALTHY;
        host->pointers[i] = gpu;
        host->ledgers[i] =
            (struct pool_ledger){ .total_bytes = 24 * GIB, .available_bytes = devices[i].available };
        snprintf(host->ledgers[i].device, sizeof host->ledgers[i].device, "GPU-%zu", i);
    }
    snprintf(host->ledgers[n].device, sizeof host->ledgers[n].device, "host");
    host->list = (struct pool_gpu_list){ .n_gpus = n, .gpus = host->pointers };
}

static enum pool_code choose(struct host *host, enum pool_device_kind kind, const char *gpu_id,
                             int64_t required, int *ret_index, struct pool_error *err)
{
    const struct pool_backend backend = { .name = (char[]){ "b" }, .device = kind };
    const struct pool_worker_spawn_request request = { .gpu_id = (char *)(uintptr_t)gpu_id };
    const struct start_request start = { .request = &request,
                                         .backend = &backend,
                                         .need = { .bytes = required } };
    const struct placement_input input = {
        .start = &start, .gpus = &host->list, .n_ledgers = host->n + 1, .ledgers = host->ledgers
    };
    const struct pool_gpu_info *gpu = NULL;
    const struct pool_ledger *ledger = NULL;
    enum pool_code code = placement_choose(&input, &gpu, &ledger, err);
    if (code == POOL_OK) {
        *ret_index = gpu ? (int)gpu->gpu_id : -1;
        assert_ptr_equal(ledger, &host->ledgers[gpu ? gpu->gpu_id : host->n]);
    }
    return code;
}

static void test_placement(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t n;
        struct device devices[4];
        const char *asked;
        int64_t required;
        enum pool_code code;
        int index;
    } cases[] = {
        { "no device", 0, { { 0 } }, NULL, GIB, POOL_GPU_UNAVAILABLE, 0 },
        { "no device, auto", 0, { { 0 } }, "auto", GIB, POOL_GPU_UNAVAILABLE, 0 },
        { "no device, named", 0, { { 0 } }, "0", GIB, POOL_GPU_NOT_FOUND, 0 },
        { "the only one", 1, { { .available = 8 * GIB } }, NULL, GIB, POOL_OK, 0 },
        { "the only one, too small: the ledger will say", 1, { { .available = 0 } }, NULL, GIB, POOL_OK, 0 },
        { "two, none named",
          2,
          { { .available = 8 * GIB }, { .available = GIB } },
          NULL,
          GIB,
          POOL_INVALID_REQUEST,
          0 },
        { "by index", 2, { { .available = 8 * GIB }, { .available = GIB } }, "1", GIB, POOL_OK, 1 },
        { "by UUID", 2, { { .available = 8 * GIB }, { .available = GIB } }, "GPU-1", GIB, POOL_OK, 1 },
        { "not there",
          2,
          { { .available = 8 * GIB }, { .available = GIB } },
          "2",
          GIB,
          POOL_GPU_NOT_FOUND,
          0 },
        { "no such UUID", 1, { { .available = 8 * GIB } }, "GPU-7", GIB, POOL_GPU_NOT_FOUND, 0 },
        { "auto, the tightest",
          3,
          { { .available = 8 * GIB }, { .available = 3 * GIB }, { .available = 5 * GIB } },
          "auto",
          2 * GIB,
          POOL_OK,
          1 },
        { "auto, the tightest that fits",
          3,
          { { .available = 8 * GIB }, { .available = 3 * GIB }, { .available = 5 * GIB } },
          "auto",
          4 * GIB,
          POOL_OK,
          2 },
        { "auto, exactly",
          2,
          { { .available = 8 * GIB }, { .available = 3 * GIB } },
          "auto",
          3 * GIB,
          POOL_OK,
          1 },
        { "auto, alike: the first",
          2,
          { { .available = GIB }, { .available = GIB } },
          "auto",
          GIB,
          POOL_OK,
          0 },
        { "auto, fits nowhere: the roomiest explains",
          3,
          { { .available = 3 * GIB }, { .available = 8 * GIB }, { .available = 5 * GIB } },
          "auto",
          9 * GIB,
          POOL_OK,
          1 },
        { "auto, all full", 2, { { .available = 0 }, { .available = 0 } }, "auto", GIB, POOL_OK, 0 },
        { "auto, the first unhealthy, the second full",
          2,
          { { .available = 9 * GIB, .is_unhealthy = true }, { .available = 0 } },
          "auto",
          GIB,
          POOL_OK,
          1 },
        { "auto, not the unhealthy one",
          2,
          { { .available = 2 * GIB, .is_unhealthy = true }, { .available = 9 * GIB } },
          "auto",
          GIB,
          POOL_OK,
          1 },
        { "auto, not the divided one",
          2,
          { { .available = 2 * GIB, .is_divided = true }, { .available = 9 * GIB } },
          "auto",
          GIB,
          POOL_OK,
          1 },
        { "auto, not the blind one",
          2,
          { { .available = 2 * GIB, .is_blind = true }, { .available = 9 * GIB } },
          "auto",
          GIB,
          POOL_OK,
          1 },
        { "auto, all unhealthy",
          2,
          { { .available = GIB, .is_unhealthy = true }, { .is_unhealthy = true } },
          "auto",
          GIB,
          POOL_GPU_UNAVAILABLE,
          0 },
        { "unhealthy, named",
          2,
          { { .available = GIB }, { .available = GIB, .is_unhealthy = true } },
          "1",
          GIB,
          POOL_GPU_UNAVAILABLE,
          0 },
        { "divided, named",
          1,
          { { .available = GIB, .is_divided = true } },
          "0",
          GIB,
          POOL_GPU_UNAVAILABLE,
          0 },
        { "blind, the only one", 1, { { .is_blind = true } }, NULL, GIB, POOL_GPU_UNAVAILABLE, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct host host;
        struct pool_error err = POOL_ERROR_INIT;
        int index = -2;
        make_host(&host, cases[i].devices, cases[i].n);
        enum pool_code code = choose(&host, POOL_DEVICE_GPU, cases[i].asked, cases[i].required, &index, &err);
        if (code != cases[i].code || (code == POOL_OK && index != cases[i].index))
            fail_msg("%s: %s, GPU %d (%s)", cases[i].what, pool_code_name(code), index, err.message);
        assert_int_equal(err.code, code);
        if (code != POOL_OK)
            assert_string_equal(err.field, "gpu_id");
    }
}

static void test_the_cpu_takes_no_device(void **state)
{
    (void)state;
    static const struct device devices[] = { { .available = GIB } };
    struct host host;
    int index = -2;
    make_host(&host, devices, 1);
    assert_int_equal(choose(&host, POOL_DEVICE_CPU, NULL, GIB, &index, NULL), POOL_OK);
    assert_int_equal(index, -1);
}

static void test_why_there_is_no_device(void **state)
{
    (void)state;
    struct host host;
    struct pool_error err = POOL_ERROR_INIT;
    int index;
    make_host(&host, NULL, 0);
    snprintf(host.list.reason, sizeof host.list.reason, "the driver is not loaded");
    assert_int_equal(choose(&host, POOL_DEVICE_GPU, NULL, GIB, &index, &err), POOL_GPU_UNAVAILABLE);
    assert_non_null(strstr(err.message, "the driver is not loaded"));
    assert_false(err.is_retriable);
    assert_int_equal(choose(&host, POOL_DEVICE_GPU, "0", GIB, &index, &err), POOL_GPU_UNAVAILABLE);
}

/* ---- uniqueness ---- */

static void test_ids_and_ports_are_had_once(void **state)
{
    (void)state;
    struct pool_worker_info *worker = small_worker("taken", 8001);
    assert_non_null(worker);
    struct pool_worker_list live = { .n_workers = 1, .workers = &worker };
    static const struct {
        const char *worker_id;
        int64_t port;
        enum pool_code code;
        const char *field;
    } cases[] = {
        { "taken", 0, POOL_ALREADY_EXISTS, "worker_id" },
        { "taken", 8002, POOL_ALREADY_EXISTS, "worker_id" },
        { "other", 8001, POOL_ALREADY_EXISTS, "port" },
        { NULL, 8001, POOL_ALREADY_EXISTS, "port" },
        { "Taken", 8002, POOL_OK, "" },
        { NULL, 0, POOL_OK, "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct pool_worker_spawn_request request = { .worker_id = (char *)(uintptr_t)cases[i].worker_id,
                                                           .port = cases[i].port };
        struct pool_error err = POOL_ERROR_INIT;
        assert_int_equal(plan_check_unique(&live, &request, &err), cases[i].code);
        assert_string_equal(err.field, cases[i].field);
    }
    pool_worker_info_free(worker);
}

/* ---- plans ---- */

static char *command[] = { (char[]){ "engine" },        (char[]){ "-m" },
                           (char[]){ "{model_path}" },  (char[]){ "--at" },
                           (char[]){ "{host}:{port}" }, (char[]){ "-d{gpu_ordinal}" } };
static char *capabilities[] = { (char[]){ "completion" }, (char[]){ "chat" } };
static const struct pool_backend gpu_backend = { .name = (char[]){ "b" },
                                                 .device = POOL_DEVICE_GPU,
                                                 .n_command = 6,
                                                 .command = command,
                                                 .n_capabilities = 2,
                                                 .capabilities = capabilities,
                                                 .ready_http = (char[]){ "/health" },
                                                 .activity = POOL_ACTIVITY_LLAMA_SERVER,
                                                 .protocol = (char[]){ "openai" },
                                                 .stop_signal = 15 };

struct sample {
    struct pool_config config;
    struct pool_worker_spawn_request request;
    struct pool_label labels[2];
    struct pool_model model;
    struct start_request start;
    struct pool_gpu_info gpu;
    struct pool_ledger ledger;
    struct plan_input input;
};

static const char *const environment[] = { "PATH=/bin", "HF_TOKEN=secret", "LANG=C", NULL };

/* A literal where a text of one's own is expected; nobody writes to it. */
#define TEXT(literal) ((char *)(uintptr_t)(literal))

static void make_sample(struct sample *s)
{
    memset(s, 0, sizeof *s);
    s->config = (struct pool_config){ .workers_bind_host = TEXT("127.0.0.1"),
                                      .advertise_host = TEXT("gpu-host"),
                                      .start_timeout_ms = 1000,
                                      .stop_grace_ms = 2000 };
    s->labels[0] = (struct pool_label){ TEXT("team"), TEXT("a") };
    s->labels[1] = (struct pool_label){ TEXT("tier"), TEXT("") };
    s->request = (struct pool_worker_spawn_request){ .n_labels = 2,
                                                     .labels = s->labels,
                                                     .stop_grace_ms = { true, 3000 } };
    s->model = (struct pool_model){ .ref = TEXT("file:/m/x.gguf"), .path = TEXT("/m/x.gguf") };
    s->start = (struct start_request){
        .request = &s->request,
        .backend = &gpu_backend,
        .model = &s->model,
        .program = TEXT("/opt/engine"),
        .ctx_size = 4096,
        .parallel = 2,
        .need = { .bytes = 2 * GIB, .source = "estimate", .estimate = { .total_bytes = 2 * GIB } }
    };
    s->gpu.gpu_id = 3;
    snprintf(s->gpu.uuid, sizeof s->gpu.uuid, "GPU-3");
    s->ledger =
        (struct pool_ledger){ .total_bytes = 24 * GIB, .free_bytes = 9 * GIB, .available_bytes = 8 * GIB };
    snprintf(s->ledger.device, sizeof s->ledger.device, "GPU-3");
    s->input = (struct plan_input){ .config = &s->config,
                                    .start = &s->start,
                                    .gpu = &s->gpu,
                                    .ledger = &s->ledger,
                                    .environment = environment,
                                    .state_id = "00000000-0000-4000-8000-000000000001",
                                    .log_dir = "/state/logs",
                                    .worker_id = "w-1",
                                    .port = 8001,
                                    .wall_ms = 1700000000000,
                                    .boottime_ns = 123456789 };
}

static void free_plan(struct pool_plan **plan)
{
    pool_plan_free(*plan);
}
#define CLEANUP_PLAN CLEANUP(free_plan)

static void test_a_plan(void **state)
{
    (void)state;
    struct sample s;
    make_sample(&s);
    CLEANUP_PLAN struct pool_plan *plan = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    if (plan_make(&s.input, &plan, &err) != POOL_OK)
        fail_msg("%s", err.message);
    static const char *const argv[] = { "/opt/engine", "-m", "/m/x.gguf", "--at", "127.0.0.1:8001", "-d0" };
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(plan->argv[i], argv[i]);
    assert_null(plan->argv[6]);
    const char *const *variables = (const char *const *)plan->environment;
    assert_string_equal(environment_get(variables, "PATH"), "/bin");
    assert_string_equal(environment_get(variables, "CUDA_VISIBLE_DEVICES"), "GPU-3");
    assert_string_equal(environment_get(variables, "POOL_WORKER_ID"), "w-1");
    assert_string_equal(environment_get(variables, "POOL_STATE_ID"), s.input.state_id);
    assert_null(environment_get(variables, "HF_TOKEN"));
    assert_string_equal(plan->worker_id, "w-1");
    assert_string_equal(plan->program, "/opt/engine");
    assert_string_equal(plan->gpu_uuid, "GPU-3");
    assert_int_equal(plan->gpu_id, 3);
    assert_int_equal(plan->port, 8001);
    assert_int_equal(plan->reserved_bytes, 2 * GIB);
    assert_string_equal(plan->reserved_source, "estimate");
    assert_int_equal(plan->estimate.total_bytes, 2 * GIB);
    assert_int_equal(plan->ledger.available_bytes, 8 * GIB);
    const struct pool_worker_info *worker = plan->worker;
    assert_int_equal(worker->status, POOL_WORKER_SPAWNING);
    assert_int_equal(worker->revision, 0);
    assert_int_equal(worker->process.pid, 0);
    assert_string_equal(worker->log_path, "/state/logs/w-1.log");
    assert_string_equal(worker->uri, "http://127.0.0.1:8001");
    assert_string_equal(worker->capabilities, "completion,chat");
    assert_string_equal(worker->ready_path, "/health");
    assert_string_equal(worker->protocol, "openai");
    assert_string_equal(worker->model_ref, "file:/m/x.gguf");
    assert_string_equal(worker->model_path, "/m/x.gguf");
    assert_string_equal(worker->gpu_uuid, "GPU-3");
    assert_int_equal(worker->reserved_bytes, 2 * GIB);
    assert_int_equal(worker->free_before_start_bytes.value, 9 * GIB);
    assert_int_equal(worker->start_timeout_ms, 1000); /* the configuration's */
    assert_int_equal(worker->stop_grace_ms, 3000);    /* the request's */
    assert_int_equal(worker->created_wall_ms, 1700000000000);
    assert_true(worker->is_port_chosen);
    assert_int_equal(worker->activity, POOL_ACTIVITY_LLAMA_SERVER);
    assert_string_equal(pool_worker_info_label(worker, "team"), "a");
    assert_string_equal(pool_worker_info_label(worker, "tier"), "");
}

static void test_a_plan_without_a_gpu(void **state)
{
    (void)state;
    struct sample s;
    make_sample(&s);
    s.input.gpu = NULL;
    s.request.port = 8001;
    snprintf(s.ledger.device, sizeof s.ledger.device, "host");
    CLEANUP_PLAN struct pool_plan *plan = NULL;
    assert_int_equal(plan_make(&s.input, &plan, NULL), POOL_OK);
    assert_null(plan->gpu_uuid);
    assert_null(plan->worker->gpu_uuid);
    assert_int_equal(plan->gpu_id, -1);
    assert_int_equal(plan->worker->gpu_id, -1);
    assert_false(plan->worker->is_port_chosen);
    assert_string_equal(environment_get((const char *const *)plan->environment, "CUDA_VISIBLE_DEVICES"), "");
}

static void test_the_same_facts_give_the_same_plan(void **state)
{
    (void)state;
    struct sample s;
    make_sample(&s);
    CLEANUP_PLAN struct pool_plan *one = NULL;
    CLEANUP_PLAN struct pool_plan *two = NULL;
    assert_int_equal(plan_make(&s.input, &one, NULL), POOL_OK);
    assert_int_equal(plan_make(&s.input, &two, NULL), POOL_OK);
    size_t i = 0;
    for (; one->argv[i]; i++)
        assert_string_equal(one->argv[i], two->argv[i]);
    assert_null(two->argv[i]);
    for (i = 0; one->environment[i]; i++)
        assert_string_equal(one->environment[i], two->environment[i]);
    assert_null(two->environment[i]);
    assert_null(differing_field(one->worker, two->worker));
    assert_memory_equal(&one->ledger, &two->ledger, sizeof one->ledger);
}

static void test_what_does_not_fit_is_refused_with_its_arithmetic(void **state)
{
    (void)state;
    struct sample s;
    make_sample(&s);
    s.start.need.bytes = 8 * GIB + 1;
    struct pool_plan *plan = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(plan_make(&s.input, &plan, &err), POOL_INSUFFICIENT_VRAM);
    assert_null(plan);
    assert_int_equal(pool_error_detail(&err, "required_vram_bytes")->number, 8 * GIB + 1);
    assert_int_equal(pool_error_detail(&err, "available_vram_bytes")->number, 8 * GIB);
    assert_int_equal(pool_error_detail(&err, "gpu_id")->number, 3);
    assert_string_equal(pool_error_detail(&err, "required_source")->text, "estimate");
}

static void test_where_clients_go(void **state)
{
    (void)state;
    static const struct {
        const char *bind, *advertised, *uri;
    } cases[] = {
        { "127.0.0.1", "gpu-host", "http://127.0.0.1:8001" },
        { "127.0.0.1", NULL, "http://127.0.0.1:8001" },
        { "localhost", "gpu-host", "http://localhost:8001" },
        { "::1", "gpu-host", "http://[::1]:8001" },
        { "0.0.0.0", "gpu-host", "http://gpu-host:8001" },
        { "0.0.0.0", "2001:db8::7", "http://[2001:db8::7]:8001" },
        { "0.0.0.0", NULL, "http://127.0.0.1:8001" },
        { "::", "gpu-host", "http://gpu-host:8001" },
        { "10.0.0.7", NULL, "http://10.0.0.7:8001" },
        { "10.0.0.7", "gpu-host", "http://gpu-host:8001" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sample s;
        make_sample(&s);
        s.config.workers_bind_host = (char *)(uintptr_t)cases[i].bind;
        s.config.advertise_host = (char *)(uintptr_t)cases[i].advertised;
        CLEANUP_PLAN struct pool_plan *plan = NULL;
        assert_int_equal(plan_make(&s.input, &plan, NULL), POOL_OK);
        assert_string_equal(plan->worker->uri, cases[i].uri);
        assert_string_equal(plan->worker->host, cases[i].bind);
    }
}

/* ---- the copy that a worker carries ---- */

static void test_a_record_survives_in_the_environment(void **state)
{
    (void)state;
    struct sample s;
    make_sample(&s);
    CLEANUP_PLAN struct pool_plan *plan = NULL;
    assert_int_equal(plan_make(&s.input, &plan, NULL), POOL_OK);
    const char *spec = environment_get((const char *const *)plan->environment, "POOL_WORKER_SPEC");
    assert_non_null(spec);
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    assert_int_equal(worker_spec_decode(spec, &worker, NULL), POOL_OK);
    /* What is not in it: the free memory before the start, and whether the port may still be moved. */
    worker->free_before_start_bytes = plan->worker->free_before_start_bytes;
    worker->is_port_chosen = plan->worker->is_port_chosen;
    const char *field = differing_field(plan->worker, worker);
    if (field)
        fail_msg("%s is lost", field);
    CLEANUP_FREE char *again = worker_spec_encode(worker);
    assert_non_null(again);
    assert_string_equal(again, spec);
}

static void test_bad_copies_are_refused(void **state)
{
    (void)state;
#define GOOD                                                                                  \
    "\"id\":\"w\",\"backend\":\"b\",\"model\":\"m\",\"host\":\"h\",\"uri\":\"u\",\"log\":\"/" \
    "l\",\"activity\":\"none\""
    static const struct {
        const char *text;
        enum pool_code code;
    } cases[] = {
        { "{" GOOD ",\"port\":8001,\"stop_signal\":15}", POOL_OK },
        { "{" GOOD ",\"port\":8001,\"stop_signal\":15,\"labels\":{\"a\":\"b\"},\"unknown\":1}", POOL_OK },
        { "{" GOOD ",\"port\":0,\"stop_signal\":15}", POOL_INVALID_REQUEST },
        { "{" GOOD ",\"port\":65536,\"stop_signal\":15}", POOL_INVALID_REQUEST },
        { "{" GOOD ",\"port\":\"8001\",\"stop_signal\":15}", POOL_INVALID_REQUEST },
        { "{" GOOD ",\"port\":8001,\"stop_signal\":0}", POOL_INVALID_REQUEST },
        { "{" GOOD ",\"port\":8001,\"stop_signal\":65}", POOL_INVALID_REQUEST },
        { "{" GOOD ",\"port\":8001,\"stop_signal\":15,\"reserved\":-1}", POOL_INVALID_REQUEST },
        { "{" GOOD ",\"port\":8001,\"stop_signal\":15,\"labels\":{\"a b\":\"c\"}}", POOL_INVALID_REQUEST },
        { "{" GOOD ",\"id\":\"../x\",\"port\":8001,\"stop_signal\":15}", POOL_INVALID_REQUEST },
        { "{\"id\":\"w\",\"port\":8001,\"stop_signal\":15}", POOL_INVALID_REQUEST },
        { "{}", POOL_INVALID_REQUEST },
        { "[]", POOL_INVALID_REQUEST },
        { "", POOL_INVALID_REQUEST },
        { "{", POOL_INVALID_REQUEST },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP_WORKER struct pool_worker_info *worker = NULL;
        struct pool_error err = POOL_ERROR_INIT;
        enum pool_code code = worker_spec_decode(cases[i].text, &worker, &err);
        if (code != cases[i].code)
            fail_msg("%s: %s", cases[i].text, pool_code_name(code));
        assert_int_equal(worker != NULL, code == POOL_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_the_cpu_takes_no_device),
        cmocka_unit_test(test_why_there_is_no_device),
        cmocka_unit_test(test_ids_and_ports_are_had_once),
        cmocka_unit_test(test_a_plan),
        cmocka_unit_test(test_a_plan_without_a_gpu),
        cmocka_unit_test(test_the_same_facts_give_the_same_plan),
        cmocka_unit_test(test_what_does_not_fit_is_refused_with_its_arithmetic),
        cmocka_unit_test(test_where_clients_go),
        cmocka_unit_test(test_a_record_survives_in_the_environment),
        cmocka_unit_test(test_bad_copies_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
