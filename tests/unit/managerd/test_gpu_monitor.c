/*
 * The GPU monitor with the real helper over the fake driver, and with helpers that misbehave: what it knows, when it
 * calls that stale, and what it does about helpers that hang, die, lie or can not be killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fake_driver.h"
#include "managerd/gpu_monitor.h"

#define DEADLINE_MS 60000
#define HOUR_MS     3600000
#define NOBODY      65534
#define HANG        "hang.nvmlDeviceGetCount_v2 = forever\n"
#define ONE_GPU     "[gpu 0]\nused = 1GiB\n"
#define STALE_START "stale: the driver has not answered for "

static struct fake_driver driver;
static char program_path[4096];
static char script_path[128];

struct ground {
    uv_loop_t loop;
    uv_timer_t deadline;
    struct gpu_monitor *monitor;
    int n_snapshots, n_stale, n_troubles;
    int64_t used_bytes; /* of the first GPU of the last snapshot */
    char trouble[512];  /* the last one */
    bool is_late, is_closed;
    bool closes_at_snapshot;
};

static void take_closed(void *ctx)
{
    ((struct ground *)ctx)->is_closed = true;
}

static void take_snapshot(void *ctx, const struct pool_gpu_list *list)
{
    struct ground *ground = ctx;
    assert_false(ground->is_closed);
    ground->n_snapshots++;
    ground->used_bytes = list->n_gpus > 0 ? list->gpus[0]->vram_used_bytes : -1;
    if (ground->closes_at_snapshot)
        gpu_monitor_close(ground->monitor, take_closed, ground);
}

static void take_stale(void *ctx, const struct pool_gpu_list *list, int64_t age_ms)
{
    struct ground *ground = ctx;
    ground->n_stale++;
    assert_true(age_ms > 0);
    for (size_t i = 0; i < list->n_gpus; i++) {
        assert_int_equal(list->gpus[i]->health, POOL_GPU_UNHEALTHY);
        assert_memory_equal(list->gpus[i]->health_reason, STALE_START, strlen(STALE_START));
    }
}

static void take_trouble(void *ctx, const char *text)
{
    struct ground *ground = ctx;
    ground->n_troubles++;
    snprintf(ground->trouble, sizeof ground->trouble, "%s", text);
}

static void take_deadline(uv_timer_t *timer)
{
    ((struct ground *)timer->data)->is_late = true;
}

