/*
 * Fuzz target: the beginning of an HTTP answer from any bytes. However it arrives, piece by piece, the verdict never
 * goes back: bytes that follow do not make a bad line good.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/lifecycle/http_probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int last = 0;
    size_t n = size < 64 ? size : 64; /* as much as a probe keeps */
    for (size_t i = 0; i <= n; i++) {
        int code = http_status_parse((const char *)data, i);
        if (code < -1 || code > 999 || (code > 0 && code < 100) || (last < 0 && code != -1) ||
            (last > 0 && code != last && code != -1) || (i >= 12 && code == 0))
            abort();
        last = code;
    }
    return 0;
}
