/*
 * rbees-pool models learned forget.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/json_document.h"
#include "cli/learned_store.h"
#include "cli/report.h"

struct models_learned_forget_arguments {
    const char *id;
    bool all;
};

static const char *find_key(const struct pool_learned_list *list, const char *wanted)
{
    for (size_t i = 0; i < list->n_uses; i++) {
        char id[LEARNED_ID_MAX];
        learned_id(list->uses[i].key, id);
        if (strcmp(id, wanted) == 0)
            return list->uses[i].key;
    }
    return NULL;
}

static enum pool_code forget(struct cli *cli, const struct models_learned_forget_arguments *arguments,
                             int64_t *ret_n, struct pool_error *err)
{
    CLEANUP(release_registry) struct pool_worker_registry *registry = NULL;
    CLEANUP(release_learned) struct pool_learned_list *list = NULL;
    enum pool_code code = learned_open(cli, false, &registry, err);
    *ret_n = 0;
    if (code == POOL_OK && registry)
        code = pool_worker_registry_list_learned(registry, NULL, &list, err);
    if (code != POOL_OK)
        return code;
    if (arguments->all)
        return registry ? pool_worker_registry_forget_learned(registry, NULL, ret_n, err) : POOL_OK;
    const char *key = list ? find_key(list, arguments->id) : NULL;
    if (key)
        return pool_worker_registry_forget_learned(registry, key, ret_n, err);
    pool_error_set(err, POOL_NOT_FOUND, "nothing with the id %.64s was learned", arguments->id);
    pool_error_set_field(err, "id");
    return POOL_NOT_FOUND;
}

static enum pool_code run_forget(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct models_learned_forget_arguments *arguments = data;
    int64_t n;
    if (arguments->all == (arguments->id != NULL))
        return pool_error_set(err, POOL_INVALID_REQUEST, "'models learned forget' needs an id or --all");
    enum pool_code code = forget(cli, arguments, &n, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_pack("{s:I}", "forgotten", (json_int_t)n);
        return print_document(cli, document, err);
    }
    fprintf(cli->out, "%" PRId64 " forgotten\n", n);
    return POOL_OK;
}

#define AT(field) .offset = offsetof(struct models_learned_forget_arguments, field)
static const struct cli_option options[] = {
    { .name = "all", .letter = 'a', AT(all), .summary = "All that was measured" },
};
static const struct cli_positional positionals[] = {
    { .name = "ID",
      .value = CLI_TEXT,
      AT(id),
      .is_optional = true,
      .summary = "As 'models learned list' shows it" },
};
static const char *const examples[] = { "rbees-pool models learned forget 0123456789abcdef",
                                        "rbees-pool models learned forget --all" };

const struct cli_command models_learned_forget_command = {
    .path = "models learned forget",
    .summary = "Forget what was measured",
    .description =
        "Forgets what workers of one kind, or all, were measured to take. The next start is estimated again.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct models_learned_forget_arguments),
    .run = run_forget,
};
