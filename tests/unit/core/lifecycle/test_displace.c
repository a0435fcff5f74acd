/*
 * Whom a start displaces: the choice against all subsets of small sets, and who may be chosen at all. The numbers are of a
 * generator with a fixed seed, so that a failure can be had again.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/lifecycle/displace.h"

#define N_MAX 9

static uint64_t seed = 20260731;

static int64_t random_below(int64_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)((seed >> 33) % (uint64_t)n);
}

struct world {
    char ids[N_MAX][16];
    struct pool_worker_info workers[N_MAX];
    struct displace_candidate candidates[N_MAX];
    int64_t missing_bytes[3];
    size_t n, n_devices;
};

static void make_world(struct world *world)
{
    memset(world, 0, sizeof *world);
    world->n = (size_t)random_below(N_MAX + 1);
    world->n_devices = 1 + (size_t)random_below(3);
    for (size_t i = 0; i < world->n; i++) {
        struct displace_candidate *candidate = &world->candidates[i];
        snprintf(world->ids[i], sizeof world->ids[i], "w%zu", i);
        world->workers[i].worker_id = world->ids[i];
        candidate->worker = &world->workers[i];
        candidate->idle_since_ns = random_below(4); /* few values, so that there are ties */
        candidate->total_bytes = random_below(3);   /* on devices that are not asked for */
        for (size_t d = 0; d < world->n_devices; d++) {
            candidate->gives_bytes[d] = random_below(2) ? random_below(8) : 0;
            candidate->total_bytes += candidate->gives_bytes[d];
        }
    }
    for (size_t d = 0; d < world->n_devices; d++)
        world->missing_bytes[d] = random_below(16) - 3;
}

static bool is_enough(const struct world *world, unsigned set)
{
    for (size_t d = 0; d < world->n_devices; d++) {
        int64_t sum = 0;
        for (size_t i = 0; i < world->n; i++)
            sum += set >> i & 1 ? world->candidates[i].gives_bytes[d] : 0;
        if (sum < world->missing_bytes[d])
            return false;
    }
    return true;
}

static int64_t total_of(const struct world *world, unsigned set)
{
    int64_t sum = 0;
    for (size_t i = 0; i < world->n; i++)
        sum += set >> i & 1 ? world->candidates[i].total_bytes : 0;
    return sum;
}

/* When those of a set were used, the last of them first. */
static size_t list_uses(const struct world *world, unsigned set, int64_t *uses)
{
    size_t n = 0;
    for (int64_t at = 3; at >= 0; at--) {
        for (size_t i = 0; i < world->n; i++) {
            if (set >> i & 1 && world->candidates[i].idle_since_ns == at)
                uses[n++] = at;
        }
    }
    return n;
}

/* < 0: a is better. Only the ids are left out. */
static int compare_sets(const struct world *world, unsigned a, unsigned b)
{
    int n_a = __builtin_popcount(a), n_b = __builtin_popcount(b);
    if (n_a != n_b)
        return n_a - n_b;
    int64_t total_a = total_of(world, a), total_b = total_of(world, b);
    if (total_a != total_b)
        return total_a < total_b ? -1 : 1;
    int64_t uses_a[N_MAX], uses_b[N_MAX];
    size_t n = list_uses(world, a, uses_a);
    (void)list_uses(world, b, uses_b);
    for (size_t i = 0; i < n; i++) {
        if (uses_a[i] != uses_b[i])
            return uses_a[i] < uses_b[i] ? -1 : 1;
    }
    return 0;
}

