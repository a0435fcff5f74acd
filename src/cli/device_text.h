/*
 * Devices and their memory as people read them.
 */
#ifndef CLI_DEVICE_TEXT_H
#define CLI_DEVICE_TEXT_H

#include <pool/api.h>

#include "cli/program.h"
#include "cli/table.h"

/* That there is none, and why. */
void print_no_gpus(const struct cli *cli, const struct pool_gpu_list *list);
/* Prints a table of devices; with `verbose` also UUID, bus, driver, NUMA node and NVLinks. */
POOL_MUST_CHECK enum pool_code print_gpu_table(const struct cli *cli, const struct pool_gpu_list *list,
                                               bool verbose, struct pool_error *err);

#define LEDGER_BAR_CELLS 10
#define LEDGER_BAR_MAX   (LEDGER_BAR_CELLS * 3 + 1)
/* Our workers' share, everybody else's, and what is free, as a bar. */
void format_ledger_bar(const struct terminal *terminal, const struct pool_ledger *ledger,
                       char text[LEDGER_BAR_MAX]);
/* The ledger of a device in a status; NULL when it has none. */
const struct pool_ledger *ledger_of_device(const struct pool_status_response *status, const char *device);

#endif
