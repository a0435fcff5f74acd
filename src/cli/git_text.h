/*
 * Checkouts and submodules as people and scripts read them.
 */
#ifndef CLI_GIT_TEXT_H
#define CLI_GIT_TEXT_H

#include "base/json.h"
#include "cli/git.h"
#include "cli/table.h"

#define GIT_SHORT_HASH 12 /* characters of a commit that people are shown */

POOL_MUST_CHECK enum pool_code print_submodule_table(const struct cli *cli,
                                                     const struct git_submodule_list *list,
                                                     struct pool_error *err);
/* An array. NULL: no memory. */
json_t *json_of_submodules(const struct git_submodule_list *list);
/* {"submodules": […]}, or the table, or a line that says that there are none. */
POOL_MUST_CHECK enum pool_code print_submodules(const struct cli *cli, const struct git_submodule_list *list,
                                                struct pool_error *err);

#endif
