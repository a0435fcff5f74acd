/*
 * Crash bundles when memory runs out: with every allocation failing in turn a bundle is made whole or not at all, nothing
 * crashes and nothing leaks.
 */
#include "manager_ground.h"

#include "base/cleanup.h"
#include "core/lifecycle/crash.h"
#include "core/lifecycle/redact.h"
#include "core/lifecycle/secret_marks.h"
#include "torture.h"

GROUND_FIXTURE

struct scene {
    struct pool_worker_info *worker;
    const struct pool_death_evidence *evidence;
};

static struct crash_name name_of(const struct pool_worker_info *worker)
{
    struct crash_name name = { .created_wall_ms = worker->created_wall_ms,
                               .created_boottime_ns = worker->created_boottime_ns };
    snprintf(name.worker_id, sizeof name.worker_id, "%s", worker->worker_id);
    return name;
}

static enum pool_code make_bundle(void *ctx)
{
    const struct scene *scene = ctx;
    struct crash_name name = name_of(scene->worker);
    crash_store_remove(&ground.manager->state, &name);
    ground.manager->evidence = scene->evidence;
    bool is_made = crash_note(ground.manager, scene->worker, "x-1");
    ground.manager->evidence = NULL;
    return is_made ? POOL_OK : ground.manager->crash_failure.code;
}

/* What was made is whole; what was not, is not there. */
static enum pool_code make_and_read(void *ctx)
{
    const struct scene *scene = ctx;
    struct crash_name name = name_of(scene->worker);
    CLEANUP(free_crash) struct pool_crash *crash = NULL;
    CLEANUP_FREE char *path = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = make_bundle(ctx);
    if (code != POOL_OK)
        return code;
    code = crash_store_read(&ground.manager->state, &name, &path, &crash, &err);
    if (code == POOL_OK &&
        (!crash->why || crash->n_faults != 1 || crash->n_log == 0 || !crash->is_command_known))
        return POOL_INTERNAL;
    return code;
}

static enum pool_code ask_why(void *ctx)
{
    struct pool_worker_why *why = NULL, *again = NULL;
    char *json = NULL;
    (void)ctx;
    enum pool_code code = pool_manager_why(ground.manager, "w", &why, NULL);
    if (code == POOL_OK)
        code = pool_worker_why_encode(why, &json, NULL);
    if (code == POOL_OK)
        code = pool_worker_why_decode(json, strlen(json), &again, NULL);
    pool_worker_why_free(why);
    pool_worker_why_free(again);
    free(json);
    return code;
}

static enum pool_code add_late_fault(void *ctx)
{
    const struct scene *scene = ctx;
    static struct pool_device_fault fault = { .kind = POOL_GPU_EVENT_XID, .text = "XID" };
    fault.data++;
    return pool_manager_note_late_fault(ground.manager, scene->worker, &fault, NULL);
}

static enum pool_code redact(void *ctx)
{
    static char program[] = "/e", option[] = "--api-key", value[] = "s3cretvalue",
                variable[] = "HF_TOKEN=hunter22";
    char *argv[] = { program, option, value, NULL };
    char *environment[] = { variable, NULL };
    CLEANUP(string_list_done) struct string_list known = { 0 };
    CLEANUP(string_list_done) struct string_list arguments = { 0 };
    CLEANUP(string_list_done) struct string_list variables = { 0 };
    CLEANUP(strbuf_done) struct strbuf marks = STRBUF_INIT(SECRET_MARKS_TEXT_MAX);
    (void)ctx;
    if (!redact_command(argv, environment, &known, &arguments, &variables) ||
        !secret_marks_make(&known, &marks))
        return POOL_INSUFFICIENT_MEMORY;
    if (arguments.n != 3 || strcmp(arguments.at[2], REDACTED) != 0 || variables.n != 1 ||
        strcmp(variables.at[0], "HF_TOKEN=" REDACTED) != 0)
        return POOL_INTERNAL;
    return secret_marks_find(strbuf_text(&marks), "s3cretvalue", 11, &known) ? POOL_OK
                                                                             : POOL_INSUFFICIENT_MEMORY;
}

static void test_bundles(void **state)
{
    (void)state;
    struct pool_device_fault fault = { .kind = POOL_GPU_EVENT_XID, .data = 79, .is_serious = true };
    struct pool_vram_sample sample = { .at_wall_ms = 1 };
    struct pool_start_progress progress = { .elapsed_ms = 1 };
    struct pool_death_evidence evidence = { .struct_size = sizeof evidence,
                                            .timed_out = &progress,
                                            .n_samples = 1,
                                            .samples = &sample,
                                            .n_faults = 1,
                                            .faults = &fault };
    torture_include_jansson();
    ground_open(&ground);
    ground_spawn(&ground, "w", "--api-key s3cretvalue --print-args");
    struct scene scene = { .worker = ground_wait_ready(&ground, "w"), .evidence = &evidence };
    scene.worker->stop_reason = POOL_STOP_SIGNALLED;
    scene.worker->exit_signal = (struct pool_reading){ true, SIGABRT };
    scene.worker->stopped_wall_ms = clock_wall_ms();
    torture_scenario("a bundle is made and read", make_and_read, &scene);
    assert_int_equal(make_bundle(&scene), POOL_OK);
    torture_scenario("why", ask_why, NULL);
    torture_scenario("a late error", add_late_fault, &scene);
    torture_scenario("secrets", redact, NULL);
    pool_worker_info_free(scene.worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = { GROUND_TEST(test_bundles) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
