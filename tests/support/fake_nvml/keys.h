// The keys of the configuration file and the readers of their values. Sections, lines and messages are
// config.c's.
#ifndef FAKE_NVML_KEYS_H
#define FAKE_NVML_KEYS_H

#include "world.h"

#pragma GCC visibility push(hidden)

struct key;

bool find_key(const char *name, bool is_device, const struct key **ret);

// Writes the value of one key into record, which is the world or a device, as the key says; false when it is
// wrong.
bool set_key(const struct key *key, void *record, char *value);

// A whole number in C notation, with an optional KiB, MiB, GiB.
bool read_number(const char *text, nvml_u64 *ret);

// Reads between n_min and n_max numbers, at most 8; "unknown" is one as well. Missing ones keep their value.
bool read_numbers(char *text, nvml_u64 values[], unsigned n_min, unsigned n_max);

struct reading present(nvml_u64 value);

// Grows *array by one zeroed element and returns that one; NULL without memory.
void *append(void *array_pointer, unsigned *count, size_t size);

#pragma GCC visibility pop

#endif
