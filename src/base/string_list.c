/*
 * Lists of owned strings; see string_list.h.
 */
#include "base/string_list.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void string_array_free(char **array)
{
    for (char **p = array; p && *p; p++)
        free(*p);
    free(array);
}

void string_list_done(struct string_list *list)
{
    string_array_free(list->at);
    *list = (struct string_list){ 0 };
}

bool string_list_adopt(struct string_list *list, char *text)
{
    if (text && list->n + 2 > list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 16;
        char **at = reallocarray(list->at, capacity, sizeof *at);
        if (at) {
            list->at = at;
            list->capacity = capacity;
        } else {
            free(text);
            text = NULL;
        }
    }
    if (!text) {
        list->has_failed = true;
        return false;
    }
    list->at[list->n++] = text;
    list->at[list->n] = NULL;
    return true;
}

bool string_list_add(struct string_list *list, const char *text)
{
    return string_list_adopt(list, strdup(text));
}

bool string_list_printf(struct string_list *list, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    return string_list_adopt(list, text);
}

char **string_list_take(struct string_list *list)
{
    if (list->has_failed)
        return NULL;
    if (!list->at)
        return calloc(1, sizeof(char *));
    char **at = list->at;
    *list = (struct string_list){ 0 };
    return at;
}
