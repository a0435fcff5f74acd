/*
 * Fuzz target: a line that pool-gpu-probe says, from any bytes. It is read or refused, and an event that was read can be
 * said again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/gpu_probe_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct probe_answer answer, again;
    char *line = malloc(size + 1);
    if (!line)
        return 0;
    memcpy(line, data, size);
    line[size] = '\0';
    enum pool_code code = probe_answer_decode(line, size, &answer, NULL);
    free(line);
    if (code != POOL_OK)
        return 0;
    if (answer.kind == PROBE_ANSWER_SNAPSHOT) {
        if (answer.list->n_gpus > POOL_GPUS_MAX || answer.list->taken_boottime_ns <= 0)
            abort();
        pool_gpu_list_free(answer.list);
    } else if (answer.kind == PROBE_ANSWER_EVENT) {
        line = probe_event_encode(&answer.event);
        if (!line)
            return 0;
        if (probe_answer_decode(line, strlen(line), &again, NULL) != POOL_OK ||
            again.kind != PROBE_ANSWER_EVENT || again.event.data != answer.event.data ||
            again.event.kind != answer.event.kind || strcmp(again.event.uuid, answer.event.uuid) != 0)
            abort();
        free(line);
    }
    return 0;
}
