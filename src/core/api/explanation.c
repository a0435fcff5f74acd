/*
 * Explanations: their fields, their JSON, and the text that people read. Both are made from the same struct; why
 * something was decided is the lifecycle's.
 */
#include <inttypes.h>
#include <pool/api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/number.h"
#include "core/api/tables.h"

#define TEXT_MAX_BYTES ((size_t)1 << 20)

#define NAME_ROW(name, text) text,
static const char *const kind_names[] = { POOL_EXPLAIN_KINDS(NAME_ROW) };
static const char *const stop_reason_names[] = { POOL_STOP_REASONS(NAME_ROW) };
#undef NAME_ROW
#define NAMES(list) .names = (list), .n_names = sizeof(list) / sizeof(list)[0]

_Static_assert(sizeof(enum pool_explain_kind) == sizeof(unsigned), "an ENUM is read and written as unsigned");

#define AT(member) offsetof(struct pool_fact, member)
static const struct field fact_fields[] = {
    { "name", FIELD_TEXT, AT(name), FIELD_REQUIRED, .about = "what it is, with its unit" },
    { "number", FIELD_READING, AT(number), 0, .about = "its value when it is a number" },
    { "text", FIELD_TEXT, AT(text), 0, .about = "its value when it is not" },
};
#undef AT
FIELD_TABLE(fact_table, struct pool_fact, "Fact", false, fact_fields);

#define AT(member) offsetof(struct pool_explain_candidate, member)
static const struct field candidate_fields[] = {
    { "gpu_index", FIELD_INTEGER, AT(gpu_id), FIELD_NEGATIVE_IS_NULL,
      .about = "index of the device; null for the host's memory" },
    { "verdict", FIELD_CHARS, AT(verdict), 0,
      .about = "\"chosen\", \"fits\", \"too small\", or why it can not be used",
      .capacity = sizeof(((struct pool_explain_candidate *)0)->verdict) },
    { "chosen", FIELD_BOOL, AT(is_chosen), 0, .about = "the device that the decision was about" },
    { "left_bytes", FIELD_INTEGER, AT(left_bytes), 0,
      .about = "available - required; below 0: so much is missing" },
    { "ledger", FIELD_OBJECT, AT(ledger), FIELD_REQUIRED, .about = "its arithmetic at that moment",
      .table = &ledger_table },
};
#undef AT
FIELD_TABLE(explain_candidate_table, struct pool_explain_candidate, "ExplainCandidate", false,
            candidate_fields);

#define AT(member) offsetof(struct pool_explanation, member)
static const struct field explanation_fields[] = {
    { "record_id", FIELD_TEXT, AT(record_id), FIELD_REQUIRED, .about = "its own id" },
    { "kind", FIELD_ENUM, AT(kind), FIELD_REQUIRED, .about = "what it is about", NAMES(kind_names) },
    { "worker_id", FIELD_TEXT, AT(worker_id), 0, .about = "the worker; null: none was named" },
    { "correlation_id", FIELD_TEXT, AT(correlation_id), 0, .about = "of the request behind it" },
    { "made_at", FIELD_TIME, AT(made_wall_ms), 0, .about = "when it was decided" },
    { "code", FIELD_TEXT, AT(code), 0, .about = "the error's code, \"OK\" for what is no refusal" },
    { "retriable", FIELD_BOOL, AT(is_retriable), 0, .about = "trying again can help" },
    { "message", FIELD_TEXT, AT(message), 0, .about = "the reason in one sentence" },
    { "backend", FIELD_TEXT, AT(backend), 0, .about = "the engine that was asked for" },
    { "model_ref", FIELD_TEXT, AT(model_ref), 0, .about = "the model that was asked for" },
    { "gpu_asked", FIELD_TEXT, AT(asked_gpu), 0, .about = "the device as the request named it" },
    { "required_bytes", FIELD_READING, AT(required_bytes), 0,
      .about = "what the worker needs on its device" },
    { "required_source", FIELD_TEXT, AT(required_source), 0,
      .about = "where that number comes from: \"request\", \"estimate\" and so on" },
    { "stop_reason", FIELD_ENUM, AT(stop_reason), FIELD_ZERO_IS_NULL, .about = "why it stops or stopped",
      NAMES(stop_reason_names) },
    { "exit_code", FIELD_READING, AT(exit_code), 0, .about = "exit code of its main process" },
    { "exit_signal", FIELD_READING, AT(exit_signal), 0, .about = "the signal that ended it" },
    { "candidates", FIELD_OBJECTS, AT(candidates), 0, .about = "the devices that were looked at",
      .n_offset = AT(n_candidates), .table = &explain_candidate_table },
    { "facts", FIELD_OBJECTS, AT(facts), 0, .about = "the other inputs, and what was measured",
      .n_offset = AT(n_facts), .table = &fact_table },
};
#undef AT
FIELD_TABLE(explanation_table, struct pool_explanation, "Explanation", false, explanation_fields);

