/* What another user put into the directory of promises. */
#include <stdlib.h>
#include <string.h>

#include "core/lifecycle/promise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct promise promise, again;
    struct strbuf text = STRBUF_INIT(PROMISE_MAX_BYTES);
    if (!promise_parse((const char *)data, n, &promise))
        return 0;
    /* What is read is what would be written. */
    if (!promise_encode(&promise, &text) || !promise_parse(strbuf_text(&text), text.n, &again) ||
        again.n_devices != promise.n_devices || promise.n_devices == 0)
        abort();
    strbuf_done(&text);
    return 0;
}