/* Runs the loop until a condition holds, or fails the test. */
#define run_until(ground, condition)                                                         \
    do {                                                                                     \
        (ground)->is_late = false;                                                           \
        uv_update_time(&(ground)->loop);                                                     \
        uv_timer_start(&(ground)->deadline, take_deadline, DEADLINE_MS, 0);                  \
        while (!(condition) && !(ground)->is_late)                                           \
            uv_run(&(ground)->loop, UV_RUN_ONCE);                                            \
        if (!(condition))                                                                    \
            fail_msg("%s: did not happen; last trouble: %s", #condition, (ground)->trouble); \
        uv_timer_stop(&(ground)->deadline);                                                  \
    } while (0)

static void open_loop(struct ground *ground)
{
    *ground = (struct ground){ .n_snapshots = 0 };
    assert_int_equal(uv_loop_init(&ground->loop), 0);
    uv_timer_init(&ground->loop, &ground->deadline);
    ground->deadline.data = ground;
}

static struct gpu_monitor_options default_options(struct ground *ground)
{
    return (struct gpu_monitor_options){
        .inventory_url = driver.url,
        .probe_path = program_path,
        .refresh_interval_ms = 50,
        .fast_interval_ms = 10,
        .stale_after_ms = 10000,
        .on_snapshot = take_snapshot,
        .on_stale = take_stale,
        .on_trouble = take_trouble,
        .ctx = ground,
    };
}

static void open_ground(struct ground *ground, const struct gpu_monitor_options *options)
{
    assert_int_equal(gpu_monitor_open(&ground->loop, options, &ground->monitor, NULL), POOL_OK);
}

static void close_loop(struct ground *ground)
{
    uv_close((uv_handle_t *)&ground->deadline, NULL);
    uv_run(&ground->loop, UV_RUN_DEFAULT); /* ends only when no handle is left */
    assert_int_equal(uv_loop_close(&ground->loop), 0);
}

static void close_ground(struct ground *ground)
{
    gpu_monitor_close(ground->monitor, take_closed, ground);
    run_until(ground, ground->is_closed);
    close_loop(ground);
}

static struct gpu_monitor_counters counters_of(const struct ground *ground)
{
    return gpu_monitor_counters(ground->monitor);
}

/* Makes a helper of a shell script; $SCRATCH is a folder for its notes, $PROBE the real one. */
static void write_script(const char *text)
{
    char script[8192];
    snprintf(script, sizeof script, "#!/bin/sh\nSCRATCH=%s PROBE=%s\n%s\n", driver.folder, program_path,
             text);
    assert_true(fake_driver_write(script_path, script));
    assert_int_equal(chmod(script_path, 0755), 0);
}

static void remove_notes(void)
{
    static const char *const names[] = { "started", "helper" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", driver.folder, names[i]);
        remove(path);
    }
}

/* ---- a driver that answers ---- */

static void knows_nothing_at_first(void **state)
{
    (void)state;
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    open_ground(&ground, &options);
    struct gpu_monitor_view view = gpu_monitor_snapshot(ground.monitor);
    assert_non_null(view.list);
    assert_int_equal(view.list->n_gpus, 0);
    assert_true(strlen(view.list->reason) > 0);
    assert_true(view.is_stale);
    close_ground(&ground);
    assert_int_equal(ground.n_snapshots, 0);
}

static void follows_the_driver(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    open_ground(&ground, &options);
    run_until(&ground, ground.n_snapshots == 2);
    struct gpu_monitor_view view = gpu_monitor_snapshot(ground.monitor);
    assert_int_equal(view.list->n_gpus, 1);
    assert_string_equal(view.list->source, "nvml");
    assert_int_equal(view.list->gpus[0]->health, POOL_GPU_HEALTHY);
    assert_int_equal(view.list->gpus[0]->vram_used_bytes, INT64_C(1) << 30);
    assert_false(view.is_stale);
    assert_in_range(view.age_ms, 0, 9999);
    fake_driver_set(&driver, "[driver]\n[gpu 0]\nused = 2GiB\n");
    run_until(&ground, ground.used_bytes == INT64_C(2) << 30);
    assert_int_equal(counters_of(&ground).n_snapshots, ground.n_snapshots);
    assert_int_equal(counters_of(&ground).n_started, 1);
    assert_int_equal(ground.n_stale + ground.n_troubles, 0);
    close_ground(&ground);
}

static void hurries_and_rests(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.refresh_interval_ms = HOUR_MS;
    open_ground(&ground, &options);
    run_until(&ground, ground.n_snapshots == 1);
    gpu_monitor_hurry(ground.monitor, true);
    run_until(&ground, ground.n_snapshots == 5);
    gpu_monitor_hurry(ground.monitor, false);
    /* What it had asked for before it heard of that may still come. */
    fake_driver_set(&driver, "[driver]\n[gpu 0]\nused = 3GiB\n");
    gpu_monitor_ask(ground.monitor);
    run_until(&ground, ground.used_bytes == INT64_C(3) << 30);
    assert_int_equal(counters_of(&ground).n_started, 1);
    close_ground(&ground);
}

static void hurries_from_the_start(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.refresh_interval_ms = HOUR_MS;
    open_ground(&ground, &options);
    gpu_monitor_hurry(ground.monitor, true);
    run_until(&ground, ground.n_snapshots == 3);
    close_ground(&ground);
}

static void shows_a_host_without_a_driver(void **state)
{
    (void)state;
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.inventory_url = "nvml:/nowhere/libnvidia-ml.so.1";
    open_ground(&ground, &options);
    run_until(&ground, ground.n_snapshots == 1);
    struct gpu_monitor_view view = gpu_monitor_snapshot(ground.monitor);
    assert_int_equal(view.list->n_gpus, 0);
    assert_true(strlen(view.list->reason) > 0);
    assert_false(view.is_stale);
    close_ground(&ground);
}

static void passes_on_why_an_inventory_can_not_be_opened(void **state)
{
    (void)state;
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.inventory_url = "static:/nowhere/gpus.toml";
    open_ground(&ground, &options);
    run_until(&ground, counters_of(&ground).n_errors == 2);
    assert_true(counters_of(&ground).n_ended >= 1);
    assert_non_null(strstr(gpu_monitor_snapshot(ground.monitor).list->reason, "/nowhere/gpus.toml"));
    close_ground(&ground);
}

/* ---- a driver that hangs ---- */

static void calls_facts_stale_when_the_driver_hangs(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" ONE_GPU "[gpu 1]\n");
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.stale_after_ms = 300;
    options.first_answer_ms = 1000;
    open_ground(&ground, &options);
    run_until(&ground, ground.n_snapshots == 1);
    fake_driver_set(&driver, "[driver]\n" HANG ONE_GPU "[gpu 1]\n");
    run_until(&ground, ground.n_stale == 1);
    struct gpu_monitor_view view = gpu_monitor_snapshot(ground.monitor);
    assert_true(view.is_stale);
    assert_int_equal(view.list->n_gpus, 2);
    assert_int_equal(view.list->gpus[0]->vram_used_bytes, INT64_C(1) << 30); /* the last that is known */
    assert_memory_equal(view.list->gpus[0]->health_reason, STALE_START, strlen(STALE_START));
    assert_memory_equal(view.list->reason, STALE_START, strlen(STALE_START));
    assert_true(view.age_ms >= 300);
    /* Another one is tried, hangs as well, and is replaced again; it is told once more. */
    run_until(&ground, counters_of(&ground).n_hung >= 2);
    run_until(&ground, ground.n_stale >= 2);
    run_until(&ground, counters_of(&ground).n_abandoned == 0); /* SIGKILL does help here */
    fake_driver_set(&driver, "[driver]\n" ONE_GPU "[gpu 1]\n");
    int n_snapshots = ground.n_snapshots;
    run_until(&ground, ground.n_snapshots > n_snapshots);
    view = gpu_monitor_snapshot(ground.monitor);
    assert_false(view.is_stale);
    assert_int_equal(view.list->gpus[0]->health, POOL_GPU_HEALTHY);
    assert_string_equal(view.list->gpus[0]->health_reason, "");
    assert_string_equal(view.list->reason, "");
    close_ground(&ground);
}

static void says_so_when_the_first_answer_does_not_come(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" HANG ONE_GPU);
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.first_answer_ms = 200;
    open_ground(&ground, &options);
    run_until(&ground, ground.n_stale == 1 && counters_of(&ground).n_hung == 1);
    struct gpu_monitor_view view = gpu_monitor_snapshot(ground.monitor);
    assert_int_equal(view.list->n_gpus, 0);
    assert_true(view.is_stale);
    assert_non_null(strstr(view.list->reason, "the driver has not answered"));
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    run_until(&ground, ground.n_snapshots == 1);
    close_ground(&ground);
}

static void waits_for_a_driver_that_starts_slowly(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\nhang.nvmlInit_v2 = 700\n" ONE_GPU);
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.stale_after_ms = 200;
    options.first_answer_ms = 15000;
    open_ground(&ground, &options);
    run_until(&ground, ground.n_snapshots == 1);
    assert_int_equal(counters_of(&ground).n_started, 1);
    assert_int_equal(ground.n_stale, 0);
    close_ground(&ground);
}

static void forgives_a_helper_when_the_loop_was_held_up(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.stale_after_ms = 300;
    open_ground(&ground, &options);
    run_until(&ground, ground.n_snapshots == 1);
    clock_pause_ns(1000 * NS_PER_MS); /* this is the loop being held up */
    assert_true(gpu_monitor_snapshot(ground.monitor).is_stale);
    int n_snapshots = ground.n_snapshots;
    run_until(&ground, ground.n_snapshots > n_snapshots);
    assert_false(gpu_monitor_snapshot(ground.monitor).is_stale);
    assert_int_equal(counters_of(&ground).n_hung, 0);
    assert_int_equal(ground.n_stale, 0);
    close_ground(&ground);
}

/* ---- helpers that misbehave ---- */

static void replaces_a_helper_that_dies(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    open_ground(&ground, &options);
    run_until(&ground, ground.n_snapshots == 1);
    pid_t pid = gpu_monitor_helper_pid(ground.monitor);
    assert_true(pid > 0);
    kill(pid, SIGKILL);
    run_until(&ground, counters_of(&ground).n_ended == 1);
    assert_non_null(strstr(ground.trouble, "signal 9"));
    int n_snapshots = ground.n_snapshots;
    run_until(&ground, ground.n_snapshots > n_snapshots);
    assert_int_not_equal(gpu_monitor_helper_pid(ground.monitor), pid);
    assert_int_equal(ground.n_stale, 0);
    close_ground(&ground);
}

static void starts_replacements_with_growing_pauses(void **state)
{
    (void)state;
    write_script("echo the library is missing >&2; exit 7");
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.probe_path = script_path;
    int64_t began_ns = clock_boottime_ns();
    open_ground(&ground, &options);
    run_until(&ground, counters_of(&ground).n_ended == 5);
    /* 100 + 200 + 400 + 800 ms */
    assert_true(clock_boottime_ns() - began_ns >= 1500 * NS_PER_MS - 4 * NS_PER_MS);
    assert_non_null(strstr(ground.trouble, "exited with code 7"));
    assert_non_null(strstr(ground.trouble, "the library is missing"));
    close_ground(&ground);
}

static void replaces_helpers_that_talk_nonsense(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    static const char *const scripts[] = {
        "echo hello; exec cat >/dev/null",
        "echo '{\"gpus\":[]}'; exec cat >/dev/null",
        "exec cat /dev/zero",
        "exec yes '{\"gpus\":[],\"source\":\"x\",\"taken_boottime_ns\":1}'",
        "exec </dev/null >/dev/null; exec sleep 1000",
        "printf '\\377\\376\\n'; exec cat >/dev/null",
    };
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        char script[512];
        snprintf(script, sizeof script,
                 "if mkdir $SCRATCH/started 2>/dev/null; then %s; else exec $PROBE \"$@\"; fi", scripts[i]);
        write_script(script);
        struct ground ground;
        open_loop(&ground);
        struct gpu_monitor_options options = default_options(&ground);
        options.probe_path = script_path;
        open_ground(&ground, &options);
        run_until(&ground, counters_of(&ground).n_broken == 1);
        run_until(&ground, counters_of(&ground).n_abandoned == 0);
        run_until(&ground, ground.used_bytes == INT64_C(1) << 30);
        close_ground(&ground);
        remove_notes();
    }
}

