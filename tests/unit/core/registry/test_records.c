/*
 * The set of records in memory, against a plain list: thousands of random additions and removals, with many
 * neighbours in the table, as the removal from an open addressing table is easily wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "core/registry/records.h"
#include "sample_worker.h"

#define N_IDS   300
#define N_STEPS 20000

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static struct record *make_record(const struct record_set *set, unsigned number, int64_t created_wall_ms)
{
    char id[16];
    snprintf(id, sizeof id, "w%u", number);
    struct pool_worker_info *worker = small_worker(id, number % 3 == 0 ? 0 : 8000 + number);
    assert_non_null(worker);
    worker->created_wall_ms = created_wall_ms;
    struct record *record = record_new(set, worker);
    pool_worker_info_free(worker);
    assert_non_null(record);
    return record;
}

static void check_order(const struct record_set *set, size_t n)
{
    assert_int_equal(set->n, n);
    for (size_t i = 1; i < n; i++) {
        const struct pool_worker_info *a = &set->ordered[i - 1]->worker;
        const struct pool_worker_info *b = &set->ordered[i]->worker;
        assert_true(a->created_wall_ms < b->created_wall_ms ||
                    (a->created_wall_ms == b->created_wall_ms && strcmp(a->worker_id, b->worker_id) < 0));
    }
}

static void test_random_changes(void **state)
{
    (void)state;
    struct record_set set = { 0 };
    struct record *expected[N_IDS] = { NULL };
    uint32_t random = 1;
    size_t n = 0;
    assert_true(record_set_init(&set));
    for (int step = 0; step < N_STEPS; step++) {
        unsigned number = next_random(&random) % N_IDS;
        if (expected[number]) {
            record_set_remove(&set, expected[number]);
            free(expected[number]);
            expected[number] = NULL;
            n--;
        } else {
            expected[number] = make_record(&set, number, next_random(&random) % 50);
            assert_true(record_set_reserve(&set));
            record_set_add(&set, expected[number]);
            n++;
        }
        unsigned probe = next_random(&random) % N_IDS;
        char id[16];
        snprintf(id, sizeof id, "w%u", probe);
        assert_ptr_equal(record_set_find(&set, id), expected[probe]);
        assert_ptr_equal(record_set_find_port(&set, 8000 + probe), probe % 3 == 0 ? NULL : expected[probe]);
        if (step % 500 == 0)
            check_order(&set, n);
    }
    for (unsigned i = 0; i < N_IDS; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%u", i);
        assert_ptr_equal(record_set_find(&set, id), expected[i]);
    }
    assert_null(record_set_find_port(&set, 0));
    assert_null(record_set_find_port(&set, -1));
    assert_null(record_set_find_port(&set, 65536));
    record_set_done(&set);
}

static void test_a_record_holds_everything(void **state)
{
    (void)state;
    struct record_set set = { 0 };
    assert_true(record_set_init(&set));
    struct pool_worker_info *worker = full_worker("full", 4);
    assert_non_null(worker);
    struct record *record = record_new(&set, worker);
    assert_non_null(record);
    assert_null(differing_field(worker, &record->worker));
    for (size_t i = 0; i < WORKER_N_TEXTS; i++)
        assert_ptr_not_equal(*worker_text(&record->worker, i), *worker_text(worker, i));
    pool_worker_info_free(worker);
    free(record);
    record_set_done(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_changes),
        cmocka_unit_test(test_a_record_holds_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
