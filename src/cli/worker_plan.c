/*
 * A plan as text and as JSON. The JSON has the worker as the API shows it, and the arithmetic beside it.
 */
#include "cli/worker_plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/json_document.h"
#include "cli/memory_need_text.h"
#include "cli/report.h"

static json_t *list_of(char *const *texts, bool are_names_only)
{
    json_t *list = json_array();
    for (char *const *text = texts; list && *text; text++) {
        size_t n = are_names_only ? strcspn(*text, "=") : strlen(*text);
        if (json_array_append_new(list, json_of_bytes(*text, n)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *ledger_of(const struct pool_ledger *ledger)
{
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "device", ledger->device,
        "total_bytes", (json_int_t)ledger->total_bytes, "used_bytes", (json_int_t)ledger->used_bytes,
        "free_bytes", (json_int_t)ledger->free_bytes, "pending_bytes", (json_int_t)ledger->pending_bytes,
        "releasing_bytes", (json_int_t)ledger->releasing_bytes, "headroom_bytes",
        (json_int_t)ledger->headroom_bytes, "available_bytes", (json_int_t)ledger->available_bytes,
        "allocated_bytes", (json_int_t)ledger->allocated_bytes, "foreign_bytes",
        (json_int_t)ledger->foreign_bytes, "n_workers", (json_int_t)ledger->n_workers, "elsewhere_bytes",
        (json_int_t)ledger->elsewhere_bytes);
}

static json_t *room_of(const struct pool_start_room *room)
{
    char *text = NULL;
    if (!room->wait_reason[0])
        return json_null();
    return pool_start_room_encode(room, &text, NULL) == POOL_OK ? json_of_encoded(&text) : NULL;
}

static enum pool_code print_plan_json(const struct cli *cli, const struct pool_plan *plan,
                                      struct pool_error *err)
{
    char *worker = NULL;
    enum pool_code code = pool_worker_info_encode(plan->worker, &worker, err);
    if (code != POOL_OK)
        return code;
    /* json_pack takes over what "o" is given, and fails as a whole when one of them is NULL */
    CLEANUP_JSON json_t *document =
        json_pack("{s:b, s:o, s:o, s:o, s:I, s:s, s:s, s:o, s:o, s:o, s:o}", "dry_run", 1, "worker",
                  json_of_encoded(&worker), "command", list_of(plan->argv, false), "environment_names",
                  list_of(plan->environment, true), "reserved_bytes", (json_int_t)plan->reserved_bytes,
                  "reserved_source", plan->reserved_source, "placement", plan->placement, "estimate",
                  json_of_estimate(&plan->need.estimate), "need", json_of_memory_need(&plan->need), "ledger",
                  ledger_of(&plan->ledger), "room", room_of(&plan->room));
    return print_document(cli, document, err);
}

static void print_arithmetic(const struct cli *cli, const struct pool_plan *plan)
{
    const struct pool_ledger *ledger = &plan->ledger;
    print_memory_need(cli, &plan->need);
    print_field_bytes(cli, "available", ledger->available_bytes);
    print_part(cli, "free", ledger->free_bytes);
    print_part(cli, "- promised", ledger->pending_bytes);
    if (ledger->elsewhere_bytes > 0)
        print_part(cli, "- elsewhere", ledger->elsewhere_bytes);
    print_part(cli, "- headroom", ledger->headroom_bytes);
}

/* Who would be stopped, and what that makes of the arithmetic. */
static void print_room(const struct cli *cli, const struct pool_start_room *room)
{
    if (!room->wait_reason[0])
        return;
    for (size_t i = 0; i < room->n_displaces; i++) {
        const struct pool_displacement *displaced = &room->displaces[i];
        char bytes[HUMAN_BYTES_MAX], idle[DURATION_TEXT_MAX];
        format_bytes(displaced->gives_back_bytes, bytes);
        format_duration(displaced->idle_ms.value, idle);
        if (displaced->idle_ms.is_present)
            print_field_format(cli, "would stop", "%s (%s, idle %s)", displaced->worker_id, bytes, idle);
        else
            print_field_format(cli, "would stop", "%s (%s, %s)", displaced->worker_id, bytes,
                               pool_worker_status_name(displaced->status));
    }
    print_field(cli, "would wait for", room->wait_reason);
    print_field_bytes(cli, "then available", room->ledger_after.available_bytes);
    print_part(cli, "free", room->ledger_after.free_bytes);
    print_part(cli, "- promised", room->ledger_after.pending_bytes);
    print_part(cli, "- headroom", room->ledger_after.headroom_bytes);
}

static void print_command_line(const struct cli *cli, const struct pool_plan *plan)
{
    fputs("command:\n", cli->out);
    for (char **argument = plan->argv; *argument; argument++) {
        fputs(argument == plan->argv ? "  " : "    ", cli->out);
        terminal_print(&cli->terminal, cli->out, *argument);
        fputc('\n', cli->out);
    }
}

enum pool_code print_plan(const struct cli *cli, const struct pool_plan *plan, struct pool_error *err)
{
    if (cli->globals.is_json)
        return print_plan_json(cli, plan, err);
    print_field(cli, "id", plan->worker_id);
    print_field_format(cli, "port", "%" PRId64, plan->port);
    if (plan->gpu_uuid)
        print_field_format(cli, "gpu", "%" PRId64 " (%s)", plan->gpu_id, plan->gpu_uuid);
    else
        print_field(cli, "device", "host memory");
    print_field(cli, "because", plan->placement[0] ? plan->placement : NULL);
    print_field(cli, "shares", plan->worker->shares);
    print_field(cli, "model", plan->worker->model_path);
    print_arithmetic(cli, plan);
    print_room(cli, &plan->room);
    print_command_line(cli, plan);
    fputs("Nothing was started.\n", cli->out);
    return POOL_OK;
}