static void test_the_best_of_all_sets(void **state)
{
    (void)state;
    size_t n_possible = 0, n_several = 0;
    for (int round = 0; round < 20000; round++) {
        struct world world;
        bool is_chosen[N_MAX] = { false }, is_no_memory;
        make_world(&world);
        bool is_found = displace_choose(world.candidates, world.n, world.missing_bytes, world.n_devices,
                                        is_chosen, &is_no_memory);
        unsigned chosen = 0, all = (1U << world.n) - 1;
        for (size_t i = 0; i < world.n; i++)
            chosen |= is_chosen[i] ? 1U << i : 0;
        assert_false(is_no_memory);
        assert_int_equal(is_found, is_enough(&world, all));
        if (!is_found) {
            assert_int_equal(chosen, 0);
            continue;
        }
        assert_true(is_enough(&world, chosen));
        for (unsigned set = 0; set <= all; set++) {
            if (is_enough(&world, set) && compare_sets(&world, set, chosen) < 0)
                fail_msg("round %d: set %x is better than %x", round, set, chosen);
        }
        n_possible++;
        n_several += __builtin_popcount(chosen) > 1;
    }
    assert_true(n_possible > 2000 && n_several > 1000);
}

/* Ties are decided by ids, whatever the order in which the workers are listed. */
static void test_the_order_does_not_matter(void **state)
{
    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct world world;
        bool is_chosen[N_MAX] = { false }, is_chosen_again[N_MAX] = { false }, is_no_memory;
        struct displace_candidate turned[N_MAX];
        make_world(&world);
        for (size_t i = 0; i < world.n; i++)
            turned[i] = world.candidates[world.n - 1 - i];
        bool is_found = displace_choose(world.candidates, world.n, world.missing_bytes, world.n_devices,
                                        is_chosen, &is_no_memory);
        assert_int_equal(displace_choose(turned, world.n, world.missing_bytes, world.n_devices,
                                         is_chosen_again, &is_no_memory),
                         is_found);
        for (size_t i = 0; i < world.n; i++)
            assert_int_equal(is_chosen[i], is_chosen_again[world.n - 1 - i]);
    }
}

/* More sets than can be looked at: still the fewest workers, on one device. */
static void test_many(void **state)
{
    (void)state;
    enum { N = 600 };
    static struct displace_candidate candidates[N];
    static struct pool_worker_info workers[N];
    static char ids[N][16];
    static bool is_chosen[N];
    bool is_no_memory;
    for (size_t i = 0; i < N; i++) {
        snprintf(ids[i], sizeof ids[i], "w%zu", i);
        workers[i].worker_id = ids[i];
        candidates[i] = (struct displace_candidate){ .worker = &workers[i],
                                                     .total_bytes = 1000 + (int64_t)i,
                                                     .gives_bytes = { 1000 + (int64_t)i } };
    }
    int64_t missing = 0; /* what the 40 largest give */
    for (size_t i = N - 40; i < N; i++)
        missing += candidates[i].gives_bytes[0];
    for (int64_t less = 0; less < 2000; less += 777) {
        int64_t need = missing - less, sum = 0;
        size_t n = 0;
        assert_true(displace_choose(candidates, N, &need, 1, is_chosen, &is_no_memory));
        for (size_t i = 0; i < N; i++) {
            n += is_chosen[i];
            sum += is_chosen[i] ? candidates[i].gives_bytes[0] : 0;
        }
        assert_true(sum >= need);
        assert_int_equal(n, less < 1560 ? 40 : 39);
    }
    int64_t too_much = INT64_MAX;
    assert_false(displace_choose(candidates, N, &too_much, 1, is_chosen, &is_no_memory));
    int64_t nothing = 0;
    assert_true(displace_choose(candidates, N, &nothing, 1, is_chosen, &is_no_memory));
    for (size_t i = 0; i < N; i++)
        assert_false(is_chosen[i]);
}

/* ---- who may be stopped ---- */

#define GPU   "GPU-00000000-0000-4000-8000-000000000001"
#define OTHER "GPU-00000000-0000-4000-8000-000000000002"

struct row {
    const char *id, *gpu, *team;
    enum pool_worker_status status;
    enum pool_activity activity;
    int64_t n_requests; /* -1: it did not say */
    bool is_taken, is_taken_busy;
};

