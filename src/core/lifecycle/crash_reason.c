/*
 * One sentence about why a worker ended, from the facts of its bundle alone. The rules stand in one table, the most certain
 * first; the first that applies gives the sentence and the facts that it stands on. No sentence says more than those: what
 * happened near an end is said to be near it, what an engine says is said to be what it says.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/number.h"
#include "core/lifecycle/crash.h"

#define SENTENCE_MAX_BYTES 2048

struct verdict {
    enum pool_crash_cause cause;
    struct strbuf why;
    struct string_list evidence;
};

/* ---- words ---- */

static void name_signal(int64_t signal_number, char text[32])
{
    const char *name = signal_number > 0 && signal_number < 128 ? sigabbrev_np((int)signal_number) : NULL;
    if (name)
        snprintf(text, 32, "SIG%s", name);
    else
        snprintf(text, 32, "signal %" PRId64, signal_number);
}

/* How its main process ended, behind "it". */
static void say_end(const struct pool_crash *crash, struct strbuf *out)
{
    char name[32];
    if (crash->exit_signal.is_present) {
        name_signal(crash->exit_signal.value, name);
        strbuf_printf(out, "was ended by %s", name);
    } else if (crash->exit_code.is_present)
        strbuf_printf(out, "ended with exit code %" PRId64, crash->exit_code.value);
    else
        strbuf_add_text(out, "ended, and how is not known");
}

static bool is_by_signal(const struct pool_crash *crash, int signal_number)
{
    return crash->exit_signal.is_present && crash->exit_signal.value == signal_number;
}

static void note_end(const struct pool_crash *crash, struct verdict *verdict)
{
    struct strbuf text = STRBUF_INIT(256);
    strbuf_add_text(&text, "its main process ");
    say_end(crash, &text);
    string_list_add(&verdict->evidence, strbuf_text(&text));
    strbuf_done(&text);
}

static void note_memory(const struct pool_crash *crash, struct verdict *verdict)
{
    char human[HUMAN_BYTES_MAX];
    if (crash->memory.n_oom_kills.is_present)
        string_list_printf(&verdict->evidence,
                           "memory.events of its cgroup: oom_kill %" PRId64 ", oom %" PRId64,
                           crash->memory.n_oom_kills.value, crash->memory.n_ooms.value);
    if (crash->memory.limit_bytes.is_present) {
        format_bytes(crash->memory.limit_bytes.value, human);
        string_list_printf(&verdict->evidence, "memory.max of its cgroup: %s", human);
    }
    if (crash->memory.peak_bytes.is_present) {
        format_bytes(crash->memory.peak_bytes.value, human);
        string_list_printf(&verdict->evidence, "memory.peak of its cgroup: %s", human);
    }
}

/* ---- what the last lines say ---- */

/*
 * What engines write when they can not go on, and what it means. Matched as it stands, in the newest line that has any.
 * Sources: ggml/src/ggml-cuda/ggml-cuda.cu (cudaMalloc failed, CUDA error, no CUDA devices), ggml-alloc.c and
 * llama-model.cpp ("failed to allocate", "unable to allocate"); PyTorch c10/cuda/CUDACachingAllocator.cpp; vLLM
 * vllm/v1/core/kv_cache_utils.py and vllm/v1/worker/gpu_worker.py; CUDA's cudaGetErrorString; glibc elf/dl-load.c; bind(2).
 */
