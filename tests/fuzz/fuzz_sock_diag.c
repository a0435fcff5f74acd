/*
 * Fuzz target: a datagram of sock_diag from any bytes, twice into the same list. What is added was in it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/lifecycle/port.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct listeners list = { 0 };
    enum sock_diag_reply reply = sock_diag_parse(data, size, &list);
    size_t n = list.n;
    /* A message is at least its header of 16 bytes and a body of 72. */
    if (reply == SOCK_DIAG_NO_MEMORY || n > size / 88 || n > list.capacity)
        abort();
    if (sock_diag_parse(data, size, &list) != reply || list.n != 2 * n)
        abort();
    listeners_done(&list);
    return 0;
}
