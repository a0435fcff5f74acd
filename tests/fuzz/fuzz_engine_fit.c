/*
 * Fuzz target: what a tool of the engine may print. What is taken from it is no negative number.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/lifecycle/engine_fit.h"
#include "core/lifecycle/engine_version.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = strndup((const char *)data, size);
    struct engine_fit fit;
    struct engine_version version;
    if (!text)
        return 0;
    for (int is_host = 0; is_host < 2; is_host++) {
        if (engine_fit_parse(text, is_host, &fit) &&
            (fit.model_bytes < 0 || fit.context_bytes < 0 || fit.compute_bytes < 0))
            abort();
    }
    if (engine_version_parse(text, &version) && (version.build < 0 || version.text[0] == '\0'))
        abort();
    return 0;
}
