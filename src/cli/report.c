/*
 * Errors, notices and the lines of `show` commands.
 */
#include "cli/report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <pool/api.h>

#include "base/cleanup.h"
#include "base/number.h"

#define FIELD_NAME_WIDTH 13
#define FIELD_MAX_BYTES  65536

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text);
    size_t n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

static void print_detail(const struct cli *cli, const struct pool_detail *detail)
{
    fprintf(cli->err, "  %s = ", detail->name);
    char human[HUMAN_BYTES_MAX];
    switch (detail->kind) {
    case POOL_DETAIL_NUMBER:
        fprintf(cli->err, "%" PRId64, detail->number);
        if (ends_with(detail->name, "_bytes")) {
            format_bytes(detail->number, human);
            fprintf(cli->err, " (%s)", human);
        }
        break;
    case POOL_DETAIL_TEXT: terminal_print(&cli->terminal, cli->err, detail->text); break;
    case POOL_DETAIL_BOOL: fputs(detail->number ? "true" : "false", cli->err); break;
    }
    fputc('\n', cli->err);
}

static void print_log_tail(const struct cli *cli, const char *tail)
{
    fputs("last lines of its log:\n", cli->err);
    while (*tail) {
        size_t n = strcspn(tail, "\n");
        fputs("  | ", cli->err);
        terminal_print_lines(&cli->terminal, cli->err, tail, n);
        fputc('\n', cli->err);
        tail += n + (tail[n] == '\n');
    }
}

/* A start that failed has left a bundle. */
static void print_next_step(const struct cli *cli, const struct pool_error *error)
{
    const struct pool_detail *worker_id = pool_error_detail(error, "worker_id");
    bool has_bundle = error->code == POOL_WORKER_START_FAILED || error->code == POOL_WORKER_START_TIMEOUT;
    if (!has_bundle || !worker_id || worker_id->kind != POOL_DETAIL_TEXT)
        return;
    fputs("all that is known of it: " CLI_PROGRAM_NAME " worker why ", cli->err);
    terminal_print(&cli->terminal, cli->err, worker_id->text);
    fputc('\n', cli->err);
}

int report_error(const struct cli *cli, const struct pool_error *error)
{
    int status = pool_code_exit_status(error->code);
    CLEANUP_FREE char *json = NULL;
    if (cli->is_reported)
        return status;
    if (cli->globals.is_json && pool_error_encode(error, cli->correlation_id, &json, NULL) == POOL_OK) {
        print_json(cli, &json);
        return status;
    }
    fprintf(cli->err, CLI_PROGRAM_NAME ": %s: ", pool_code_name(error->code));
    terminal_print(&cli->terminal, cli->err, error->message);
    fputc('\n', cli->err);
    for (size_t i = 0; cli->globals.is_verbose && i < error->n_details && i < POOL_ERROR_DETAILS_MAX; i++)
        print_detail(cli, &error->details[i]);
    if (cli->globals.is_verbose && cli->correlation_id[0])
        fprintf(cli->err, "  correlation_id = %s\n", cli->correlation_id);
    if (error->log_tail[0])
        print_log_tail(cli, error->log_tail);
    print_next_step(cli, error);
    return status;
}

void report_notice(const struct cli *cli, const char *text)
{
    if (!*text)
        return;
    fputs(CLI_PROGRAM_NAME ": ", cli->err);
    terminal_print(&cli->terminal, cli->err, text);
    fputc('\n', cli->err);
}

void print_json(const struct cli *cli, char **json)
{
    fputs(*json, cli->out);
    fputc('\n', cli->out);
    free(take_ptr(json));
}

void print_field(const struct cli *cli, const char *name, const char *value)
{
    if (!value)
        return;
    fprintf(cli->out, "%s%s:%s%*s", terminal_style_on(&cli->terminal, STYLE_HEAD), name,
            terminal_style_off(&cli->terminal, STYLE_HEAD), FIELD_NAME_WIDTH - (int)strlen(name), "");
    terminal_print(&cli->terminal, cli->out, value);
    fputc('\n', cli->out);
}

void print_field_format(const struct cli *cli, const char *name, const char *format, ...)
{
    CLEANUP(strbuf_done) struct strbuf value = STRBUF_INIT(FIELD_MAX_BYTES);
    va_list args;
    va_start(args, format);
    strbuf_vprintf(&value, format, args);
    va_end(args);
    print_field(cli, name, strbuf_text(&value));
}

void print_field_bytes(const struct cli *cli, const char *name, int64_t bytes)
{
    char human[HUMAN_BYTES_MAX];
    format_bytes(bytes, human);
    print_field(cli, name, human);
}