const char *pool_explain_kind_name(enum pool_explain_kind kind)
{
    return (size_t)kind < sizeof kind_names / sizeof kind_names[0] ? kind_names[kind] : "unknown";
}

/* ---- one ---- */

struct pool_explanation *pool_explanation_new(void)
{
    return calloc(1, sizeof(struct pool_explanation));
}

void pool_explanation_free(struct pool_explanation *explanation)
{
    if (!explanation)
        return;
    fields_clear(&explanation_table, explanation);
    free(explanation);
}

static void release(struct pool_explanation **explanation)
{
    pool_explanation_free(*explanation);
}

enum pool_code pool_explanation_encode(const struct pool_explanation *explanation, char **ret_json,
                                       struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    fields_write_object(&explanation_table, explanation, &w);
    return writer_take(&w, ret_json, err);
}

static enum pool_code decode(json_t *json, struct pool_explanation *explanation, struct pool_error *err)
{
    enum pool_code code = fields_decode(&explanation_table, json, explanation, err);
    for (size_t i = 0; i < explanation->n_candidates; i++) { /* the host's memory has no index */
        if (strcmp(explanation->candidates[i].ledger.device, "host") == 0)
            explanation->candidates[i].gpu_id = -1;
    }
    return code;
}

enum pool_code pool_explanation_decode(const char *json, size_t n, struct pool_explanation **ret_explanation,
                                       struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    CLEANUP(release) struct pool_explanation *explanation = pool_explanation_new();
    if (!explanation)
        return pool_error_no_memory(err);
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code == POOL_OK)
        code = decode(parsed, explanation, err);
    if (code == POOL_OK)
        *ret_explanation = take_ptr(&explanation);
    return code;
}

/* ---- for people ---- */

static void add_line(struct strbuf *text, const char *name, const char *value)
{
    if (value && *value)
        strbuf_printf(text, "  %-11s %s\n", name, value);
}

static void add_bytes_line(struct strbuf *text, const char *name, int64_t bytes)
{
    char human[HUMAN_BYTES_MAX];
    format_bytes(bytes, human);
    strbuf_printf(text, "      %-11s %10s\n", name, human);
}

static void add_candidate(struct strbuf *text, const struct pool_explain_candidate *candidate)
{
    const struct pool_ledger *ledger = &candidate->ledger;
    char human[HUMAN_BYTES_MAX];
    int64_t left = candidate->left_bytes;
    format_bytes(left < -INT64_MAX ? INT64_MAX : left < 0 ? -left : left, human);
    if (candidate->gpu_id >= 0)
        strbuf_printf(text, "    GPU %" PRId64 " (%s): %s", candidate->gpu_id, ledger->device,
                      candidate->verdict);
    else
        strbuf_printf(text, "    host memory: %s", candidate->verdict);
    if (ledger->total_bytes <= 0) {
        strbuf_add_char(text, '\n');
        return;
    }
    strbuf_printf(text, ", %s %s\n", human, left < 0 ? "missing" : "left");
    add_bytes_line(text, "free", ledger->free_bytes);
    add_bytes_line(text, "- promised", ledger->pending_bytes);
    add_bytes_line(text, "- headroom", ledger->headroom_bytes);
    add_bytes_line(text, "= available", ledger->available_bytes);
    add_bytes_line(text, "of total", ledger->total_bytes);
    if (ledger->foreign_bytes > 0)
        add_bytes_line(text, "foreign", ledger->foreign_bytes);
    if (ledger->releasing_bytes > 0)
        add_bytes_line(text, "releasing", ledger->releasing_bytes);
}

static void add_facts(struct strbuf *text, const struct pool_explanation *explanation)
{
    for (size_t i = 0; i < explanation->n_facts; i++) {
        const struct pool_fact *fact = &explanation->facts[i];
        size_t n = strlen(fact->name);
        bool is_bytes = n > 6 && strcmp(fact->name + n - 6, "_bytes") == 0;
        char human[HUMAN_BYTES_MAX];
        if (fact->text)
            strbuf_printf(text, "    %s = %s\n", fact->name, fact->text);
        else if (!fact->number.is_present)
            continue;
        else if (is_bytes) {
            format_bytes(fact->number.value, human);
            strbuf_printf(text, "    %s = %" PRId64 " (%s)\n", fact->name, fact->number.value, human);
        } else
            strbuf_printf(text, "    %s = %" PRId64 "\n", fact->name, fact->number.value);
    }
}

