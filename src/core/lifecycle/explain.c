/*
 * Making and keeping explanations; see explain.h.
 */
#include "core/lifecycle/explain.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "base/random.h"
#include "base/string_list.h"
#include "core/lifecycle/split.h"

#define RECORD_ID_BYTES 8 /* random; "x-" and their hex digits are the id */

/* ---- filling ---- */

static void set_text(char **field, const char *text)
{
    free(*field);
    *field = text ? strdup(text) : NULL; /* without memory it is missing in the record */
}

static struct pool_fact *add_fact(struct pool_explanation *explanation, const char *name)
{
    if (!explanation || explanation->n_facts == POOL_EXPLAIN_FACTS_MAX)
        return NULL;
    if (!explanation->facts) {
        explanation->facts = calloc(POOL_EXPLAIN_FACTS_MAX, sizeof *explanation->facts);
        if (!explanation->facts)
            return NULL;
    }
    char *copy = strdup(name);
    if (!copy)
        return NULL;
    struct pool_fact *fact = &explanation->facts[explanation->n_facts++];
    fact->name = copy;
    return fact;
}

void explain_add_number(struct pool_explanation *explanation, const char *name, int64_t number)
{
    struct pool_fact *fact = add_fact(explanation, name);
    if (fact)
        fact->number = (struct pool_reading){ true, number };
}

void explain_add_text(struct pool_explanation *explanation, const char *name, const char *text)
{
    struct pool_fact *fact = text && *text ? add_fact(explanation, name) : NULL;
    if (fact)
        fact->text = strdup(text);
}

void explain_say(struct pool_explanation *explanation, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    if (!explanation)
        return;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    free(explanation->message);
    explanation->message = text;
}

struct pool_explanation *explain_new(const struct pool_manager *manager, enum pool_explain_kind kind,
                                     const char *worker_id)
{
    uint8_t random[RECORD_ID_BYTES];
    char hex[2 * RECORD_ID_BYTES + 1];
    CLEANUP(free_explanation) struct pool_explanation *explanation = pool_explanation_new();
    if (!explanation || !random_bytes(random, sizeof random))
        return NULL;
    hex_encode(random, sizeof random, hex);
    if (asprintf(&explanation->record_id, "x-%s", hex) < 0)
        explanation->record_id = NULL;
    explanation->kind = kind;
    explanation->made_wall_ms = clock_wall_ms();
    set_text(&explanation->worker_id, worker_id);
    set_text(&explanation->code, pool_code_name(POOL_OK));
    if (manager->correlation_id[0])
        set_text(&explanation->correlation_id, manager->correlation_id);
    return explanation->record_id && explanation->code ? take_ptr(&explanation) : NULL;
}

bool explain_keep(struct pool_manager *manager, struct pool_explanation *explanation)
{
    CLEANUP(free_explanation) struct pool_explanation *kept = explanation;
    CLEANUP_FREE char *json = NULL;
    if (!kept || !manager->registry || pool_explanation_encode(kept, &json, NULL) != POOL_OK)
        return false;
    struct pool_explanation_key key = { kept->record_id, kept->worker_id, kept->correlation_id };
    if (pool_worker_registry_put_explanation(manager->registry, &key, json, NULL) != POOL_OK)
        return false;
    if (manager->on_explanation)
        manager->on_explanation(kept, manager->explanation_context);
    return true;
}

/* ---- a start ---- */

void explain_start_begin(struct pool_manager *manager, const struct pool_worker_spawn_request *request)
{
    pool_explanation_free(take_ptr(&manager->draft));
    struct pool_explanation *draft = explain_new(manager, POOL_EXPLAIN_START, request->worker_id);
    manager->draft = draft;
    if (!draft)
        return;
    set_text(&draft->backend, request->backend);
    set_text(&draft->model_ref, request->model_ref);
    set_text(&draft->asked_gpu, request->gpu_id);
    if (request->required_vram_bytes.is_present)
        draft->required_bytes = request->required_vram_bytes;
}

void explain_start_fact(struct pool_manager *manager, const char *name, int64_t number)
{
    explain_add_number(manager->draft, name, number);
}

void explain_start_text(struct pool_manager *manager, const char *name, const char *text)
{
    explain_add_text(manager->draft, name, text);
}

static void set_need(struct pool_explanation *draft, const struct pool_memory_need *need)
{
    draft->required_bytes = (struct pool_reading){ true, need->bytes };
    set_text(&draft->required_source, need->source);
}

