/*
 * Variables; see variables.h.
 */
#include "managerd/variables.h"

#include <stddef.h>
#include <string.h>

const char *variable_find(const char *const *environment, const char *name)
{
    size_t n = strlen(name);
    for (const char *const *variable = environment; variable && *variable; variable++) {
        if (strncmp(*variable, name, n) == 0 && (*variable)[n] == '=')
            return (*variable)[n + 1] ? *variable + n + 1 : NULL;
    }
    return NULL;
}
