/*
 * What workers are seen to hold of their devices: from each snapshot of the driver to their records.
 */
#ifndef MANAGERD_USAGE_WATCH_H
#define MANAGERD_USAGE_WATCH_H

#include <pool/gpu.h>
#include <pool/worker.h>

struct daemon;

/*
 * Says whose every process is, in daemon->attribution, tells the supervisor which workers are on their GPUs, reports every
 * ready worker that holds more than it was seen to, has it noted which processes workers consist of, and adds to the
 * timelines of all.
 */
void usage_watch(struct daemon *daemon, const struct pool_gpu_list *gpus);
/* A start answers: looks at the last snapshot, and asks for one that comes after the answer. */
void usage_watch_answered(struct daemon *daemon, const struct pool_worker_info *worker);

#endif