void explain_start_needs(struct pool_manager *manager, const struct start_request *start)
{
    struct pool_explanation *draft = manager->draft;
    if (!draft)
        return;
    set_need(draft, &start->need);
    explain_add_number(draft, "ctx_size", start->ctx_size);
    explain_add_number(draft, "parallel", start->parallel);
    if (start->need.estimate.total_bytes == 0)
        return;
    explain_add_number(draft, "weights_bytes", start->need.estimate.weights_bytes);
    explain_add_number(draft, "kv_cache_bytes", start->need.estimate.kv_cache_bytes);
    explain_add_number(draft, "compute_bytes", start->need.estimate.compute_bytes);
    explain_add_number(draft, "overhead_bytes", start->need.estimate.overhead_bytes);
    explain_add_number(draft, "margin_bytes", start->need.estimate.margin_bytes);
}

static void judge(struct pool_explain_candidate *candidate, const struct pool_gpu_info *gpu,
                  const struct pool_ledger *ledger, int64_t required_bytes, bool is_chosen)
{
    struct pool_error why = POOL_ERROR_INIT;
    candidate->gpu_id = gpu ? (int64_t)gpu->gpu_id : -1;
    candidate->ledger = *ledger;
    candidate->left_bytes = ledger->available_bytes - required_bytes;
    candidate->is_chosen = is_chosen;
    const char *verdict = candidate->left_bytes < 0 ? "too small" : is_chosen ? "chosen" : "fits";
    if (gpu && placement_check_gpu(gpu, &why) != POOL_OK)
        verdict = why.message;
    snprintf(candidate->verdict, sizeof candidate->verdict, "%.*s", (int)sizeof candidate->verdict - 1,
             verdict);
}

/* What has to be had of a device, and whether the decision is about it. */
static int64_t need_there(const struct placement_input *input, size_t index,
                          const struct pool_gpu_info *chosen, const struct split *split, bool *ret_is_chosen)
{
    const struct pool_gpu_info *gpu = input->gpus->gpus[index];
    for (size_t i = 0; split && i < split->n; i++) {
        if (split->parts[i].gpu == gpu) {
            *ret_is_chosen = true;
            return split->parts[i].bytes;
        }
    }
    *ret_is_chosen = !split && gpu == chosen;
    return start_need_at(input->start, index)->bytes;
}

/* How many of the devices from one on the decision is about; one that never said its name can have no ledger. */
static size_t count_chosen(const struct placement_input *input, size_t first,
                           const struct pool_gpu_info *chosen, const struct split *split)
{
    size_t n = 0;
    for (size_t i = first; i < input->gpus->n_gpus; i++) {
        bool is_chosen;
        (void)need_there(input, i, chosen, split, &is_chosen);
        n += is_chosen && input->gpus->gpus[i]->uuid[0];
    }
    return n;
}

void explain_start_places(struct pool_manager *manager, const struct placement_input *input,
                          const struct pool_gpu_info *chosen, const struct split *split)
{
    struct pool_explanation *draft = manager->draft;
    bool is_on_host = input->start->backend->device != POOL_DEVICE_GPU;
    size_t n_gpus = input->gpus->n_gpus;
    if (!draft)
        return;
    free(draft->candidates);
    draft->n_candidates = 0;
    draft->candidates = calloc(POOL_EXPLAIN_CANDIDATES_MAX, sizeof *draft->candidates);
    if (!draft->candidates)
        return;
    const struct start_request *start = input->start;
    if (is_on_host) {
        const struct pool_memory_need *need = start_need_at(start, input->n_ledgers - 1);
        judge(&draft->candidates[draft->n_candidates++], NULL, &input->ledgers[input->n_ledgers - 1],
              need->bytes, true);
        set_need(draft, need);
        return;
    }
    for (size_t i = 0; i < n_gpus; i++) {
        bool is_chosen;
        int64_t bytes = need_there(input, i, chosen, split, &is_chosen);
        size_t n_kept_free =
            is_chosen ? 0 : count_chosen(input, i, chosen, split); /* they always have a place */
        if (!input->gpus->gpus[i]->uuid[0] ||
            draft->n_candidates + n_kept_free >= POOL_EXPLAIN_CANDIDATES_MAX)
            continue;
        judge(&draft->candidates[draft->n_candidates++], input->gpus->gpus[i], &input->ledgers[i], bytes,
              is_chosen);
        if (is_chosen)
            set_need(draft, split ? &split->need : start_need_at(start, i));
    }
    if (n_gpus > draft->n_candidates)
        explain_add_number(draft, "n_devices", (int64_t)n_gpus);
}

