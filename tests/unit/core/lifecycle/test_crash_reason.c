/*
 * The sentence about an end: which rule applies to which facts, and that none says more than is known.
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

#include <signal.h>

#include "base/cleanup.h"
#include "core/lifecycle/crash.h"

#define DIED INT64_C(1760011200000)
#define GPU  "GPU-00000000-0000-4000-8000-000000000001"

#define CODE(n)       .exit_code = { true, (n) }
#define SIGNAL(n)     .exit_signal = { true, (n) }
#define COUNTED(k, o) .memory = { .is_counted = true, .n_oom_kills = { true, (k) }, .n_ooms = { true, (o) } }

struct fault {
    int64_t before_ms;
    bool is_serious;
    const char *text;
};

struct reason_case {
    const char *about;
    struct pool_crash crash; /* texts are borrowed: it is copied, and the rest set below */
    const char *log[2];
    struct fault faults[2];
    enum pool_crash_cause cause;
    const char *words[3];  /* in the sentence */
    const char *evidence;  /* in one of the lines it stands on; NULL: any */
    const char *forbidden; /* not in the sentence */
};

#define S(text) ((char *)(uintptr_t)(text))

static const struct reason_case cases[] = {
    { "its group ran out, at its limit",
      { SIGNAL(SIGKILL), .stop_reason = POOL_STOP_SIGNALLED,
        .memory = { .is_counted = true,
                    .n_oom_kills = { true, 1 },
                    .n_ooms = { true, 2 },
                    .limit_bytes = { true, 1 << 30 },
                    .peak_bytes = { true, 1 << 30 } } },
      .cause = POOL_CRASH_OUT_OF_GROUP_MEMORY,
      .words = { "SIGKILL", "limit of 1.0 GiB", "killed 1 process of it" },
      .evidence = "oom_kill 1, oom 2" },
    { "killed at a limit above",
      { SIGNAL(SIGKILL), .stop_reason = POOL_STOP_SIGNALLED, COUNTED(2, 0) },
      .cause = POOL_CRASH_OUT_OF_MEMORY,
      .words = { "killed 2 processes", "above its own cgroup" } },
    { "a helper was killed, and then it gave up",
      { CODE(1), .stop_reason = POOL_STOP_EXITED, COUNTED(1, 1) },
      .cause = POOL_CRASH_OUT_OF_GROUP_MEMORY,
      .words = { "exit code 1", "killed 1 process" } },
    { "counted, and not for memory",
      { SIGNAL(SIGKILL), .stop_reason = POOL_STOP_SIGNALLED, COUNTED(0, 0) },
      .cause = POOL_CRASH_KILLED,
      .words = { "SIGKILL that the pool did not send" },
      .evidence = "oom_kill 0",
      .forbidden = "memory" },
    { "not counted: nobody knows",
      { SIGNAL(SIGKILL), .stop_reason = POOL_STOP_SIGNALLED },
      .cause = POOL_CRASH_KILLED,
      .words = { "SIGKILL that the pool did not send" },
      .evidence = "is not counted",
      .forbidden = "memory" },
    { "lost, by a signal of whom nobody knows",
      { SIGNAL(SIGKILL), .stop_reason = POOL_STOP_LOST },
      .cause = POOL_CRASH_LOST,
      .words = { "SIGKILL", "who sent that is not known" },
      .forbidden = "pool did not" },
    { "lost", { .stop_reason = POOL_STOP_LOST }, .cause = POOL_CRASH_LOST, .words = { "was gone" } },
    { "another boot",
      { .stop_reason = POOL_STOP_LOST, .ended_with = S("boot") },
      .cause = POOL_CRASH_HOST_RESTARTED,
      .words = { "host" } },
    { "another container",
      { .stop_reason = POOL_STOP_LOST, .ended_with = S("pid_namespace") },
      .cause = POOL_CRASH_CONTAINER_ENDED,
      .words = { "pid namespace" } },
    { "no program",
      { .stop_reason = POOL_STOP_START_FAILED,
        .start_error_code = S("BACKEND_UNAVAILABLE"),
        .start_error = S("/opt/e: No such file or directory") },
      .cause = POOL_CRASH_NOT_STARTED,
      .words = { "could not be run: /opt/e: No such file" } },
    { "waited in vain",
      { .stop_reason = POOL_STOP_START_FAILED,
        .start_error_code = S("INSUFFICIENT_VRAM"),
        .start_error = S("GPU 0 has 1 GiB") },
      .cause = POOL_CRASH_START_REFUSED,
      .words = { "was not started: GPU 0 has 1 GiB" } },
    { "a start that stalls, deaf",
      { .stop_reason = POOL_STOP_START_TIMEOUT,
        .start_timeout_ms = 5000,
        SIGNAL(SIGKILL),
        .is_ended_by_us = true,
        .progress = { .elapsed_ms = { true, 7000 }, .read_bytes = 1 << 20 } },
      .cause = POOL_CRASH_START_TIMEOUT,
      .words = { "5000 ms", "did not listen on its port" },
      .evidence = "read 1.0 MiB",
      .forbidden = "SIGKILL" },
    { "a start that stalls, listening",
      { .stop_reason = POOL_STOP_START_TIMEOUT,
        .progress = { .elapsed_ms = { true, 1 }, .is_listening = true } },
      .cause = POOL_CRASH_START_TIMEOUT,
      .words = { "listened on its port and did not answer" } },
    { "a start that stalls, at 503",
      { .stop_reason = POOL_STOP_START_TIMEOUT,
        .progress = { .elapsed_ms = { true, 1 }, .is_listening = true, .last_status_code = { true, 503 } } },
      .cause = POOL_CRASH_START_TIMEOUT,
      .words = { "answered 503" } },
    { "a start that stalls, its port a stranger's",
      { .stop_reason = POOL_STOP_START_TIMEOUT,
        .progress = { .elapsed_ms = { true, 1 }, .is_port_foreign = true } },
      .cause = POOL_CRASH_START_TIMEOUT,
      .words = { "somebody else answers" } },
    { "a start that stalls, unseen",
      { .stop_reason = POOL_STOP_START_TIMEOUT },
      .cause = POOL_CRASH_START_TIMEOUT,
      .words = { "how far it was is not known" } },
    { "unhealthy",
      { .stop_reason = POOL_STOP_UNHEALTHY, .health_reason = S("it answers 500"), CODE(0) },
      .cause = POOL_CRASH_UNHEALTHY,
      .words = { "not healthy: it answers 500" } },
    { "an XID right before",
      { SIGNAL(SIGABRT), .stop_reason = POOL_STOP_GPU_LOST },
      .faults = { { 2500, true, "XID 79: it has fallen off the bus" } },
      .cause = POOL_CRASH_GPU_FAULT,
      .words = { "SIGABRT", GPU " reported XID 79", "2 s before" },
      .evidence = "XID 79" },
    { "an XID right after",
      { SIGNAL(SIGSEGV), .stop_reason = POOL_STOP_SIGNALLED },
      .faults = { { -300, true, "XID 48" } },
      .cause = POOL_CRASH_GPU_FAULT,
      .words = { "300 ms after" } },
    { "an XID long before says nothing",
      { SIGNAL(SIGSEGV), .stop_reason = POOL_STOP_SIGNALLED },
      .faults = { { POOL_CRASH_CAUSE_BEFORE_MS + 1, true, "XID 79" } },
      .cause = POOL_CRASH_SIGNAL,
      .words = { "SIGSEGV" },
      .forbidden = "XID" },
    { "nor one long after",
      { SIGNAL(SIGSEGV), .stop_reason = POOL_STOP_SIGNALLED },
      .faults = { { -POOL_CRASH_CAUSE_AFTER_MS - 1, true, "XID 79" } },
      .cause = POOL_CRASH_SIGNAL,
      .words = { "SIGSEGV" },
      .forbidden = "XID" },
    { "a serious one before another",
      { SIGNAL(SIGSEGV), .stop_reason = POOL_STOP_SIGNALLED },
      .faults = { { 9000, true, "XID 79" }, { 100, false, "XID 13" } },
      .cause = POOL_CRASH_GPU_FAULT,
      .words = { "XID 79" } },
    { "what it says before an XID of a program",
      { SIGNAL(SIGABRT), .stop_reason = POOL_STOP_SIGNALLED },
      .log = { "CUDA error: out of memory" },
      .faults = { { 100, false, "XID 13" } },
      .cause = POOL_CRASH_OUT_OF_VRAM,
      .words = { "its last lines say" } },
    { "an XID of a program",
      { SIGNAL(SIGABRT), .stop_reason = POOL_STOP_SIGNALLED },
      .faults = { { 100, false, "XID 31" } },
      .cause = POOL_CRASH_GPU_FAULT,
      .words = { "XID 31" } },
    { "the fault is not kept any more",
      { SIGNAL(SIGABRT), .stop_reason = POOL_STOP_GPU_LOST },
      .cause = POOL_CRASH_GPU_FAULT,
      .words = { "soon after a serious error" } },
    { "PyTorch",
      { CODE(1), .stop_reason = POOL_STOP_EXITED },
      .log = { "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "bye" },
      .cause = POOL_CRASH_OUT_OF_VRAM,
      .words = { "exit code 1", "no more memory of its GPU" },
      .evidence = "Tried to allocate 2 GiB" },
    { "llama.cpp",
      { CODE(1), .stop_reason = POOL_STOP_START_FAILED },
      .log = { "allocating 9000.00 MiB on device 0: cudaMalloc failed: out of memory" },
      .cause = POOL_CRASH_OUT_OF_VRAM,
      .words = { "its last lines say" } },
    { "vLLM",
      { CODE(1), .stop_reason = POOL_STOP_START_FAILED },
      .log = { "ValueError: No available memory for the cache blocks. Try increasing" },
      .cause = POOL_CRASH_OUT_OF_VRAM,
      .words = { "its last lines say" } },
    { "no driver",
      { CODE(1), .stop_reason = POOL_STOP_START_FAILED },
      .log = { "CUDA driver version is insufficient for CUDA runtime version" },
      .cause = POOL_CRASH_GPU_UNUSABLE,
      .words = { "can not use the GPU" } },
    { "the port, by who listens",
      { CODE(98), .stop_reason = POOL_STOP_START_FAILED, .port = 8001, .is_port_taken = { true, 1 } },
      .cause = POOL_CRASH_PORT_TAKEN,
      .words = { "another process listened on its port 8001" } },
    { "the port, by what it says",
      { CODE(98), .stop_reason = POOL_STOP_START_FAILED, .is_port_taken = { true, 0 } },
      .log = { "bind: Address already in use" },
      .cause = POOL_CRASH_PORT_TAKEN,
      .words = { "its last lines say that its port 0 was taken" } },
    { "not the port, when it was ready",
      { CODE(1), .stop_reason = POOL_STOP_EXITED, .ready_wall_ms = DIED - 1000 },
      .log = { "peer: Address already in use" },
      .cause = POOL_CRASH_EXIT_CODE,
      .words = { "exit code 1" } },
    { "a library",
      { CODE(127), .stop_reason = POOL_STOP_START_FAILED },
      .log = { "e: error while loading shared libraries: libcudart.so.12: cannot open" },
      .cause = POOL_CRASH_LIBRARY_MISSING,
      .words = { "shared library" },
      .evidence = "libcudart" },
    { "another processor",
      { SIGNAL(SIGILL), .stop_reason = POOL_STOP_START_FAILED },
      .cause = POOL_CRASH_ILLEGAL_INSTRUCTION,
      .words = { "SIGILL" } },
    { "a signal",
      { SIGNAL(SIGBUS), .stop_reason = POOL_STOP_SIGNALLED },
      .cause = POOL_CRASH_SIGNAL,
      .words = { "SIGBUS" } },
    { "a signal without a name",
      { SIGNAL(63), .stop_reason = POOL_STOP_SIGNALLED },
      .cause = POOL_CRASH_SIGNAL,
      .words = { "signal 63" } },
    { "an exit code",
      { CODE(42), .stop_reason = POOL_STOP_EXITED, .ready_wall_ms = 1 },
      .cause = POOL_CRASH_EXIT_CODE,
      .words = { "exit code 42" },
      .forbidden = "before it was ready" },
    { "an exit code of a start",
      { CODE(3), .stop_reason = POOL_STOP_START_FAILED },
      .cause = POOL_CRASH_EXIT_CODE,
      .words = { "exit code 3 before it was ready" } },
    { "an exit code of a shell",
      { CODE(139), .stop_reason = POOL_STOP_EXITED },
      .cause = POOL_CRASH_EXIT_CODE,
      .words = { "exit code 139", "a shell gives for SIGSEGV" } },
    { "nothing",
      { .stop_reason = POOL_STOP_START_FAILED },
      .cause = POOL_CRASH_UNKNOWN,
      .words = { "how is not known" } },
};

static char *copy(const char *text)
{
    char *made = text ? strdup(text) : NULL;
    assert_true(!text || made);
    return made;
}

/* A bundle with the case's facts and texts of its own. */
static struct pool_crash *make(const struct reason_case *from)
{
    struct pool_crash *crash = pool_crash_new();
    assert_non_null(crash);
    *crash = from->crash;
    crash->format = POOL_CRASH_FORMAT;
    crash->died_wall_ms = DIED;
    crash->worker_id = copy("w");
    crash->ended_with = copy(from->crash.ended_with);
    crash->start_error_code = copy(from->crash.start_error_code);
    crash->start_error = copy(from->crash.start_error);
    crash->health_reason = copy(from->crash.health_reason);
    crash->log = calloc(2, sizeof *crash->log);
    crash->faults = calloc(2, sizeof *crash->faults);
    assert_true(crash->log && crash->faults);
    for (size_t i = 0; i < 2 && from->log[i]; i++)
        crash->log[crash->n_log++] = copy(from->log[i]);
    for (size_t i = 0; i < 2 && from->faults[i].text; i++) {
        struct pool_device_fault *fault = &crash->faults[crash->n_faults++];
        fault->at_wall_ms = DIED - from->faults[i].before_ms;
        fault->is_serious = from->faults[i].is_serious;
        snprintf(fault->gpu_uuid, sizeof fault->gpu_uuid, "%s", GPU);
        snprintf(fault->text, sizeof fault->text, "%s", from->faults[i].text);
    }
    return crash;
}

static bool has_evidence(const struct pool_crash *crash, const char *words)
{
    for (size_t i = 0; i < crash->n_evidence; i++) {
        if (strstr(crash->evidence[i], words))
            return true;
    }
    return false;
}

static void test_rules(void **state)
{
    (void)state;
    bool is_seen[64] = { false };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct reason_case *c = &cases[i];
        CLEANUP(free_crash) struct pool_crash *crash = make(c);
        assert_true(crash_reason(crash));
        if (crash->cause != c->cause)
            fail_msg("%s: %s: %s", c->about, pool_crash_cause_name(crash->cause), crash->why);
        for (size_t k = 0; k < 3 && c->words[k]; k++) {
            if (!strstr(crash->why, c->words[k]))
                fail_msg("%s: no \"%s\" in: %s", c->about, c->words[k], crash->why);
        }
        if (c->forbidden && strstr(crash->why, c->forbidden))
            fail_msg("%s: says \"%s\": %s", c->about, c->forbidden, crash->why);
        if (c->evidence && !has_evidence(crash, c->evidence))
            fail_msg("%s: does not stand on \"%s\"", c->about, c->evidence);
        is_seen[crash->cause] = true;
        /* Said again of the same facts, it is the same. */
        CLEANUP_FREE char *before = copy(crash->why);
        size_t n_evidence = crash->n_evidence;
        assert_true(crash_reason(crash));
        assert_string_equal(crash->why, before);
        assert_int_equal(crash->n_evidence, n_evidence);
    }
    size_t n_causes = 0;
#define POOL_X(name, text) n_causes++;
    POOL_CRASH_CAUSES(POOL_X)
#undef POOL_X
    for (size_t i = 0; i < n_causes; i++) { /* every cause is somebody's */
        if (!is_seen[i])
            fail_msg("no case of %s", pool_crash_cause_name((enum pool_crash_cause)i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rules) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