static const struct row rows[] = {
    { "idle", GPU, "a", POOL_WORKER_IDLE, POOL_ACTIVITY_LLAMA_SERVER, 0, true, true },
    { "ready", GPU, "a", POOL_WORKER_READY, POOL_ACTIVITY_VLLM, 0, true, true },
    /* what it says now counts, not what was seen last */
    { "was-busy", GPU, "a", POOL_WORKER_BUSY, POOL_ACTIVITY_VLLM, 0, true, true },
    { "was-idle", GPU, "a", POOL_WORKER_IDLE, POOL_ACTIVITY_VLLM, 1, false, true },
    { "mute", GPU, "a", POOL_WORKER_IDLE, POOL_ACTIVITY_VLLM, -1, false, true },
    { "silent", GPU, "a", POOL_WORKER_READY, POOL_ACTIVITY_NONE, -1, false, true },
    { "starting", GPU, "a", POOL_WORKER_SPAWNING, POOL_ACTIVITY_VLLM, 0, false, false },
    { "stopping", GPU, "a", POOL_WORKER_STOPPING, POOL_ACTIVITY_VLLM, 0, false, false },
    { "elsewhere", OTHER, "a", POOL_WORKER_IDLE, POOL_ACTIVITY_VLLM, 0, false, false },
    { "unnamed", GPU, "b", POOL_WORKER_IDLE, POOL_ACTIVITY_VLLM, 0, false, false },
    { "no-label", GPU, NULL, POOL_WORKER_IDLE, POOL_ACTIVITY_VLLM, 0, false, false },
    { "self", GPU, "a", POOL_WORKER_IDLE, POOL_ACTIVITY_VLLM, 0, false, false },
};
#define N_ROWS (sizeof rows / sizeof rows[0])

struct field_of_rows {
    struct pool_worker_list live;
    struct devices devices;
    struct activity_looks looks;
    struct pool_ledger ledger;
};

static void make_field(struct field_of_rows *field)
{
    memset(field, 0, sizeof *field);
    field->live.workers = calloc(N_ROWS, sizeof(struct pool_worker_info *));
    field->looks.at = calloc(N_ROWS, sizeof *field->looks.at);
    assert_true(field->live.workers && field->looks.at);
    for (size_t i = 0; i < N_ROWS; i++) {
        struct pool_worker_info *worker = pool_worker_info_new();
        assert_non_null(worker);
        worker->worker_id = strdup(rows[i].id);
        worker->gpu_uuid = strdup(rows[i].gpu);
        worker->status = rows[i].status;
        worker->activity = rows[i].activity;
        worker->reserved_bytes = 100;
        if (rows[i].team)
            assert_int_equal(pool_worker_info_set_label(worker, "team", rows[i].team, NULL), POOL_OK);
        field->live.workers[field->live.n_workers++] = worker;
        struct activity_look *look = &field->looks.at[field->looks.n++];
        snprintf(look->worker_id, sizeof look->worker_id, "%s", rows[i].id);
        look->n_requests = (struct pool_reading){ rows[i].n_requests >= 0, rows[i].n_requests };
    }
    snprintf(field->ledger.device, sizeof field->ledger.device, "%s", GPU);
}

static void free_field(struct field_of_rows *field)
{
    for (size_t i = 0; i < field->live.n_workers; i++)
        pool_worker_info_free(field->live.workers[i]);
    free(field->live.workers);
    activity_looks_done(&field->looks);
}

static bool is_found(const struct displace_candidates *found, const char *id)
{
    for (size_t i = 0; i < found->n; i++) {
        if (strcmp(found->at[i].worker->worker_id, id) == 0)
            return true;
    }
    return false;
}

static void test_who_may_be_stopped(void **state)
{
    (void)state;
    char team[] = "team", a[] = "a";
    struct pool_label label = { team, a };
    static const struct pool_config config = { 0 };
    struct field_of_rows field;
    make_field(&field);
    for (int is_busy_too = 0; is_busy_too < 2; is_busy_too++) {
        struct pool_may_displace may_displace = { .n_labels = 1, .labels = &label };
        if (is_busy_too)
            may_displace.idle_only = (struct pool_reading){ true, 0 };
        const struct pool_ledger *ledgers[] = { &field.ledger };
        struct displace_question question = { .config = &config,
                                              .may_displace = &may_displace,
                                              .live = &field.live,
                                              .devices = &field.devices,
                                              .looks = &field.looks,
                                              .self_id = "self",
                                              .now_ns = 1000,
                                              .ledgers = ledgers,
                                              .n_devices = 1 };
        struct displace_candidates found = { 0 };
        assert_int_equal(displace_find(&question, &found, NULL), POOL_OK);
        for (size_t i = 0; i < N_ROWS; i++) {
            if (is_found(&found, rows[i].id) != (is_busy_too ? rows[i].is_taken_busy : rows[i].is_taken))
                fail_msg("%s, busy too: %d", rows[i].id, is_busy_too);
        }
        assert_non_null(strstr(found.spared, "starting: is starting"));
        assert_null(strstr(found.spared, "unnamed"));
        displace_candidates_done(&found);
    }
    free_field(&field);
}

