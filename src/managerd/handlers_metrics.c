/*
 * GET /metrics (contract, section 8): what was counted, and the pool as it is at this moment. Answered from memory alone,
 * so that it comes also when the registry's disk or the driver does not answer. A scrape asks no worker anything.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/number.h"
#include "managerd/daemon.h"
#include "managerd/live_view.h"
#include "managerd/metrics.h"
#include "managerd/metrics_text.h"
#include "managerd/models.h"

#define METRICS_MAX_BYTES (8 << 20)
#define NAME(text)        METRICS_PREFIX text

/* ---- GPUs ---- */

/* A reading in base units; false: this GPU has none. */
typedef bool read_gpu(const struct pool_gpu_info *gpu, double *ret_value);

static bool read_total(const struct pool_gpu_info *gpu, double *ret_value)
{
    *ret_value = (double)gpu->vram_total_bytes;
    return gpu->is_vram_known;
}

static bool read_used(const struct pool_gpu_info *gpu, double *ret_value)
{
    *ret_value = (double)gpu->vram_used_bytes;
    return gpu->is_vram_known;
}

static bool read_temperature(const struct pool_gpu_info *gpu, double *ret_value)
{
    *ret_value = (double)gpu->temperature_celsius.value;
    return gpu->temperature_celsius.is_present;
}

static bool read_power(const struct pool_gpu_info *gpu, double *ret_value)
{
    *ret_value = (double)gpu->power_usage_mw.value / 1000;
    return gpu->power_usage_mw.is_present;
}

static bool read_utilization(const struct pool_gpu_info *gpu, double *ret_value)
{
    *ret_value = (double)gpu->utilization_percent.value / 100;
    return gpu->utilization_percent.is_present;
}

static bool read_health(const struct pool_gpu_info *gpu, double *ret_value)
{
    *ret_value = gpu->health == POOL_GPU_HEALTHY;
    return true;
}

static const struct {
    const char *name, *help;
    read_gpu *read;
} gpu_families[] = {
    { NAME("gpu_vram_total_bytes"), "Memory of the GPU.", read_total },
    { NAME("gpu_vram_used_bytes"), "Memory that the driver says is used.", read_used },
    { NAME("gpu_temperature_celsius"), "Temperature of the GPU.", read_temperature },
    { NAME("gpu_power_watts"), "Power that the GPU draws.", read_power },
    { NAME("gpu_utilization_ratio"), "Time in which the compute units worked.", read_utilization },
    { NAME("gpu_healthy"), "1 when the driver answers for the GPU and nothing is wrong with it.",
      read_health },
};

/* A gauge without labels. */
static void add_gauge(struct strbuf *out, const char *name, const char *help, double value)
{
    metrics_text_family(out, name, "gauge", help);
    metrics_text_real(out, name, NULL, NULL, value);
}

static void add_gpu_info(struct strbuf *out, const struct pool_gpu_list *gpus)
{
    metrics_text_family(out, NAME("gpu_info"), "gauge",
                        "What a GPU is called by people, as labels; always 1.");
    for (size_t i = 0; i < gpus->n_gpus; i++) {
        strbuf_printf(out, NAME("gpu_info") "{gpu=\"%s\",index=\"%" PRId64 "\",device_name=\"",
                      gpus->gpus[i]->uuid, (int64_t)gpus->gpus[i]->gpu_id);
        metrics_text_label_value(out, gpus->gpus[i]->name);
        strbuf_add_text(out, "\"} 1\n");
    }
}

/* Whose the used memory is, where the driver tells; and how far it is from what was promised. */
static void add_attribution(struct strbuf *out, const struct pool_attribution *attribution)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } families[] = {
        { NAME("gpu_vram_workers_bytes"), "Memory that processes of our workers hold.",
          offsetof(struct pool_device_use, worker_bytes) },
        { NAME("gpu_vram_foreign_bytes"), "Memory that processes hold which are not ours.",
          offsetof(struct pool_device_use, foreign_bytes) },
        { NAME("gpu_vram_unattributed_bytes"),
          "Memory that is used and that no process the driver lists holds.",
          offsetof(struct pool_device_use, unknown_bytes) },
        { NAME("gpu_vram_drift_bytes"), "What ready workers hold more than was reserved for them.",
          offsetof(struct pool_device_use, drift_bytes) },
    };
    for (size_t i = 0; attribution && i < sizeof families / sizeof families[0]; i++) {
        metrics_text_family(out, families[i].name, "gauge", families[i].help);
        for (size_t k = 0; k < attribution->n_devices; k++) {
            const struct pool_device_use *use = &attribution->devices[k];
            int64_t bytes;
            memcpy(&bytes, (const char *)use + families[i].offset, sizeof bytes);
            if (use->is_known)
                metrics_text_integer(out, families[i].name, "gpu", use->gpu_uuid, bytes);
        }
    }
}

