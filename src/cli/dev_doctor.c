/*
 * rbees-pool dev doctor. The checks are in doctor_*.c.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "cli/commands.h"
#include "cli/doctor.h"
#include "cli/json_document.h"
#include "cli/table.h"

#define TEXT_MAX 4096

static doctor_check *const checks[] = {
    doctor_check_config,    doctor_check_state,   doctor_check_daemon,  doctor_check_driver,
    doctor_check_gpu_locks, doctor_check_engines, doctor_check_tools,   doctor_check_disk,
    doctor_check_ports,     doctor_check_limits,  doctor_check_cgroups, doctor_check_clock,
};

/* ---- findings ---- */

__attribute__((format(printf, 3, 0))) static void add(struct doctor *doctor, const struct finding *finding,
                                                      const char *format, va_list args)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(TEXT_MAX);
    strbuf_vprintf(&text, format, args);
    struct finding *longer = reallocarray(doctor->findings, doctor->n_findings + 1, sizeof *longer);
    if (!longer) {
        doctor->texts.has_failed = true;
        return;
    }
    doctor->findings = longer;
    if (string_list_add(&doctor->texts, strbuf_text(&text)))
        doctor->findings[doctor->n_findings++] = *finding;
}

void doctor_good(struct doctor *doctor, const char *check, const char *format, ...)
{
    struct finding finding = { .level = FINDING_GOOD, .check = check };
    va_list args;
    va_start(args, format);
    add(doctor, &finding, format, args);
    va_end(args);
}

void doctor_note(struct doctor *doctor, const char *check, const char *fix, const char *format, ...)
{
    struct finding finding = { .level = FINDING_NOTE, .check = check, .fix = fix };
    va_list args;
    va_start(args, format);
    add(doctor, &finding, format, args);
    va_end(args);
}

void doctor_warn(struct doctor *doctor, const char *check, const char *fix, const char *format, ...)
{
    struct finding finding = { .level = FINDING_WARNING, .check = check, .fix = fix };
    va_list args;
    va_start(args, format);
    add(doctor, &finding, format, args);
    va_end(args);
}

void doctor_fail(struct doctor *doctor, const char *check, enum pool_code code, const char *fix,
                 const char *format, ...)
{
    struct finding finding = { .level = FINDING_FAILED, .code = code, .check = check, .fix = fix };
    va_list args;
    va_start(args, format);
    add(doctor, &finding, format, args);
    va_end(args);
}

static void doctor_done(struct doctor *doctor)
{
    free(doctor->findings);
    string_list_done(&doctor->texts);
}

/* ---- output ---- */

static const char *level_name(enum finding_level level)
{
    static const char *const names[] = {
#define LEVEL(name, text) [FINDING_##name] = text,
        FINDING_LEVELS(LEVEL)
#undef LEVEL
    };
    return names[level];
}

static void print_findings(const struct doctor *doctor)
{
    static const enum terminal_style styles[] = { [FINDING_GOOD] = STYLE_GOOD,
                                                  [FINDING_NOTE] = STYLE_DIM,
                                                  [FINDING_WARNING] = STYLE_WARN,
                                                  [FINDING_FAILED] = STYLE_BAD };
    const struct cli *cli = doctor->cli;
    for (size_t i = 0; i < doctor->n_findings; i++) {
        const struct finding *finding = &doctor->findings[i];
        fprintf(cli->out, "%s%-7s%s  %-11s  ", terminal_style_on(&cli->terminal, styles[finding->level]),
                level_name(finding->level), terminal_style_off(&cli->terminal, styles[finding->level]),
                finding->check);
        terminal_print(&cli->terminal, cli->out, doctor->texts.at[i]);
        fputc('\n', cli->out);
        if (finding->fix && finding->level != FINDING_GOOD)
            fprintf(cli->out, "%22s%s\n", "", finding->fix);
    }
}

static size_t count(const struct doctor *doctor, enum finding_level level)
{
    size_t n = 0;
    for (size_t i = 0; i < doctor->n_findings; i++)
        n += doctor->findings[i].level == level;
    return n;
}

static enum pool_code print_document_of(const struct doctor *doctor, struct pool_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < doctor->n_findings; i++) {
        const struct finding *finding = &doctor->findings[i];
        json_t *object = json_pack("{s:s, s:s, s:o, s:s?}", "check", finding->check, "level",
                                   level_name(finding->level), "message", json_of_text(doctor->texts.at[i]),
                                   "fix", finding->level == FINDING_GOOD ? NULL : finding->fix);
        if (json_array_append_new(list, object) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    CLEANUP_JSON json_t *document =
        json_pack("{s:I, s:I, s:o}", "n_failed", (json_int_t)count(doctor, FINDING_FAILED), "n_warnings",
                  (json_int_t)count(doctor, FINDING_WARNING), "findings", list);
    return print_document(doctor->cli, document, err);
}

/* The exit status is that of the first thing that does not work. */
static enum pool_code conclude(const struct doctor *doctor, struct pool_error *err)
{
    size_t n_failed = count(doctor, FINDING_FAILED);
    for (size_t i = 0; i < doctor->n_findings; i++) {
        if (doctor->findings[i].level == FINDING_FAILED)
            return pool_error_set(err, doctor->findings[i].code, "%zu check%s failed", n_failed,
                                  n_failed == 1 ? "" : "s");
    }
    return POOL_OK;
}

static enum pool_code run_doctor(struct cli *cli, const void *data, struct pool_error *err)
{
    (void)data;
    CLEANUP(doctor_done) struct doctor doctor = { .cli = cli };
    for (size_t i = 0; i < CLI_COUNT(checks); i++)
        checks[i](&doctor);
    if (doctor.texts.has_failed)
        return pool_error_no_memory(err);
    if (!cli->globals.is_json) {
        print_findings(&doctor);
        return conclude(&doctor, err);
    }
    enum pool_code code = print_document_of(&doctor, err);
    cli->is_reported = code == POOL_OK;
    return code == POOL_OK ? conclude(&doctor, err) : code;
}

static const char *const examples[] = { "rbees-pool dev doctor", "rbees-pool dev doctor --json" };

const struct cli_command dev_doctor_command = {
    .path = "dev doctor",
    .summary = "Look for what would keep the pool from working",
    .description =
        "Looks at the configuration, the state directory, the daemon, the driver and the GPUs, the engines "
        "and "
        "their versions, git and hf, disks, ports, limits, cgroups and the clock, and says of each finding "
        "how to "
        "mend it. It changes nothing; a driver or an engine that hangs is left behind after ten seconds.\n\n"
        "'failed' is what does not work, and the exit status is then that of the first such thing; a "
        "'warning' "
        "works but not always, or not well; a 'note' is what can not be done here.",
    CLI_EXAMPLES(examples),
    .run = run_doctor,
};
