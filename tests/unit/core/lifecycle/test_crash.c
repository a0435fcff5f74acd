/*
 * Crash bundles of ends: which leave one, what is in it, and that an end is settled whether it can be written or not.
 */
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "manager_ground.h"

#include "base/cleanup.h"
#include "core/lifecycle/crash.h"

GROUND_FIXTURE

static void free_why(struct pool_worker_why **why)
{
    pool_worker_why_free(*why);
}
#define CLEANUP_WHY CLEANUP(free_why) struct pool_worker_why

/* How many regular files are in the folder, and how large they are together. */
static size_t count_files(int64_t *ret_bytes)
{
    char path[1200];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/crashes", ground.state_dir);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    struct dirent *entry;
    *ret_bytes = 0;
    while ((entry = readdir(folder))) {
        struct stat st;
        if (fstatat(dirfd(folder), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode)) {
            n++;
            *ret_bytes += st.st_size;
        }
    }
    closedir(folder);
    return n;
}

/* ---- ends ---- */

static struct pool_worker_why *ask_why(const char *worker_id)
{
    struct pool_worker_why *why = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    if (pool_manager_why(ground.manager, worker_id, &why, &err) != POOL_OK)
        fail_msg("%s: %s", worker_id, err.message);
    return why;
}

static void test_asked_ends_leave_none(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_why *none = NULL;
    ground_open(&ground);
    ground_spawn(&ground, "w", "");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    CLEANUP_WHY *alive = ask_why("w");
    assert_non_null(strstr(alive->why, "is ready and has not ended"));
    assert_null(alive->crash);
    pool_worker_info_free(ground_stop(&ground, "w"));
    CLEANUP_WHY *stopped = ask_why("w");
    assert_non_null(strstr(stopped->why, "stopped on request"));
    assert_string_equal(stopped->status, "stopped");
    assert_null(stopped->crash);
    assert_null(stopped->bundle_path);
    assert_int_equal(pool_manager_why(ground.manager, "nobody", &none, &err), POOL_WORKER_NOT_FOUND);
    assert_int_equal(pool_manager_why(ground.manager, "../x", &none, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "worker_id");
}

static void test_a_death_that_nobody_watched(void **state)
{
    (void)state;
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "--api-key s3cretvalue --say s3cretvalue");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    GROUND_UNTIL(ground_status(&ground, "w") == POOL_WORKER_STOPPED);
    CLEANUP_WHY *why = ask_why("w");
    assert_non_null(why->crash);
    assert_int_equal(why->crash->process.pid, pid);
    assert_int_equal(why->crash->stop_reason, POOL_STOP_LOST);
    assert_int_equal(why->crash->cause, POOL_CRASH_LOST);
    assert_string_equal(why->crash->why, why->why);
    assert_true(why->crash->is_command_known);
    assert_non_null(why->crash->start_explain_id);
    assert_non_null(why->crash->explain_id);
    assert_non_null(why->crash->engine_version);
    assert_int_equal(why->crash->n_candidates, 1);
    CLEANUP_FREE char *json = NULL;
    assert_int_equal(pool_worker_why_encode(why, &json, NULL), POOL_OK);
    assert_null(strstr(json, "s3cretvalue"));
    CLEANUP_WHY *again = NULL;
    CLEANUP_FREE char *json_again = NULL;
    assert_int_equal(pool_worker_why_decode(json, strlen(json), &again, NULL), POOL_OK);
    assert_int_equal(pool_worker_why_encode(again, &json_again, NULL), POOL_OK);
    assert_string_equal(json, json_again);
    /* Nothing of the start lies beside the log any more. */
    char path[1300];
    snprintf(path, sizeof path, "%s/logs/w.log.start", ground.state_dir);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_an_id_that_is_used_again(void **state)
{
    (void)state;
    ground_open(&ground);
    for (int64_t i = 0; i < 2; i++) {
        int64_t pid = ground_spawn(&ground, "w", "");
        pool_worker_info_free(ground_wait_ready(&ground, "w"));
        CLEANUP_WHY *alive = ask_why("w"); /* the one before, if any, is told of too */
        assert_non_null(strstr(alive->why, "is ready"));
        assert_int_equal(strstr(alive->why, "another one of its id ended") != NULL, i > 0);
        assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
        GROUND_UNTIL(ground_status(&ground, "w") == POOL_WORKER_STOPPED);
        CLEANUP_WHY *why = ask_why("w");
        assert_int_equal(why->crash->process.pid, pid);
    }
    int64_t bytes;
    assert_int_equal(count_files(&bytes), 2);
}

/* Its file is there, and no good. */
static void test_a_damaged_bundle_is_said(void **state)
{
    (void)state;
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    GROUND_UNTIL(ground_status(&ground, "w") == POOL_WORKER_STOPPED);
    CLEANUP_WHY *before = ask_why("w");
    assert_int_equal(truncate(before->bundle_path, 40), 0);
    CLEANUP_WHY *why = ask_why("w");
    assert_null(why->crash);
    assert_non_null(why->bundle_error);
    assert_non_null(strstr(why->why, "can not be read"));
    assert_int_equal(unlink(before->bundle_path), 0);
    CLEANUP_WHY *after = ask_why("w");
    assert_non_null(strstr(after->why, "crash bundle is not there"));
}

/* A daemon that was killed between the bundle and the record: what it saw stays. */
static void test_a_bundle_that_is_there_stays(void **state)
{
    (void)state;
    struct pool_death_evidence evidence = { .struct_size = sizeof evidence, .watched_since_wall_ms = 77000 };
    ground_open(&ground);
    ground_spawn(&ground, "w", "");
    struct pool_worker_info *worker = ground_wait_ready(&ground, "w");
    worker->stop_reason = POOL_STOP_SIGNALLED;
    worker->exit_signal = (struct pool_reading){ true, SIGSEGV };
    ground.manager->evidence = &evidence;
    assert_true(crash_note(ground.manager, worker, "x-1"));
    ground.manager->evidence = NULL;
    assert_false(crash_note(ground.manager, worker, "x-2"));
    assert_int_equal(kill((pid_t)worker->process.pid, SIGKILL), 0);
    GROUND_UNTIL(ground_status(&ground, "w") == POOL_WORKER_STOPPED);
    CLEANUP_WHY *why = ask_why("w");
    assert_int_equal(why->stop_reason, POOL_STOP_LOST); /* all that the next one could tell */
    assert_int_equal(why->crash->watched_since_wall_ms, 77000);
    assert_int_equal(why->crash->exit_signal.value, SIGSEGV);
    assert_string_equal(why->crash->explain_id, "x-1");
    pool_worker_info_free(worker);
}

static void test_what_was_seen_is_in_it(void **state)
{
    (void)state;
    struct pool_start_progress progress = { .elapsed_ms = 5, .last_status_code = 503 };
    struct pool_error start_error = POOL_ERROR_INIT;
    struct pool_vram_sample samples[POOL_CRASH_SAMPLES_MAX + 3] = { 0 };
    struct pool_device_fault faults[POOL_CRASH_FAULTS_MAX + 3] = { 0 };
    pool_error_set(&start_error, POOL_INSUFFICIENT_VRAM, "no, --api-key s3cret");
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
        samples[i].at_wall_ms = 1000 + (int64_t)i;
    struct pool_death_evidence evidence = { .struct_size = sizeof evidence,
                                            .timed_out = &progress,
                                            .start_error = &start_error,
                                            .n_samples = POOL_CRASH_SAMPLES_MAX + 3,
                                            .samples = samples,
                                            .n_faults = POOL_CRASH_FAULTS_MAX + 3,
                                            .faults = faults };
    struct pool_process_end end = { .is_known = true, .is_signal = true, .value = SIGKILL };
    struct pool_worker_info *gone = NULL;
    struct pool_error bundle_error = POOL_ERROR_INIT;
    ground_open(&ground);
    ground_spawn(&ground, "w", "");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    ground_kill_children();
    assert_int_equal(pool_manager_record_gone(ground.manager, "w", POOL_STOP_START_TIMEOUT, &end, &evidence,
                                              &gone, &bundle_error, NULL),
                     POOL_OK);
    pool_worker_info_free(gone);
    assert_int_equal(bundle_error.code, POOL_OK);
    CLEANUP_WHY *why = ask_why("w");
    const struct pool_crash *crash = why->crash;
    assert_true(crash->is_ended_by_us);
    assert_int_equal(crash->progress.last_status_code.value, 503);
    assert_string_equal(crash->start_error_code, "INSUFFICIENT_VRAM");
    assert_string_equal(crash->start_error, "no, --api-key [redacted]");
    assert_int_equal(crash->n_samples, POOL_CRASH_SAMPLES_MAX - 1);
    assert_int_equal(crash->n_faults, POOL_CRASH_FAULTS_MAX);
}

static void test_an_error_that_is_told_late(void **state)
{
    (void)state;
    struct pool_process_end end = { .is_known = true, .is_signal = true, .value = SIGABRT };
    struct pool_worker_info *gone = NULL;
    struct pool_device_fault fault = {
        .kind = POOL_GPU_EVENT_XID, .data = 79, .is_serious = true, .text = "XID 79"
    };
    ground_open(&ground);
    ground_spawn(&ground, "w", "");
    struct pool_worker_info *worker = ground_wait_ready(&ground, "w");
    ground_kill_children();
    assert_int_equal(pool_manager_note_late_fault(ground.manager, worker, &fault, NULL), POOL_NOT_FOUND);
    assert_int_equal(
        pool_manager_record_gone(ground.manager, "w", POOL_STOP_NONE, &end, NULL, &gone, NULL, NULL),
        POOL_OK);
    CLEANUP_WHY *before = ask_why("w");
    assert_int_equal(before->crash->cause, POOL_CRASH_SIGNAL);
    fault.at_wall_ms = gone->stopped_wall_ms + 500;
    for (int i = 0; i < 2; i++) /* told twice, it is there once */
        assert_int_equal(pool_manager_note_late_fault(ground.manager, gone, &fault, NULL), POOL_OK);
    CLEANUP_WHY *why = ask_why("w");
    assert_int_equal(why->crash->n_faults, 1);
    assert_int_equal(why->crash->cause, POOL_CRASH_GPU_FAULT);
    assert_non_null(strstr(why->why, "XID 79 500 ms after"));
    for (int64_t i = 0; i < POOL_CRASH_FAULTS_MAX + 5; i++) {
        fault.data = i;
        assert_int_equal(pool_manager_note_late_fault(ground.manager, gone, &fault, NULL), POOL_OK);
    }
    CLEANUP_WHY *full = ask_why("w");
    assert_int_equal(full->crash->n_faults, POOL_CRASH_FAULTS_MAX);
    pool_worker_info_free(worker);
    pool_worker_info_free(gone);
}

/* The folder can not be made: the end is settled, and it is said. */
static void test_an_end_without_a_bundle(void **state)
{
    (void)state;
    char path[1200];
    struct pool_process_end end = { .is_known = true, .value = 3 };
    struct pool_worker_info *gone = NULL;
    struct pool_error bundle_error = POOL_ERROR_INIT;
    struct pool_death_evidence evidence = { .struct_size = sizeof evidence };
    ground_open(&ground);
    snprintf(path, sizeof path, "%s/crashes", ground.state_dir);
    FILE *file = fopen(path, "we"); /* in the way */
    assert_non_null(file);
    fclose(file);
    ground_spawn(&ground, "w", "");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    ground_kill_children();
    assert_int_equal(pool_manager_record_gone(ground.manager, "w", POOL_STOP_NONE, &end, &evidence, &gone,
                                              &bundle_error, NULL),
                     POOL_OK);
    assert_int_equal(gone->status, POOL_WORKER_STOPPED);
    pool_worker_info_free(gone);
    assert_int_equal(bundle_error.code, POOL_REGISTRY_UNAVAILABLE);
    assert_non_null(strstr(bundle_error.message, "why worker w ended could not be kept"));
    CLEANUP_WHY *why = ask_why("w");
    assert_non_null(strstr(why->why, "exited"));
    assert_non_null(strstr(why->why, "exit code 3"));
    assert_null(why->crash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_asked_ends_leave_none),        GROUND_TEST(test_a_death_that_nobody_watched),
        GROUND_TEST(test_an_id_that_is_used_again),     GROUND_TEST(test_a_damaged_bundle_is_said),
        GROUND_TEST(test_a_bundle_that_is_there_stays), GROUND_TEST(test_what_was_seen_is_in_it),
        GROUND_TEST(test_an_error_that_is_told_late),   GROUND_TEST(test_an_end_without_a_bundle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