static void tells_of_a_program_that_is_not_there(void **state)
{
    (void)state;
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.probe_path = "/nowhere/pool-gpu-probe";
    open_ground(&ground, &options);
    run_until(&ground, counters_of(&ground).n_failed_starts == 3);
    assert_non_null(strstr(gpu_monitor_snapshot(ground.monitor).list->reason, "/nowhere/pool-gpu-probe"));
    assert_int_equal(gpu_monitor_helper_pid(ground.monitor), 0);
    close_ground(&ground);
}

/* A helper that may not be signalled stands for one that can not be killed: to the monitor they are the same. */
static void leaves_helpers_that_can_not_be_killed(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("not root: a process that can not be signalled can not be had\n");
        skip();
    }
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    assert_int_equal(chmod(driver.folder, 0755), 0);
    assert_int_equal(chmod(driver.config_path, 0644), 0);
    /* The first one answers once and then sits there, deaf. */
    write_script("if [ -e $SCRATCH/started ]; then exec $PROBE \"$@\"; fi\n"
                 "echo $$ >$SCRATCH/started\n"
                 "$PROBE --inventory \"$2\" --once </dev/null\n"
                 "exec sleep 1000");
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.probe_path = script_path;
    options.stale_after_ms = 500;
    options.first_answer_ms = 10000;
    open_ground(&ground, &options);
    run_until(&ground, ground.n_snapshots == 1);
    pid_t deaf = gpu_monitor_helper_pid(ground.monitor);
    assert_int_equal(setresuid(NOBODY, NOBODY, 0), 0);
    run_until(&ground, ground.n_snapshots == 3);
    bool is_nobody = geteuid() == NOBODY;
    assert_int_equal(setresuid(0, 0, 0), 0);
    assert_true(is_nobody);
    assert_int_equal(counters_of(&ground).n_hung, 1);
    assert_int_equal(counters_of(&ground).n_abandoned, 1);
    assert_int_not_equal(gpu_monitor_helper_pid(ground.monitor), deaf);
    assert_false(gpu_monitor_snapshot(ground.monitor).is_stale);
    /* When it does end, it is not counted any more. */
    kill(deaf, SIGKILL);
    run_until(&ground, counters_of(&ground).n_abandoned == 0);
    close_ground(&ground);
}

