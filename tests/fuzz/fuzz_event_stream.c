/*
 * The reader of server-sent events: any bytes, in pieces of any size, give the same messages as all at once.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/event_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    uint64_t sum;
    size_t n;
};

static void mix(struct heard *heard, const char *text)
{
    for (; *text; text++)
        heard->sum = (heard->sum ^ (unsigned char)*text) * UINT64_C(1099511628211);
    heard->sum = (heard->sum ^ 256) * UINT64_C(1099511628211);
}

static bool hear(const struct event_message *message, void *context)
{
    struct heard *heard = context;
    mix(heard, message->id);
    mix(heard, message->type);
    mix(heard, message->data);
    heard->n++;
    return true;
}

static struct heard feed(const char *bytes, size_t n, size_t piece)
{
    struct heard heard = { 0 };
    struct event_stream stream;
    event_stream_init(&stream, hear, &heard);
    for (size_t i = 0; i < n; i += piece) {
        if (!event_stream_feed(&stream, bytes + i, n - i < piece ? n - i : piece))
            break;
    }
    event_stream_done(&stream);
    return heard;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    struct heard whole = feed(bytes, size, size ? size : 1);
    struct heard single = feed(bytes, size, 1);
    if (whole.sum != single.sum || whole.n != single.n)
        abort();
    return 0;
}
