/*
 * A file of sums as somebody may have left it: what is found is a sum.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/catalog/hub_sums.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const files[] = { "", "m.gguf", "q/m-00001-of-00002.gguf" };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char sum[SHA256_TEXT_MAX];
        if (hub_sums_find((const char *)data, size, files[i], sum))
            assert(strlen(sum) == SHA256_TEXT_MAX - 1 &&
                   strspn(sum, "0123456789abcdef") == SHA256_TEXT_MAX - 1);
    }
    return 0;
}