static void test_who_is_named(void **state)
{
    (void)state;
    char name[] = "team", other[] = "tier", value[] = "a", low[] = "low", id[] = "no-label";
    struct pool_label labels[] = { { name, value }, { other, low } };
    char *ids[] = { id };
    struct field_of_rows field;
    make_field(&field);
    struct pool_may_displace nobody = { .idle_only = { true, 0 } };
    struct pool_may_displace by_id = { .n_worker_ids = 1, .worker_ids = ids };
    struct pool_may_displace by_two = { .n_labels = 2, .labels = labels };
    struct pool_may_displace by_both = {
        .n_worker_ids = 1, .worker_ids = ids, .n_labels = 1, .labels = labels
    };
    assert_int_equal(pool_worker_info_set_label(field.live.workers[0], "tier", "low", NULL), POOL_OK);
    for (size_t i = 0; i < N_ROWS; i++) {
        const struct pool_worker_info *worker = field.live.workers[i];
        bool is_it = strcmp(rows[i].id, id) == 0, is_team = rows[i].team && strcmp(rows[i].team, "a") == 0;
        assert_false(displace_is_named(&nobody, worker));
        assert_int_equal(displace_is_named(&by_id, worker), is_it);
        assert_int_equal(displace_is_named(&by_two, worker), i == 0);
        assert_int_equal(displace_is_named(&by_both, worker), is_it || is_team);
    }
    free_field(&field);
}

/* ---- the arithmetic ---- */

static void test_what_a_stop_gives_back(void **state)
{
    (void)state;
    struct pool_ledger ledger = { .total_bytes = 100,
                                  .used_bytes = 60,
                                  .free_bytes = 40,
                                  .pending_bytes = 50,
                                  .releasing_bytes = 10,
                                  .headroom_bytes = 5,
                                  .allocated_bytes = 80,
                                  .n_workers = 3 };
    assert_int_equal(displace_room_bytes(&ledger), -15);
    displace_from_ledger(&ledger, &(struct displace_holding){ .reserved_bytes = 30, .observed_bytes = 20 });
    assert_int_equal(ledger.free_bytes, 60);
    assert_int_equal(ledger.pending_bytes, 40);
    assert_int_equal(ledger.allocated_bytes, 50);
    assert_int_equal(ledger.available_bytes, 15);
    /* it holds more than it was promised: all of that comes free, and no promise goes */
    displace_from_ledger(&ledger, &(struct displace_holding){ .reserved_bytes = 10, .observed_bytes = 20 });
    assert_int_equal(ledger.free_bytes, 80);
    assert_int_equal(ledger.pending_bytes, 40);
    assert_int_equal(ledger.n_workers, 1);
    displace_release(&ledger);
    assert_int_equal(ledger.free_bytes, 90);
    assert_int_equal(ledger.releasing_bytes, 0);
    assert_int_equal(ledger.available_bytes, 45);
    ledger.elsewhere_bytes = 15; /* what another manager has promised comes free by nobody's stop here */
    assert_int_equal(displace_room_bytes(&ledger), 30);
    displace_release(&ledger);
    assert_int_equal(ledger.available_bytes, 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_best_of_all_sets),
        cmocka_unit_test(test_the_order_does_not_matter),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_who_may_be_stopped),
        cmocka_unit_test(test_who_is_named),
        cmocka_unit_test(test_what_a_stop_gives_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