static void take_error(struct pool_explanation *explanation, const struct pool_error *error)
{
    explanation->kind = POOL_EXPLAIN_REFUSAL;
    explanation->is_retriable = error->is_retriable;
    set_text(&explanation->code, pool_code_name(error->code));
    set_text(&explanation->message, error->message);
    explain_add_text(explanation, "field", error->field);
    for (size_t i = 0; i < error->n_details; i++) {
        const struct pool_detail *detail = &error->details[i];
        if (detail->kind == POOL_DETAIL_TEXT)
            explain_add_text(explanation, detail->name, detail->text);
        else
            explain_add_number(explanation, detail->name, detail->number);
    }
}

void explain_start_end(struct pool_manager *manager, enum pool_code code,
                       const struct pool_worker_info *worker, struct pool_error *err)
{
    struct pool_explanation *draft = take_ptr(&manager->draft);
    struct pool_error unsaid = { .code = code, .is_retriable = pool_code_is_retriable(code) };
    if (!draft)
        return;
    if (code != POOL_OK) {
        take_error(draft, err ? err : &unsaid);
        char record_id[sizeof err->details[0].text];
        snprintf(record_id, sizeof record_id, "%s", draft->record_id);
        if (explain_keep(manager, draft))
            pool_error_add_text(err, "explain_id", record_id);
        return;
    }
    char human[HUMAN_BYTES_MAX];
    format_bytes(worker->reserved_bytes, human);
    set_text(&draft->worker_id, worker->worker_id);
    if (worker->queue_position > 0) {
        explain_say(draft, "number %" PRId64 " in the queue of %s, with %s reserved: %s",
                    worker->queue_position, worker->gpu_uuid, human, worker->queue_reason);
        explain_keep(manager, draft);
        return;
    }
    explain_say(draft, "started on %s with %s reserved",
                worker->gpu_uuid ? worker->gpu_uuid : "the host's memory", human);
    explain_add_number(draft, "port", worker->port);
    explain_add_number(draft, "pid", worker->process.pid);
    explain_keep(manager, draft);
}

void explain_start_drop(struct pool_manager *manager)
{
    pool_explanation_free(take_ptr(&manager->draft));
}

/* ---- stops and ends ---- */

static struct pool_explanation *about(const struct pool_manager *manager, enum pool_explain_kind kind,
                                      const struct pool_worker_info *worker)
{
    struct pool_explanation *explanation = explain_new(manager, kind, worker->worker_id);
    if (!explanation)
        return NULL;
    set_text(&explanation->backend, worker->backend);
    set_text(&explanation->model_ref, worker->model_ref);
    explanation->stop_reason = worker->stop_reason;
    explain_add_text(explanation, "device", worker->gpu_uuid ? worker->gpu_uuid : "host");
    explain_add_number(explanation, "reserved_bytes", worker->reserved_bytes);
    if (worker->observed_bytes.is_present)
        explain_add_number(explanation, "observed_bytes", worker->observed_bytes.value);
    if (worker->peak_bytes.is_present)
        explain_add_number(explanation, "peak_bytes", worker->peak_bytes.value);
    explain_add_number(explanation, "lived_ms", clock_wall_ms() - worker->created_wall_ms);
    explain_add_text(explanation, "was_ready", worker->ready_wall_ms != 0 ? "yes" : "no");
    return explanation;
}

void explain_stop(struct pool_manager *manager, const struct pool_worker_info *worker)
{
    struct pool_explanation *explanation = about(manager, POOL_EXPLAIN_STOP, worker);
    if (!explanation)
        return;
    explain_say(explanation, "a stop begins: %s", pool_stop_reason_name(worker->stop_reason));
    explain_add_text(explanation, "stop_phase", worker->stop_phase);
    explain_add_text(explanation, "health_reason", worker->health_reason);
    explain_add_number(explanation, "stop_grace_ms", worker->stop_grace_ms);
    explain_keep(manager, explanation);
}

struct pool_explanation *explain_gone(struct pool_manager *manager, const struct pool_worker_info *worker)
{
    struct pool_explanation *explanation = about(manager, POOL_EXPLAIN_END, worker);
    if (!explanation)
        return NULL;
    explanation->exit_code = worker->exit_code;
    explanation->exit_signal = worker->exit_signal;
    const char *reason = pool_stop_reason_name(worker->stop_reason);
    if (worker->exit_signal.is_present)
        explain_say(explanation, "it is gone: %s, by signal %" PRId64, reason, worker->exit_signal.value);
    else if (worker->exit_code.is_present)
        explain_say(explanation, "it is gone: %s, exit code %" PRId64, reason, worker->exit_code.value);
    else
        explain_say(explanation, "it is gone: %s, and how its process ended is not known", reason);
    explain_add_text(explanation, "health_reason", worker->health_reason);
    return explanation;
}