enum pool_code pool_explanation_format(const struct pool_explanation *explanation, char **ret_text,
                                       struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(TEXT_MAX_BYTES);
    char when[RFC3339_MAX] = "";
    char human[HUMAN_BYTES_MAX];
    if (explanation->made_wall_ms != 0)
        clock_format_rfc3339(explanation->made_wall_ms, when);
    strbuf_printf(&text, "%s of %s%s%s\n", pool_explain_kind_name(explanation->kind),
                  explanation->worker_id ? explanation->worker_id : "a worker", *when ? ", " : "", when);
    add_line(&text, "why", explanation->message);
    if (explanation->code && strcmp(explanation->code, "OK") != 0)
        strbuf_printf(&text, "  %-11s %s (trying again %s help)\n", "code", explanation->code,
                      explanation->is_retriable ? "can" : "does not");
    add_line(&text, "record", explanation->record_id);
    add_line(&text, "request", explanation->correlation_id);
    add_line(&text, "backend", explanation->backend);
    add_line(&text, "model", explanation->model_ref);
    add_line(&text, "gpu asked", explanation->asked_gpu);
    if (explanation->required_bytes.is_present) {
        format_bytes(explanation->required_bytes.value, human);
        strbuf_printf(&text, "  %-11s %s%s%s\n", "needs", human, explanation->required_source ? ", by " : "",
                      explanation->required_source ? explanation->required_source : "");
    }
    if (explanation->stop_reason != POOL_STOP_NONE)
        add_line(&text, "reason", pool_stop_reason_name(explanation->stop_reason));
    if (explanation->exit_code.is_present)
        strbuf_printf(&text, "  %-11s %" PRId64 "\n", "exit code", explanation->exit_code.value);
    if (explanation->exit_signal.is_present)
        strbuf_printf(&text, "  %-11s %" PRId64 "\n", "signal", explanation->exit_signal.value);
    if (explanation->n_candidates > 0)
        strbuf_add_text(&text, "  devices\n");
    for (size_t i = 0; i < explanation->n_candidates; i++)
        add_candidate(&text, &explanation->candidates[i]);
    if (explanation->n_facts > 0)
        strbuf_add_text(&text, "  facts\n");
    add_facts(&text, explanation);
    *ret_text = strbuf_take(&text);
    return *ret_text ? POOL_OK : pool_error_no_memory(err);
}

/* ---- several ---- */

void pool_explanation_list_free(struct pool_explanation_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->n_explanations; i++)
        pool_explanation_free(list->explanations[i]);
    free(list->explanations);
    free(list);
}

static void release_list(struct pool_explanation_list **list)
{
    pool_explanation_list_free(*list);
}

enum pool_code pool_explanation_list_encode(const struct pool_explanation_list *list, char **ret_json,
                                            struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    write_open(&w, '{');
    write_key(&w, "explanations");
    write_open(&w, '[');
    for (size_t i = 0; i < list->n_explanations; i++)
        fields_write_object(&explanation_table, list->explanations[i], &w);
    write_close(&w, ']');
    write_close(&w, '}');
    return writer_take(&w, ret_json, err);
}

static enum pool_code refuse_list(struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "\"explanations\" must be an array of objects");
    pool_error_set_field(err, "explanations");
    return POOL_INVALID_REQUEST;
}

enum pool_code pool_explanation_list_decode(const char *json, size_t n,
                                            struct pool_explanation_list **ret_list, struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    CLEANUP(release_list) struct pool_explanation_list *list = calloc(1, sizeof *list);
    if (!list)
        return pool_error_no_memory(err);
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code != POOL_OK)
        return code;
    json_t *array = json_object_get(parsed, "explanations");
    if (!json_is_array(array))
        return refuse_list(err);
    list->explanations = calloc(json_array_size(array) + 1, sizeof(struct pool_explanation *));
    if (!list->explanations)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *item = json_array_get(array, i);
        if (!json_is_object(item))
            return refuse_list(err);
        struct pool_explanation *explanation = pool_explanation_new();
        if (!explanation)
            return pool_error_no_memory(err);
        list->explanations[list->n_explanations++] = explanation;
        code = decode(item, explanation, err);
        if (code != POOL_OK) {
            if (code == POOL_INVALID_REQUEST)
                field_prefix(err, "explanations[%zu].", i);
            return code;
        }
    }
    *ret_list = take_ptr(&list);
    return POOL_OK;
}
