/*
 * UTF-8 as RFC 3629 allows it: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Bytes of the well-formed character at p (1 to 4); 0 when there is none. p is NUL-terminated; a NUL is 1. */
size_t utf8_length(const char *p);
bool utf8_is_valid(const char *text);
/* Whether there is a C0 or C1 control character or DEL in a valid text. */
bool utf8_has_control(const char *text);

#endif
