/*
 * Worker records of a usual size, for the benchmarks of registries.
 */
#ifndef BENCH_RECORDS_H
#define BENCH_RECORDS_H

#include <pool/registry.h>

#include "measure.h"

static inline char *__attribute__((format(printf, 1, 2))) record_text(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        die("out of memory");
    return text;
}

static inline struct pool_worker_info *make_record(int64_t i)
{
    struct pool_worker_info *worker = pool_worker_info_new();
    if (!worker)
        die("out of memory");
    worker->worker_id = record_text("worker-00000000-0000-4000-8000-%012" PRId64, i);
    worker->backend = record_text("cuda");
    worker->model_ref =
        record_text("file:/var/lib/pool-core/models/org/repo/model-%" PRId64 "-q4_k_m.gguf", i % 100);
    worker->model_path =
        record_text("/var/lib/pool-core/models/org/repo/model-%" PRId64 "-q4_k_m.gguf", i % 100);
    worker->gpu_uuid = record_text("GPU-00000000-0000-4000-8000-%012" PRId64, i % 8);
    worker->gpu_id = i % 8;
    worker->host = record_text("127.0.0.1");
    worker->uri = record_text("http://127.0.0.1:%" PRId64, 8001 + i % 1000);
    worker->status = POOL_WORKER_READY;
    worker->process.pid = 1000 + i;
    worker->process.start_time_ticks = 123456 + i;
    snprintf(worker->process.boot_id, sizeof worker->process.boot_id, "00000000-0000-4000-8000-000000000000");
    worker->reserved_bytes = INT64_C(1) << 32;
    worker->observed_bytes = (struct pool_reading){ true, INT64_C(1) << 31 };
    worker->log_path = record_text("/var/lib/pool-core/logs/worker-%012" PRId64 ".log", i);
    worker->created_wall_ms = clock_wall_ms();
    worker->program = record_text("/usr/local/bin/llama-server");
    worker->ready_path = record_text("/health");
    worker->protocol = record_text("openai");
    worker->capabilities = record_text("completion,chat");
    worker->stop_signal = 15;
    return worker;
}

#endif
