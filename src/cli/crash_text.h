/*
 * The end of a worker as people read it.
 */
#ifndef CLI_CRASH_TEXT_H
#define CLI_CRASH_TEXT_H

#include <pool/crash.h>

#include "cli/program.h"

void print_why(const struct cli *cli, const struct pool_worker_why *why);

#endif