static void add_gpus(struct strbuf *out, const struct daemon *daemon, const struct live_view *view)
{
    add_gauge(out, NAME("gpus"), "GPUs in the inventory.", (double)view->gpus->n_gpus);
    add_gpu_info(out, view->gpus);
    for (size_t i = 0; i < sizeof gpu_families / sizeof gpu_families[0]; i++) {
        metrics_text_family(out, gpu_families[i].name, "gauge", gpu_families[i].help);
        for (size_t j = 0; j < view->gpus->n_gpus; j++) {
            double value;
            if (gpu_families[i].read(view->gpus->gpus[j], &value))
                metrics_text_real(out, gpu_families[i].name, "gpu", view->gpus->gpus[j]->uuid, value);
        }
    }
    metrics_text_family(out, NAME("gpu_vram_allocated_bytes"), "gauge",
                        "Memory admitted for, or held by, workers of this pool.");
    for (size_t i = 0; i < view->n_ledgers; i++)
        metrics_text_integer(out, NAME("gpu_vram_allocated_bytes"), "gpu", view->ledgers[i].device,
                             view->ledgers[i].allocated_bytes);
    add_attribution(out, daemon->attribution);
    add_gauge(out, NAME("gpu_snapshot_age_seconds"), "Since the driver was asked last.",
              (double)gpu_monitor_snapshot(daemon->gpu_monitor).age_ms / 1000);
}

/* ---- workers ---- */

static void add_workers(struct strbuf *out, const struct live_view *view)
{
    int64_t n[POOL_WORKER_N_STATUSES] = { 0 }, n_unhealthy = 0;
    for (size_t i = 0; i < view->workers.n_workers; i++) {
        n[view->workers.workers[i]->status]++;
        n_unhealthy += !view->workers.workers[i]->is_healthy;
    }
    metrics_text_family(out, NAME("workers"), "gauge", "Live workers by status.");
    for (int i = 0; i < POOL_WORKER_STOPPED; i++)
        metrics_text_integer(out, NAME("workers"), "status",
                             pool_worker_status_name((enum pool_worker_status)i), n[i]);
    add_gauge(out, NAME("workers_unhealthy"), "Live workers that do not answer their health checks.",
              (double)n_unhealthy);
    metrics_text_family(out, NAME("worker_vram_bytes"), "gauge",
                        "What a worker was admitted for on its GPU, or holds of it when that is more.");
    for (size_t i = 0; i < view->workers.n_workers; i++) {
        const struct pool_worker_info *worker = view->workers.workers[i];
        if (worker->gpu_uuid)
            metrics_text_integer(out, NAME("worker_vram_bytes"), "worker_id", worker->worker_id,
                                 worker->observed_bytes.is_present &&
                                         worker->observed_bytes.value > worker->reserved_bytes
                                     ? worker->observed_bytes.value
                                     : worker->reserved_bytes);
    }
}

/* ---- the daemon itself ---- */

/* Resident bytes by /proc/self/statm, whose second number they are, in pages; -1 when it can not be read. */
static int64_t read_resident_bytes(void)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(256);
    int64_t pages = -1;
    if (file_read("/proc/self/statm", &text) != 0)
        return -1;
    const char *second = strchr(strbuf_text(&text), ' ');
    if (!second || !parse_int64_n(second + 1, strspn(second + 1, "0123456789"), 0, INT64_MAX / 65536, &pages))
        return -1;
    return pages * sysconf(_SC_PAGESIZE);
}

/* The names that every Prometheus client library uses, so that ready-made dashboards find them. */
static void add_process(struct strbuf *out, const struct daemon *daemon)
{
    struct timespec cpu;
    struct stat fds;
    struct rlimit limit;
    int64_t resident_bytes = read_resident_bytes();
    int64_t up_ms = (clock_boottime_ns() - daemon->started_boottime_ns) / NS_PER_MS;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) {
        metrics_text_family(out, "process_cpu_seconds_total", "counter", "CPU time of the daemon.");
        metrics_text_real(out, "process_cpu_seconds_total", NULL, NULL,
                          (double)cpu.tv_sec + (double)cpu.tv_nsec / (double)NS_PER_SEC);
    }
    if (resident_bytes >= 0)
        add_gauge(out, "process_resident_memory_bytes", "Memory of the daemon.", (double)resident_bytes);
    /* From Linux 6.2 on the size of that folder is the number of descriptors; counting them would cost too much. */
    if (stat("/proc/self/fd", &fds) == 0 && fds.st_size > 0)
        add_gauge(out, "process_open_fds", "Open descriptors.", (double)fds.st_size);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        add_gauge(out, "process_max_fds", "How many descriptors may be open.", (double)limit.rlim_cur);
    add_gauge(out, "process_start_time_seconds", "Start of the daemon, since 1970.",
              (double)(clock_wall_ms() - up_ms) / 1000);
}

static void add_build(struct strbuf *out)
{
    metrics_text_family(out, NAME("build_info"), "gauge", "The version that runs, as a label; always 1.");
    metrics_text_integer(out, NAME("build_info"), "version", pool_version(), 1);
}

void handle_metrics(struct daemon *daemon, struct http_request *request)
{
    struct pool_error error = POOL_ERROR_INIT;
    CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(METRICS_MAX_BYTES);
    CLEANUP(live_view_done) struct live_view view = { 0 };
    bool has_memory = live_view_take(daemon, &view);
    if (has_memory) {
        add_build(&out);
        add_gpus(&out, daemon, &view);
        add_workers(&out, &view);
        metrics_add_text(daemon->metrics, &out);
        add_gauge(&out, NAME("http_connections"), "Open connections to the API.",
                  (double)http_server_n_connections(daemon->http));
        add_gauge(&out, NAME("model_staged_bytes"), "Bytes of models that are staged in memory.",
                  (double)models_staged_bytes(daemon->models));
        upward_add_metrics(daemon, &out);
        add_process(&out, daemon);
    }
    size_t n = out.n;
    char *text = has_memory ? strbuf_take(&out) : NULL;
    if (text) {
        http_respond(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, n, HTTP_TAKE);
        return;
    }
    pool_error_no_memory(&error);
    http_respond_error(request, &error);
}