static void closes_beside_a_helper_that_can_not_be_killed(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("not root: a process that can not be signalled can not be had\n");
        skip();
    }
    write_script("exec sleep 1000");
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.probe_path = script_path;
    open_ground(&ground, &options);
    pid_t deaf = gpu_monitor_helper_pid(ground.monitor);
    assert_int_equal(setresuid(NOBODY, NOBODY, 0), 0);
    gpu_monitor_close(ground.monitor, take_closed, &ground);
    int64_t began_ns = clock_boottime_ns();
    uv_run(&ground.loop, UV_RUN_DEFAULT);
    int64_t took_ns = clock_boottime_ns() - began_ns;
    assert_int_equal(setresuid(0, 0, 0), 0);
    kill(deaf, SIGKILL);
    assert_true(ground.is_closed);
    assert_true(took_ns >= (GPU_MONITOR_CLOSE_WAIT_MS - 5) * NS_PER_MS);
    close_loop(&ground);
}

/* ---- what a helper has of us ---- */

static void gives_nothing_to_its_helper(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    /* The script does not close anything itself, unlike the real helper. */
    write_script("ls /proc/self/fd | grep -v '^3$' | tr '\\n' ' ' >$SCRATCH/helper\nexec $PROBE \"$@\"");
    int kept[2] = { open(driver.folder, O_RDONLY), socket(AF_INET, SOCK_STREAM, 0) };
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    options.probe_path = script_path;
    signal(SIGUSR1, SIG_IGN);
    open_ground(&ground, &options);
    run_until(&ground, ground.n_snapshots == 1);
    signal(SIGUSR1, SIG_DFL);
    char path[128], text[256] = "";
    snprintf(path, sizeof path, "%s/helper", driver.folder);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_string_equal(text, "0 1 2 "); /* 3 is the folder that ls reads */
    pid_t pid = gpu_monitor_helper_pid(ground.monitor);
    assert_int_equal(getsid(pid), pid);
    kill(pid, SIGUSR1); /* would be ignored if that were inherited */
    run_until(&ground, counters_of(&ground).n_ended == 1);
    close_ground(&ground);
    close(kept[0]);
    close(kept[1]);
}