static const struct {
    const char *words;
    enum pool_crash_cause cause;
} sayings[] = {
    { "CUDA out of memory", POOL_CRASH_OUT_OF_VRAM },
    { "CUDA error: out of memory", POOL_CRASH_OUT_OF_VRAM },
    { "cudaMalloc failed: out of memory", POOL_CRASH_OUT_OF_VRAM },
    { "CUDA_ERROR_OUT_OF_MEMORY", POOL_CRASH_OUT_OF_VRAM },
    { "cudaErrorMemoryAllocation", POOL_CRASH_OUT_OF_VRAM },
    { "CUBLAS_STATUS_ALLOC_FAILED", POOL_CRASH_OUT_OF_VRAM },
    { "HIP out of memory", POOL_CRASH_OUT_OF_VRAM },
    { "failed to allocate CUDA", POOL_CRASH_OUT_OF_VRAM },
    { "unable to allocate CUDA", POOL_CRASH_OUT_OF_VRAM },
    { "No available memory for the cache blocks", POOL_CRASH_OUT_OF_VRAM },
    { "is less than desired GPU memory utilization", POOL_CRASH_OUT_OF_VRAM },
    { "no CUDA-capable device is detected", POOL_CRASH_GPU_UNUSABLE },
    { "CUDA driver version is insufficient", POOL_CRASH_GPU_UNUSABLE },
    { "no kernel image is available for execution", POOL_CRASH_GPU_UNUSABLE },
    { "error while loading shared libraries", POOL_CRASH_LIBRARY_MISSING },
    { "Address already in use", POOL_CRASH_PORT_TAKEN },
    { "address already in use", POOL_CRASH_PORT_TAKEN },
};

/* The newest line that says something of this kind. */
static const char *find_saying(const struct pool_crash *crash, enum pool_crash_cause cause)
{
    for (size_t i = crash->n_log; i > 0; i--) {
        for (size_t k = 0; k < sizeof sayings / sizeof sayings[0]; k++) {
            if (sayings[k].cause == cause && strstr(crash->log[i - 1], sayings[k].words))
                return crash->log[i - 1];
        }
    }
    return NULL;
}

static void note_line(const char *line, struct verdict *verdict)
{
    string_list_printf(&verdict->evidence, "its log: %.300s", line);
}

/* ---- errors of its devices ---- */

/* The last one near enough to be why; a serious one before others. */
static const struct pool_device_fault *find_fault(const struct pool_crash *crash, bool is_serious)
{
    const struct pool_device_fault *found = NULL;
    for (size_t i = 0; i < crash->n_faults; i++) {
        int64_t before_ms = crash->died_wall_ms - crash->faults[i].at_wall_ms;
        if (crash->faults[i].is_serious == is_serious && before_ms <= POOL_CRASH_CAUSE_BEFORE_MS &&
            before_ms >= -POOL_CRASH_CAUSE_AFTER_MS)
            found = &crash->faults[i];
    }
    return found;
}

static void say_when(int64_t before_ms, char text[48])
{
    int64_t distance_ms = before_ms < 0 ? -before_ms : before_ms;
    const char *side = before_ms < 0 ? "after" : "before";
    if (distance_ms < 1000)
        snprintf(text, 48, "%" PRId64 " ms %s", distance_ms, side);
    else
        snprintf(text, 48, "%" PRId64 " s %s", distance_ms / 1000, side);
}

static bool say_fault(const struct pool_crash *crash, bool is_serious, struct verdict *verdict)
{
    const struct pool_device_fault *fault = find_fault(crash, is_serious);
    char when[48], at[RFC3339_MAX];
    if (!fault)
        return false;
    say_when(crash->died_wall_ms - fault->at_wall_ms, when);
    clock_format_rfc3339(fault->at_wall_ms, at);
    say_end(crash, &verdict->why);
    strbuf_printf(&verdict->why, "; %s reported %s %s its end was seen", fault->gpu_uuid, fault->text, when);
    string_list_printf(&verdict->evidence, "%s, %s: %s", at, fault->gpu_uuid, fault->text);
    note_end(crash, verdict);
    return true;
}

/* ---- the rules; each says its sentence, behind "the worker", and is true when it applies ---- */

static bool host_restarted(const struct pool_crash *crash, struct verdict *verdict)
{
    if (!crash->ended_with || strcmp(crash->ended_with, "boot") != 0)
        return false;
    strbuf_add_text(&verdict->why, "ended with the host: that was started anew since");
    string_list_printf(&verdict->evidence, "it was started in boot %s", crash->process.boot_id);
    return true;
}

static bool container_ended(const struct pool_crash *crash, struct verdict *verdict)
{
    if (!crash->ended_with || strcmp(crash->ended_with, "pid_namespace") != 0)
        return false;
    strbuf_add_text(&verdict->why, "ran in another pid namespace (a container), and nothing of it is left");
    string_list_printf(&verdict->evidence, "its pid namespace was %" PRIu64, crash->process.pid_namespace);
    return true;
}

