/*
 * Numbers from text, strictly: the whole text must be the number, nothing before or behind it,
 * and it must be inside the range.
 */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool parse_int64(const char *text, int64_t min, int64_t max, int64_t *ret_value);
/* The same for a text that is not terminated. */
bool parse_int64_n(const char *text, size_t n, int64_t min, int64_t max, int64_t *ret_value);
/* "17", "512M", "15.5GiB", "2 GB"; K M G T and KiB… are powers of 1024, KB MB GB TB powers of 1000. */
bool parse_bytes(const char *text, int64_t *ret_bytes);

#define HUMAN_BYTES_MAX 32
/* Bytes for people: "0 B", "11.2 GiB". */
void format_bytes(int64_t bytes, char text[HUMAN_BYTES_MAX]);

/* Saturating sum and non-negative difference of byte counts. */
int64_t add_bytes(int64_t a, int64_t b);
int64_t excess_bytes(int64_t a, int64_t b); /* max(0, a - b) */

#endif
