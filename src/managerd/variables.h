/*
 * Variables of the environment, as a list that is borrowed from whoever started us.
 */
#ifndef MANAGERD_VARIABLES_H
#define MANAGERD_VARIABLES_H

/* NULL when it is not there or empty. Borrowed. */
const char *variable_find(const char *const *environment, const char *name);

#endif
