/*
 * Learned use; see learned.h.
 */
#include "core/lifecycle/learned.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "core/catalog/header_facts.h"

#define MARGIN_MIN_BYTES (INT64_C(256) << 20)
#define KEY_MAX_BYTES    1024

static uint64_t digest_bytes(uint64_t digest, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n; i++)
        digest = (digest ^ bytes[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return digest;
}
#define DIGEST_INIT UINT64_C(0xcbf29ce484222325)

/* With its end, so that "a" "b" is not "ab". */
static uint64_t digest_text(uint64_t digest, const char *text)
{
    return digest_bytes(digest, text, strlen(text) + 1);
}

static uint64_t digest_variables(uint64_t digest, const struct pool_env_var *variables, size_t n)
{
    for (size_t i = 0; i < n; i++)
        digest = digest_text(digest_text(digest, variables[i].name), variables[i].value);
    return digest_text(digest, "");
}

static uint64_t digest_words(const struct start_request *start)
{
    const struct pool_backend *backend = start->backend;
    uint64_t digest = DIGEST_INIT;
    for (size_t i = 1; i < backend->n_command; i++)
        digest = digest_text(digest, backend->command[i]);
    digest = digest_variables(digest, backend->env, backend->n_env);
    digest = digest_variables(digest, start->request->env, start->request->n_env);
    for (size_t i = 0; i < start->request->n_extra_args; i++)
        digest = digest_text(digest, start->request->extra_args[i]);
    return digest;
}

/* All that its header says; models of one shape take the same. Of a header that says too much, its sizes. */
static uint64_t digest_header(const struct pool_model_header *header)
{
    static const struct file_identity none = { 0 };
    CLEANUP(strbuf_done) struct strbuf facts = STRBUF_INIT(HEADER_FACTS_MAX_BYTES);
    uint64_t digest = digest_bytes(DIGEST_INIT, &header->tensor_bytes, sizeof header->tensor_bytes);
    if (!header_facts_encode(&none, 1, header, &facts))
        return digest;
    return digest_bytes(digest, strbuf_text(&facts), facts.n);
}

char *learned_key(const struct start_request *start, const char *device_name)
{
    char key[KEY_MAX_BYTES];
    const char *architecture = start->header->architecture;
    /* Numbers first: a name that is cut does not make two starts the same. */
    snprintf(key, sizeof key,
             "%s-%016" PRIx64 "-%" PRId64 "|%" PRId64 " tokens|%" PRId64 " slots|%016" PRIx64
             "|%.128s|%.128s|%.500s",
             architecture ? architecture : pool_model_format_name(start->header->format),
             digest_header(start->header), start->model->size_bytes, start->ctx_size, start->parallel,
             digest_words(start), start->backend->name, start->version.text, device_name);
    for (char *c = key; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    }
    return strdup(key);
}

int64_t learned_reserve(int64_t peak_bytes)
{
    int64_t margin = peak_bytes / 20;
    return add_bytes(peak_bytes, margin > MARGIN_MIN_BYTES ? margin : MARGIN_MIN_BYTES);
}

static void free_list(struct pool_learned_list **list)
{
    pool_learned_list_free(*list);
}

void learned_apply(struct pool_worker_registry *registry, const char *key, struct pool_memory_need *need)
{
    CLEANUP(free_list) struct pool_learned_list *list = NULL;
    if (!registry || pool_worker_registry_list_learned(registry, key, &list, NULL) != POOL_OK ||
        list->n_uses == 0)
        return;
    const struct pool_learned_use *use = &list->uses[0];
    need->measured_bytes = (struct pool_reading){ true, use->peak_bytes };
    need->n_measured = use->n_starts;
    if (need->source && strcmp(need->source, "request") == 0)
        return;
    need->bytes = learned_reserve(use->peak_bytes);
    need->source = "measured";
}

/* So that a reserve falls in steps, and not with every sample. */
static bool is_much_less(int64_t wanted, int64_t reserved)
{
    return wanted < reserved - reserved / 100;
}

void learned_note(struct pool_worker_registry *registry, struct pool_worker_info *worker, bool is_first)
{
    if (!worker->learned_key || !worker->peak_bytes.is_present || worker->peak_bytes.value <= 0)
        return;
    struct pool_learned_use use = { .key = worker->learned_key,
                                    .model_ref = worker->model_ref ? worker->model_ref : worker->worker_id,
                                    .estimate_bytes = worker->estimated_bytes,
                                    .ready_bytes = is_first ? worker->peak_bytes.value : 0,
                                    .peak_bytes = worker->peak_bytes.value,
                                    .n_starts = is_first,
                                    .updated_wall_ms = clock_wall_ms() };
    (void)!pool_worker_registry_put_learned(registry, &use, NULL);
    int64_t wanted = learned_reserve(worker->peak_bytes.value);
    if (!worker->is_reserve_fixed && is_much_less(wanted, worker->reserved_bytes))
        pool_worker_info_scale_reserve(worker, wanted);
}
