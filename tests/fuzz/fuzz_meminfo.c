/*
 * Fuzz target: /proc/meminfo from any text. What is read is no negative number of bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/lifecycle/devices.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host_memory memory = { -1, -1 };
    char *text = strndup((const char *)data, size);
    if (text && host_memory_parse(text, &memory) &&
        (memory.total_bytes < 0 || memory.available_bytes < 0 || memory.total_bytes % 1024 != 0))
        abort();
    free(text);
    return 0;
}
