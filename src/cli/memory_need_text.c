/*
 * What a worker needs, as text and as JSON.
 */
#include "cli/memory_need_text.h"

#include <inttypes.h>
#include <string.h>

#include "base/number.h"
#include "cli/json_document.h"
#include "cli/report.h"

void print_part(const struct cli *cli, const char *name, int64_t bytes)
{
    char human[HUMAN_BYTES_MAX];
    format_bytes(bytes, human);
    fprintf(cli->out, "  %-11s %10s\n", name, human);
}

static const char *reason_of(const char *source)
{
    if (!source || strcmp(source, "estimate") == 0)
        return "estimated";
    if (strcmp(source, "measured") == 0)
        return "measured before";
    if (strcmp(source, "engine") == 0)
        return "as its engine says";
    return strcmp(source, "request") == 0 ? "by request" : "by file size";
}

void print_memory_need(const struct cli *cli, const struct pool_memory_need *need)
{
    const struct pool_estimate *estimate = &need->estimate;
    struct pool_reading error = pool_memory_need_error_permille(need);
    char human[HUMAN_BYTES_MAX];
    format_bytes(need->bytes, human);
    print_field_format(cli, "needs", "%s, %s", human, reason_of(need->source));
    if (estimate->total_bytes > 0) {
        print_part(cli, "weights", estimate->weights_bytes);
        print_part(cli, "kv cache", estimate->kv_cache_bytes);
        if (estimate->recurrent_bytes > 0)
            print_part(cli, "states", estimate->recurrent_bytes);
        print_part(cli, "compute", estimate->compute_bytes);
        print_part(cli, "overhead", estimate->overhead_bytes);
        print_part(cli, "margin", estimate->margin_bytes);
        print_part(cli, "= estimate", estimate->total_bytes);
    }
    if (need->measured_bytes.is_present) {
        format_bytes(need->measured_bytes.value, human);
        print_field_format(cli, "measured", "%s in %" PRId64 " start%s", human, need->n_measured,
                           need->n_measured == 1 ? "" : "s");
    }
    if (error.is_present)
        print_field_format(cli, "error", "%+.1f %% (estimate without margin)", (double)error.value / 10.0);
}

json_t *json_of_memory_need(const struct pool_memory_need *need)
{
    char *text = NULL;
    return pool_memory_need_encode(need, &text, NULL) == POOL_OK ? json_of_encoded(&text) : NULL;
}
