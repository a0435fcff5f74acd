/*
 * Where a helper program of ours lies: beside the program that asks in the build tree, in ../libexec/pool-core when it
 * is installed.
 */
#ifndef BASE_HELPER_PATH_H
#define BASE_HELPER_PATH_H

#include <limits.h>
#include <stdbool.h>

/* false when there is none that can be run. */
bool helper_path_find(const char *name, char path[PATH_MAX]);

#endif
