/*
 * The registry in memory: `get` in random order, with as many records as told. A get gives a deep copy, which its caller
 * frees: measured with and without that. Beside it a copy of one record and its release, with nothing looked up.
 * Usage: registry_memory N_RECORDS N_BATCHES
 */
#include "records.h"

#define BATCH 1000
#define FEW   8 /* copies at a time, as an allocator sees from a caller that frees what it was given */

static uint64_t next_random(uint64_t *state) /* xorshift64: Marsaglia, "Xorshift RNGs", 2003 */
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

int main(int argc, char **argv)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_registry *registry = NULL;
    struct samples gets = { 0 };
    struct samples gets_and_frees = { 0 };
    struct samples copies = { 0 };
    char url[64];
    uint64_t seed = 88172645463325252;
    if (argc != 3)
        die("usage: registry_memory N_RECORDS N_BATCHES");
    int64_t n = count_argument(argv[1]);
    snprintf(url, sizeof url, "memory:?max_workers=%" PRId64, n);
    expect_ok(pool_worker_registry_open(url, &registry, &err), &err);
    for (int64_t i = 0; i < n; i++) {
        struct pool_worker_info *worker = make_record(i);
        worker->created_wall_ms = i;
        expect_ok(pool_worker_registry_register(registry, worker, &err), &err);
        pool_worker_info_free(worker);
    }
    struct pool_worker_info *sample = make_record(0);
    static char ids[BATCH][POOL_WORKER_ID_MAX + 1];
    for (int64_t batch = count_argument(argv[2]); batch > 0; batch--) {
        for (int i = 0; i < BATCH; i++)
            snprintf(ids[i], sizeof ids[i], "worker-00000000-0000-4000-8000-%012" PRIu64,
                     next_random(&seed) % (uint64_t)n);
        int64_t get_ns = 0;
        int64_t start_ns = clock_boottime_ns();
        for (int i = 0; i < BATCH; i += FEW) {
            struct pool_worker_info *workers[FEW];
            int64_t from_ns = clock_boottime_ns();
            for (int j = 0; j < FEW; j++) {
                if (pool_worker_registry_get(registry, ids[i + j], &workers[j], &err) != POOL_OK)
                    die("%s: %s", ids[i + j], err.message);
            }
            get_ns += clock_boottime_ns() - from_ns;
            for (int j = 0; j < FEW; j++)
                pool_worker_info_free(workers[j]);
        }
        int64_t middle_ns = clock_boottime_ns();
        for (int i = 0; i < BATCH; i++)
            pool_worker_info_free(pool_worker_info_copy(sample));
        int64_t end_ns = clock_boottime_ns();
        add_sample(&gets, get_ns / BATCH);
        add_sample(&gets_and_frees, (middle_ns - start_ns) / BATCH);
        add_sample(&copies, (end_ns - middle_ns) / BATCH);
    }
    report("get", &gets);
    report("get_and_free", &gets_and_frees);
    report("copy", &copies);
    pool_worker_info_free(sample);
    pool_worker_registry_close(registry);
    return 0;
}