static bool not_started(const struct pool_crash *crash, struct verdict *verdict)
{
    const char *code = crash->start_error_code;
    if (!code || crash->process.pid != 0 ||
        (strcmp(code, "BACKEND_UNAVAILABLE") != 0 && strcmp(code, "WORKER_START_FAILED") != 0))
        return false;
    strbuf_printf(&verdict->why, "was not started: its program could not be run: %s",
                  crash->start_error ? crash->start_error : "");
    string_list_printf(&verdict->evidence, "%s: %s", code, crash->start_error ? crash->start_error : "");
    return true;
}

static bool start_refused(const struct pool_crash *crash, struct verdict *verdict)
{
    if (!crash->start_error_code)
        return false;
    strbuf_printf(&verdict->why, "was not started: %s", crash->start_error ? crash->start_error : "");
    string_list_printf(&verdict->evidence, "%s: %s", crash->start_error_code,
                       crash->start_error ? crash->start_error : "");
    return true;
}

static bool is_oom_killed(const struct pool_crash *crash)
{
    return crash->memory.n_oom_kills.is_present && crash->memory.n_oom_kills.value > 0;
}

static bool out_of_group_memory(const struct pool_crash *crash, struct verdict *verdict)
{
    char human[HUMAN_BYTES_MAX];
    if (!is_oom_killed(crash) || crash->memory.n_ooms.value == 0)
        return false;
    int64_t n = crash->memory.n_oom_kills.value;
    say_end(crash, &verdict->why);
    strbuf_printf(&verdict->why, "; its cgroup ran out of host memory");
    if (crash->memory.limit_bytes.is_present) {
        format_bytes(crash->memory.limit_bytes.value, human);
        strbuf_printf(&verdict->why, " at its limit of %s", human);
    }
    strbuf_printf(&verdict->why, ", and the kernel killed %" PRId64 " %s of it", n,
                  n == 1 ? "process" : "processes");
    note_memory(crash, verdict);
    note_end(crash, verdict);
    return true;
}

static bool out_of_memory(const struct pool_crash *crash, struct verdict *verdict)
{
    if (!is_oom_killed(crash))
        return false;
    int64_t n = crash->memory.n_oom_kills.value;
    say_end(crash, &verdict->why);
    strbuf_printf(&verdict->why,
                  "; the kernel killed %" PRId64
                  " %s of it for want of host memory, at a limit above its own "
                  "cgroup's or the host's",
                  n, n == 1 ? "process" : "processes");
    note_memory(crash, verdict);
    note_end(crash, verdict);
    return true;
}

static bool start_timeout(const struct pool_crash *crash, struct verdict *verdict)
{
    const struct pool_crash_progress *seen = &crash->progress;
    char human[HUMAN_BYTES_MAX];
    if (crash->stop_reason != POOL_STOP_START_TIMEOUT)
        return false;
    strbuf_printf(&verdict->why,
                  "was not ready and made no progress for %" PRId64 " ms, so its start was given up",
                  crash->start_timeout_ms);
    if (!seen->elapsed_ms.is_present) {
        strbuf_add_text(&verdict->why, "; how far it was is not known");
        return true;
    }
    if (seen->is_port_foreign)
        strbuf_add_text(&verdict->why, ": somebody else answers on its port");
    else if (seen->last_status_code.is_present)
        strbuf_printf(&verdict->why, ": its readiness path answered %" PRId64, seen->last_status_code.value);
    else
        strbuf_add_text(&verdict->why, seen->is_listening ? ": it listened on its port and did not answer"
                                                          : ": it did not listen on its port");
    format_bytes(seen->read_bytes, human);
    string_list_printf(&verdict->evidence, "after %" PRId64 " ms it had read %s", seen->elapsed_ms.value,
                       human);
    format_bytes(seen->resident_bytes, human);
    string_list_printf(&verdict->evidence, "it had %s of host memory and a log of %" PRId64 " bytes", human,
                       seen->log_bytes);
    const char *line = find_saying(crash, POOL_CRASH_OUT_OF_VRAM);
    if (line)
        note_line(line, verdict);
    return true;
}