/* ---- presence ---- */

/* "name" of the first, "name_2" of the second. */
static void add_seat_number(struct pool_explanation *explanation, const char *name, size_t i, int64_t number)
{
    char full[64];
    snprintf(full, sizeof full, i > 0 ? "%s_%zu" : "%s", name, i + 1);
    explain_add_number(explanation, full, number);
}

static void add_seat(struct pool_explanation *explanation, size_t i, const struct pool_presence_seat *seat)
{
    char name[64];
    snprintf(name, sizeof name, i > 0 ? "device_%zu" : "device", i + 1);
    explain_add_text(explanation, name, seat->gpu_uuid);
    add_seat_number(explanation, "expected_bytes", i, seat->expected_bytes);
    add_seat_number(explanation, "least_bytes", i, seat->least_bytes);
    if (seat->seen_bytes.is_present)
        add_seat_number(explanation, "seen_bytes", i, seat->seen_bytes.value);
}

void explain_presence(struct pool_manager *manager, const struct pool_worker_info *worker,
                      const struct pool_presence *presence)
{
    char where[POOL_ERROR_MESSAGE_MAX];
    struct pool_explanation *explanation = explain_new(manager, POOL_EXPLAIN_PRESENCE, worker->worker_id);
    if (!explanation)
        return;
    bool is_absent = presence->verdict == POOL_PRESENCE_NOT_ON_GPU;
    pool_presence_format(presence, where, sizeof where);
    explain_say(explanation, "it is %s: %s", is_absent ? "not on its GPU" : "on its GPU again", where);
    set_text(&explanation->backend, worker->backend);
    set_text(&explanation->model_ref, worker->model_ref);
    explain_add_number(explanation, "reserved_bytes", worker->reserved_bytes);
    explain_add_text(explanation, "health_reason", worker->health_reason);
    explain_add_text(explanation, "elsewhere_device", presence->elsewhere_uuid);
    if (presence->elsewhere_uuid[0])
        explain_add_number(explanation, "elsewhere_bytes", presence->elsewhere_bytes);
    for (size_t i = 0; i < presence->n_seats; i++) /* as many as there is room for; the message has all */
        add_seat(explanation, i, &presence->seats[i]);
    explain_keep(manager, explanation);
}

/* ---- asking ---- */

enum pool_code pool_manager_explain(struct pool_manager *manager, const char *id,
                                    struct pool_explanation_list **ret_list, struct pool_error *err)
{
    char **texts = NULL;
    if (id && !pool_worker_id_is_valid(id)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "not an id: it has 1 to 64 of A-Z a-z 0-9 . _ -");
        pool_error_set_field(err, "id");
        return POOL_INVALID_REQUEST;
    }
    enum pool_code code =
        pool_worker_registry_find_explanations(manager->registry, id, POOL_EXPLAIN_SHOWN_MAX, &texts, err);
    if (code != POOL_OK)
        return code;
    size_t n = 0;
    while (texts[n])
        n++;
    struct pool_explanation_list *list = calloc(1, sizeof *list);
    if (list)
        list->explanations = calloc(n + 1, sizeof(struct pool_explanation *));
    code = list && list->explanations ? POOL_OK : pool_error_no_memory(err);
    for (size_t i = 0; code == POOL_OK && i < n; i++) {
        code = pool_explanation_decode(texts[i], strlen(texts[i]), &list->explanations[list->n_explanations],
                                       err);
        if (code == POOL_OK)
            list->n_explanations++;
        else if (code != POOL_INSUFFICIENT_MEMORY) /* not one of ours: it is left out */
            code = POOL_OK;
    }
    string_array_free(texts);
    if (code == POOL_OK && id && list->n_explanations == 0) {
        code = pool_error_set(err, POOL_NOT_FOUND,
                              "nothing is known of %s: it never was, or its records are too old", id);
        pool_error_add_text(err, "id", id);
    }
    if (code != POOL_OK) {
        pool_explanation_list_free(list);
        return code;
    }
    *ret_list = list;
    return POOL_OK;
}

enum pool_code pool_manager_set_correlation_id(struct pool_manager *manager, const char *correlation_id,
                                               struct pool_error *err)
{
    if (correlation_id && !pool_correlation_id_is_valid(correlation_id))
        return pool_error_set(err, POOL_INVALID_REQUEST, "not a correlation id");
    snprintf(manager->correlation_id, sizeof manager->correlation_id, "%s",
             correlation_id ? correlation_id : "");
    return POOL_OK;
}