/* ---- the end ---- */

static void can_be_closed_by_a_callback(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" ONE_GPU);
    struct ground ground;
    open_loop(&ground);
    ground.closes_at_snapshot = true;
    struct gpu_monitor_options options = default_options(&ground);
    open_ground(&ground, &options);
    run_until(&ground, ground.is_closed);
    assert_int_equal(ground.n_snapshots, 1);
    close_loop(&ground);
    gpu_monitor_close(NULL, NULL, NULL);
}

static void leaves_no_process_behind(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" HANG ONE_GPU);
    struct ground ground;
    open_loop(&ground);
    struct gpu_monitor_options options = default_options(&ground);
    open_ground(&ground, &options);
    pid_t pid = gpu_monitor_helper_pid(ground.monitor);
    assert_true(pid > 0);
    close_ground(&ground);
    assert_int_equal(getpgid(pid), -1); /* reaped, too */
    assert_int_equal(errno, ESRCH);
}

static void refuses_options(void **state)
{
    (void)state;
    struct ground ground;
    open_loop(&ground);
    static const struct {
        int64_t refresh_ms, fast_ms, stale_ms, first_ms;
        const char *field;
    } cases[] = {
        { 9, 9, 1, 0, "refresh_interval_ms" },   { HOUR_MS + 1, 10, 1, 0, "refresh_interval_ms" },
        { 100, 101, 1, 0, "fast_interval_ms" },  { 100, 0, 1, 0, "fast_interval_ms" },
        { 100, 10, 0, 0, "stale_after_ms" },     { 100, 10, HOUR_MS + 1, 0, "stale_after_ms" },
        { 100, 10, 100, -1, "first_answer_ms" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gpu_monitor_options options = default_options(&ground);
        options.refresh_interval_ms = cases[i].refresh_ms;
        options.fast_interval_ms = cases[i].fast_ms;
        options.stale_after_ms = cases[i].stale_ms;
        options.first_answer_ms = cases[i].first_ms;
        struct pool_error error = POOL_ERROR_INIT;
        assert_int_equal(gpu_monitor_open(&ground.loop, &options, &ground.monitor, &error),
                         POOL_INVALID_REQUEST);
        assert_string_equal(error.field, cases[i].field);
    }
    close_loop(&ground);
}

static int set_up(void **state)
{
    (void)state;
    const char *build = getenv("POOL_BUILD_DIR");
    if (!build || !fake_driver_start(&driver))
        return -1;
    snprintf(program_path, sizeof program_path, "%s/bin/pool-gpu-probe", build);
    snprintf(script_path, sizeof script_path, "%s/probe", driver.folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(script_path);
    remove_notes();
    fake_driver_end(&driver);
    return 0;
}

static int forget_scripts(void **state)
{
    (void)state;
    remove_notes();
    return 0;
}

#define TEST(function) cmocka_unit_test_teardown(function, forget_scripts)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(knows_nothing_at_first),
        TEST(follows_the_driver),
        TEST(hurries_and_rests),
        TEST(hurries_from_the_start),
        TEST(shows_a_host_without_a_driver),
        TEST(passes_on_why_an_inventory_can_not_be_opened),
        TEST(calls_facts_stale_when_the_driver_hangs),
        TEST(says_so_when_the_first_answer_does_not_come),
        TEST(waits_for_a_driver_that_starts_slowly),
        TEST(forgives_a_helper_when_the_loop_was_held_up),
        TEST(replaces_a_helper_that_dies),
        TEST(starts_replacements_with_growing_pauses),
        TEST(replaces_helpers_that_talk_nonsense),
        TEST(tells_of_a_program_that_is_not_there),
        TEST(leaves_helpers_that_can_not_be_killed),
        TEST(closes_beside_a_helper_that_can_not_be_killed),
        TEST(gives_nothing_to_its_helper),
        TEST(can_be_closed_by_a_callback),
        TEST(leaves_no_process_behind),
        TEST(refuses_options),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