static bool unhealthy(const struct pool_crash *crash, struct verdict *verdict)
{
    if (crash->stop_reason != POOL_STOP_UNHEALTHY)
        return false;
    strbuf_printf(&verdict->why, "was stopped because it was not healthy: %s",
                  crash->health_reason ? crash->health_reason : "why is not known");
    note_end(crash, verdict);
    return true;
}

static bool serious_fault(const struct pool_crash *crash, struct verdict *verdict)
{
    return say_fault(crash, true, verdict);
}

static bool gpu_lost(const struct pool_crash *crash, struct verdict *verdict)
{
    if (crash->stop_reason != POOL_STOP_GPU_LOST)
        return false;
    say_end(crash, &verdict->why);
    strbuf_add_text(&verdict->why, " soon after a serious error of its GPU");
    note_end(crash, verdict);
    return true;
}

static bool other_fault(const struct pool_crash *crash, struct verdict *verdict)
{
    return say_fault(crash, false, verdict);
}

static bool say_line(const struct pool_crash *crash, enum pool_crash_cause cause, const char *meaning,
                     struct verdict *verdict)
{
    const char *line = find_saying(crash, cause);
    if (!line)
        return false;
    say_end(crash, &verdict->why);
    strbuf_printf(&verdict->why, "; %s", meaning);
    note_line(line, verdict);
    note_end(crash, verdict);
    return true;
}

static bool out_of_vram(const struct pool_crash *crash, struct verdict *verdict)
{
    return say_line(crash, POOL_CRASH_OUT_OF_VRAM, "its last lines say that it got no more memory of its GPU",
                    verdict);
}

static bool port_taken(const struct pool_crash *crash, struct verdict *verdict)
{
    char meaning[96];
    snprintf(meaning, sizeof meaning, "its last lines say that its port %" PRId64 " was taken", crash->port);
    if (!crash->is_port_taken.is_present || crash->is_port_taken.value == 0)
        return crash->ready_wall_ms == 0 && say_line(crash, POOL_CRASH_PORT_TAKEN, meaning, verdict);
    say_end(crash, &verdict->why);
    strbuf_printf(&verdict->why, "; another process listened on its port %" PRId64, crash->port);
    string_list_printf(&verdict->evidence, "a listener of port %" PRId64 " when no process of it was left",
                       crash->port);
    note_end(crash, verdict);
    return true;
}

static bool library_missing(const struct pool_crash *crash, struct verdict *verdict)
{
    return say_line(crash, POOL_CRASH_LIBRARY_MISSING,
                    "its last lines say that a shared library could not be loaded", verdict);
}

static bool gpu_unusable(const struct pool_crash *crash, struct verdict *verdict)
{
    return say_line(crash, POOL_CRASH_GPU_UNUSABLE, "its last lines say that it can not use the GPU",
                    verdict);
}

static bool illegal_instruction(const struct pool_crash *crash, struct verdict *verdict)
{
    if (!is_by_signal(crash, SIGILL))
        return false;
    strbuf_add_text(
        &verdict->why,
        "was ended by SIGILL: an illegal instruction, as of a program built for another processor");
    note_end(crash, verdict);
    return true;
}

static bool killed(const struct pool_crash *crash, struct verdict *verdict)
{
    if (!is_by_signal(crash, SIGKILL) || crash->is_ended_by_us || crash->stop_reason == POOL_STOP_LOST)
        return false;
    strbuf_add_text(&verdict->why, "was killed by a SIGKILL that the pool did not send");
    if (crash->memory.n_oom_kills.is_present)
        string_list_add(&verdict->evidence, "the kernel did not kill it for want of memory (oom_kill 0)");
    else
        string_list_add(&verdict->evidence,
                        "whether the kernel did, for want of memory, is not counted for it here");
    note_end(crash, verdict);
    return true;
}

static bool by_signal(const struct pool_crash *crash, struct verdict *verdict)
{
    if (!crash->exit_signal.is_present || crash->stop_reason == POOL_STOP_LOST)
        return false;
    say_end(crash, &verdict->why);
    if (crash->is_ended_by_us)
        strbuf_add_text(&verdict->why, ", which the pool sent");
    note_end(crash, verdict);
    return true;
}

