/*
 * What a worker needs of its device, as people and as programs read it; both from the one record.
 */
#ifndef CLI_MEMORY_NEED_TEXT_H
#define CLI_MEMORY_NEED_TEXT_H

#include <pool/api.h>

#include "base/json.h"
#include "cli/program.h"

/* "needs:  6.1 GiB" and, below, the parts of it, or where the number is from, and what was measured. */
void print_memory_need(const struct cli *cli, const struct pool_memory_need *need);
/* One line below, "  weights      4.6 GiB". */
void print_part(const struct cli *cli, const char *name, int64_t bytes);
/* NULL: memory ran out. */
json_t *json_of_memory_need(const struct pool_memory_need *need);

#endif
