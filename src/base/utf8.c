/*
 * UTF-8; see utf8.h.
 */
#include "base/utf8.h"

#include <string.h>

/* Source: RFC 3629, section 4: the second byte's range depends on the first, the others are 80..BF. */
size_t utf8_length(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    if (u[0] < 0x80)
        return 1;
    size_t n = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    if (u[0] < 0xc2 || u[0] > 0xf4)
        return 0;
    if (u[0] == 0xe0)
        low = 0xa0; /* overlong below */
    else if (u[0] == 0xed)
        high = 0x9f; /* surrogates above */
    else if (u[0] == 0xf0)
        low = 0x90; /* overlong below */
    else if (u[0] == 0xf4)
        high = 0x8f; /* beyond U+10FFFF */
    if (u[1] < low || u[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if (u[i] < 0x80 || u[i] > 0xbf)
            return 0;
    }
    return n;
}

bool utf8_is_valid(const char *text)
{
    while (*text) {
        size_t n = utf8_length(text);
        if (n == 0)
            return false;
        text += n;
    }
    return true;
}

bool utf8_has_control(const char *text)
{
    for (const unsigned char *u = (const unsigned char *)text; *u; u++) {
        if (*u < 0x20 || *u == 0x7f || (*u == 0xc2 && u[1] >= 0x80 && u[1] <= 0x9f))
            return true;
    }
    return false;
}