static bool by_exit_code(const struct pool_crash *crash, struct verdict *verdict)
{
    if (!crash->exit_code.is_present)
        return false;
    say_end(crash, &verdict->why);
    /* POSIX, XCU 2.8.2: what a shell makes of a command that a signal has ended. */
    if (crash->exit_code.value > 128 && crash->exit_code.value < 128 + 65) {
        char name[32];
        name_signal(crash->exit_code.value - 128, name);
        strbuf_printf(&verdict->why, ", which is what a shell gives for %s", name);
    }
    strbuf_add_text(&verdict->why, crash->ready_wall_ms == 0 ? " before it was ready" : "");
    note_end(crash, verdict);
    return true;
}

static bool lost(const struct pool_crash *crash, struct verdict *verdict)
{
    if (crash->stop_reason != POOL_STOP_LOST)
        return false;
    if (crash->exit_signal.is_present) {
        say_end(crash, &verdict->why);
        strbuf_add_text(&verdict->why, " while nobody watched, and who sent that is not known");
        note_end(crash, verdict);
    } else
        strbuf_add_text(&verdict->why, "was gone when somebody looked; nobody watched it end");
    return true;
}

static bool unknown(const struct pool_crash *crash, struct verdict *verdict)
{
    say_end(crash, &verdict->why);
    return true;
}

static const struct {
    enum pool_crash_cause cause;
    bool (*applies)(const struct pool_crash *crash, struct verdict *verdict);
} rules[] = {
    { POOL_CRASH_HOST_RESTARTED, host_restarted },
    { POOL_CRASH_CONTAINER_ENDED, container_ended },
    { POOL_CRASH_NOT_STARTED, not_started },
    { POOL_CRASH_START_REFUSED, start_refused },
    { POOL_CRASH_OUT_OF_GROUP_MEMORY, out_of_group_memory },
    { POOL_CRASH_OUT_OF_MEMORY, out_of_memory },
    { POOL_CRASH_START_TIMEOUT, start_timeout },
    { POOL_CRASH_UNHEALTHY, unhealthy },
    { POOL_CRASH_GPU_FAULT, serious_fault },
    { POOL_CRASH_GPU_FAULT, gpu_lost },
    { POOL_CRASH_PORT_TAKEN, port_taken },
    { POOL_CRASH_LIBRARY_MISSING, library_missing },
    { POOL_CRASH_OUT_OF_VRAM, out_of_vram },
    { POOL_CRASH_GPU_UNUSABLE, gpu_unusable },
    { POOL_CRASH_GPU_FAULT, other_fault },
    { POOL_CRASH_ILLEGAL_INSTRUCTION, illegal_instruction },
    { POOL_CRASH_KILLED, killed },
    { POOL_CRASH_SIGNAL, by_signal },
    { POOL_CRASH_EXIT_CODE, by_exit_code },
    { POOL_CRASH_LOST, lost },
    { POOL_CRASH_UNKNOWN, unknown },
};

static void clear_evidence(struct pool_crash *crash)
{
    for (size_t i = 0; i < crash->n_evidence; i++)
        free(crash->evidence[i]);
    free(crash->evidence);
    crash->evidence = NULL;
    crash->n_evidence = 0;
}

bool crash_reason(struct pool_crash *crash)
{
    struct verdict verdict = { .why = STRBUF_INIT(SENTENCE_MAX_BYTES) };
    size_t rule = 0;
    strbuf_add_text(&verdict.why, "the worker ");
    while (!rules[rule].applies(crash, &verdict)) /* the last one always does */
        rule++;
    size_t n = verdict.evidence.n;
    char *why = strbuf_take(&verdict.why);
    char **evidence = string_list_take(&verdict.evidence);
    bool is_good = why && evidence;
    if (is_good) {
        crash->cause = rules[rule].cause;
        free(crash->why);
        crash->why = why;
        clear_evidence(crash);
        crash->evidence = evidence;
        crash->n_evidence = n;
    } else {
        free(why);
        string_array_free(evidence);
    }
    strbuf_done(&verdict.why);
    string_list_done(&verdict.evidence);
    return is_good;
}
