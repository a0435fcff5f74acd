/*
 * Fuzz target: a line of /proc/PID/stat from any bytes. It is read or refused, and what was read is in range.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/lifecycle/process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct process_stat untouched, stat;
    memset(&untouched, 0x5a, sizeof untouched);
    stat = untouched;
    if (!process_stat_parse((const char *)data, size, &stat)) {
        if (memcmp(&stat, &untouched, sizeof stat) != 0)
            abort();
        return 0;
    }
    /* A name can not hide the fields behind it: the last parenthesis closes it. */
    const uint8_t *close = memrchr(data, ')', size);
    if (!close || (size_t)(close - data) + 3 > size || close[2] != (uint8_t)stat.state || stat.pid < 1 ||
        stat.pid > INT32_MAX || (stat.is_exit_code_known && stat.state != 'Z' && stat.state != 'X'))
        abort();
    return 0;
}
