/*
 * A list of owned strings, NULL-terminated for exec and friends. A failed append marks the list, so that a
 * chain of appends needs one check at its end.
 */
#ifndef BASE_STRING_LIST_H
#define BASE_STRING_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct string_list {
    char **at; /* NULL until the first append */
    size_t n;
    size_t capacity;
    bool has_failed; /* memory ran out */
};

void string_list_done(struct string_list *list);
/* Appends a copy. */
bool string_list_add(struct string_list *list, const char *text);
/* Appends the string itself and owns it from now on, also on failure; NULL counts as a failure. */
bool string_list_adopt(struct string_list *list, char *text);
bool string_list_printf(struct string_list *list, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Hands over the NULL-terminated array; NULL when an append failed. Freed with string_array_free. */
char **string_list_take(struct string_list *list);
void string_array_free(char **array);

#endif
