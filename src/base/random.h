/*
 * Random bytes and UUIDs from the kernel.
 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>

/* false only when the kernel has no random source. */
bool random_bytes(void *data, size_t n);

#define UUID_TEXT_MAX 37
/* RFC 9562 version 4, lower case. */
bool random_uuid(char text[UUID_TEXT_MAX]);

#define HEX_TEXT_MAX(n_bytes) (2 * (n_bytes) + 1)
void hex_encode(const void *data, size_t n, char *text);

#endif
