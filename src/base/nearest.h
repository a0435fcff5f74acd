/*
 * Which known name a mistyped one was meant to be.
 */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

/* The name that takes the fewest edits (at most a third of its length) to become `wanted`, or NULL. */
const char *nearest_name(const char *wanted, const char *const *names, size_t n_names);

#endif
