/*
 * Crash bundles for people: the sentence first, then the facts, the log last, where the eye is.
 */
#include "cli/crash_text.h"

#include <inttypes.h>
#include <string.h>

#include <pool/lifecycle.h>

#include "base/clock.h"
#include "base/number.h"
#include "cli/report.h"

/* What a screen takes; --json has all of them. */
#define SAMPLES_SHOWN 24

static void print_time(const struct cli *cli, const char *name, int64_t wall_ms)
{
    char text[RFC3339_MAX];
    if (wall_ms == 0)
        return;
    clock_format_rfc3339(wall_ms, text);
    print_field(cli, name, text);
}

static void print_optional_bytes(const struct cli *cli, const char *name, struct pool_reading bytes)
{
    if (bytes.is_present)
        print_field_bytes(cli, name, bytes.value);
}

/* A line of its own below a field. */
static void print_line(const struct cli *cli, const char *text)
{
    fputs("  ", cli->out);
    terminal_print(&cli->terminal, cli->out, text);
    fputc('\n', cli->out);
}

static void print_head(const struct cli *cli, const char *name)
{
    fprintf(cli->out, "%s%s:%s\n", terminal_style_on(&cli->terminal, STYLE_HEAD), name,
            terminal_style_off(&cli->terminal, STYLE_HEAD));
}

static void print_texts(const struct cli *cli, const char *name, size_t n, char *const *texts)
{
    if (n == 0)
        return;
    print_head(cli, name);
    for (size_t i = 0; i < n; i++)
        print_line(cli, texts[i]);
}

/* ---- parts of a bundle ---- */

static void print_end(const struct cli *cli, const struct pool_crash *crash)
{
    print_field(cli, "cause", pool_crash_cause_name(crash->cause));
    print_texts(cli, "evidence", crash->n_evidence, crash->evidence);
    print_field(cli, "stop reason", pool_stop_reason_name(crash->stop_reason));
    if (crash->exit_code.is_present)
        print_field_format(cli, "exit code", "%" PRId64, crash->exit_code.value);
    if (crash->exit_signal.is_present) {
        const char *name = sigabbrev_np((int)crash->exit_signal.value);
        print_field_format(cli, "signal", "%" PRId64 "%s%s%s", crash->exit_signal.value, name ? " (SIG" : "",
                           name ? name : "", name ? ")" : "");
    }
    print_time(cli, "created", crash->created_wall_ms);
    print_time(cli, "ready", crash->ready_wall_ms);
    print_time(cli, "end seen", crash->died_wall_ms);
}

static void print_what(const struct cli *cli, const struct pool_crash *crash)
{
    print_field(cli, "backend", crash->backend);
    print_field(cli, "model", crash->model_ref);
    print_field(cli, "engine", crash->engine_version);
    if (crash->process.pid > 0)
        print_field_format(cli, "pid", "%" PRId64 ", boot %s", crash->process.pid, crash->process.boot_id);
    for (size_t i = 0; i < crash->n_devices; i++) {
        char human[HUMAN_BYTES_MAX];
        format_bytes(crash->devices[i].reserved_bytes, human);
        print_field_format(cli, "device", "%s, %s reserved", crash->devices[i].gpu_uuid, human);
    }
    print_optional_bytes(cli, "observed", crash->observed_bytes);
    print_optional_bytes(cli, "peak", crash->peak_bytes);
    if (crash->memory.is_counted) {
        print_optional_bytes(cli, "memory peak", crash->memory.peak_bytes);
        print_optional_bytes(cli, "memory max", crash->memory.limit_bytes);
        if (crash->memory.n_oom_kills.is_present)
            print_field_format(cli, "oom kills", "%" PRId64, crash->memory.n_oom_kills.value);
    } else
        print_field(cli, "cgroup", "none of its own whose memory is counted");
    print_field(cli, "start", crash->start_explain_id);
    print_field(cli, "end", crash->explain_id);
}

static void print_faults(const struct cli *cli, const struct pool_crash *crash)
{
    if (crash->n_faults > 0)
        print_head(cli, "device errors near its end");
    for (size_t i = 0; i < crash->n_faults; i++) {
        const struct pool_device_fault *fault = &crash->faults[i];
        char at[RFC3339_MAX];
        clock_format_rfc3339(fault->at_wall_ms, at);
        fprintf(cli->out, "  %s  ", at);
        terminal_print(&cli->terminal, cli->out, fault->gpu_uuid);
        fputs("  ", cli->out);
        terminal_print(&cli->terminal, cli->out, fault->text);
        fputc('\n', cli->out);
    }
}

static void format_reading(struct pool_reading bytes, char text[HUMAN_BYTES_MAX])
{
    snprintf(text, HUMAN_BYTES_MAX, "?");
    if (bytes.is_present)
        format_bytes(bytes.value, text);
}

static void print_sample(const struct cli *cli, const struct pool_crash *crash,
                         const struct pool_vram_sample *sample)
{
    char observed[HUMAN_BYTES_MAX], free_text[HUMAN_BYTES_MAX];
    int64_t before_ms = crash->died_wall_ms - sample->at_wall_ms;
    format_reading(sample->observed_bytes, observed);
    format_reading(sample->free_bytes, free_text);
    fprintf(cli->out, "  %10.1f s  %12s held  %12s free", (double)-before_ms / 1000.0, observed, free_text);
    if (crash->n_devices > 1) {
        fputs("  ", cli->out);
        terminal_print(&cli->terminal, cli->out, sample->gpu_uuid);
    }
    fputc('\n', cli->out);
}

static void print_samples(const struct cli *cli, const struct pool_crash *crash)
{
    size_t n_left_out = crash->n_samples > SAMPLES_SHOWN ? crash->n_samples - SAMPLES_SHOWN : 0;
    if (crash->n_samples == 0)
        return;
    print_head(cli, "memory of its device, by time before its end");
    for (size_t i = 0; i < crash->n_samples; i++) {
        bool is_left_out = i >= SAMPLES_SHOWN / 2 && i < SAMPLES_SHOWN / 2 + n_left_out;
        if (!is_left_out)
            print_sample(cli, crash, &crash->samples[i]);
        else if (i == SAMPLES_SHOWN / 2)
            fprintf(cli->out, "  %s %zu more, all in --json\n", terminal_ellipsis(&cli->terminal),
                    n_left_out);
    }
}

static void print_crash(const struct cli *cli, const struct pool_crash *crash)
{
    print_end(cli, crash);
    print_what(cli, crash);
    print_faults(cli, crash);
    print_samples(cli, crash);
    if (crash->is_command_known) {
        print_texts(cli, "command", crash->command.n_argv, crash->command.argv);
        print_texts(cli, "environment", crash->command.n_environment, crash->command.environment);
    } else
        print_field(cli, "command", "not known");
    print_texts(cli, crash->is_log_cut ? "last lines of its log" : "its log", crash->n_log, crash->log);
}

void print_why(const struct cli *cli, const struct pool_worker_why *why)
{
    print_field(cli, "id", why->worker_id);
    print_field(cli, "status", why->status ? why->status : "its record is gone");
    print_field(cli, "why", why->why);
    print_field(cli, "bundle", why->bundle_path);
    if (why->crash)
        print_crash(cli, why->crash);
}
