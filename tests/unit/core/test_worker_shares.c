/*
 * Shares of a worker on several devices: what is reserved where, and what is no share.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/worker_shares.h"

static struct pool_worker_info *make_worker(const char *shares)
{
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    worker->gpu_uuid = strdup("GPU-a");
    worker->reserved_bytes = 1000;
    worker->shares = shares ? strdup(shares) : NULL;
    return worker;
}

static void one_device_has_it_all(void **state)
{
    (void)state;
    bool is_there;
    struct pool_worker_info *worker = make_worker(NULL);
    assert_int_equal(pool_worker_info_reserved_on(worker, "GPU-a", &is_there), 1000);
    assert_true(is_there);
    assert_int_equal(pool_worker_info_reserved_on(worker, "host", &is_there), 0);
    assert_false(is_there);
    worker->reserved_bytes = -5;
    assert_int_equal(pool_worker_info_reserved_on(worker, "GPU-a", NULL), 0);
    free(worker->gpu_uuid);
    worker->gpu_uuid = NULL;
    worker->reserved_bytes = 7;
    assert_int_equal(pool_worker_info_reserved_on(worker, "host", &is_there), 7);
    assert_true(is_there);
    pool_worker_info_free(worker);
}

static void several_have_their_shares(void **state)
{
    (void)state;
    static const struct {
        const char *shares;
        size_t n;
    } cases[] = {
        { "GPU-a=600,GPU-b=400", 2 },
        { "GPU-a=600", 1 },
        { "", 0 },
        { "GPU-a", 0 },
        { "GPU-a=", 0 },
        { "=5", 0 },
        { "GPU-a=x", 0 },
        { "GPU-a=1,,GPU-b=2", 1 },
        { "GPU-a=-1", 0 },
        { "GPU-a=1,", 1 },
        { "GPU-a=9223372036854775808", 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_worker_info *worker = make_worker(cases[i].shares);
        char device[POOL_GPU_UUID_MAX];
        int64_t bytes;
        size_t n = 0;
        while (worker_share_at(worker, n, device, &bytes))
            n++;
        assert_int_equal(n, cases[i].n);
        pool_worker_info_free(worker);
    }
    struct pool_worker_info *worker = make_worker("GPU-a=600,GPU-b=400");
    bool is_there;
    assert_int_equal(pool_worker_info_reserved_on(worker, "GPU-b", &is_there), 400);
    assert_true(is_there);
    pool_worker_info_reserved_on(worker, "GPU-", &is_there);
    assert_false(is_there);
    assert_true(pool_worker_info_scale_reserve(worker, 500));
    assert_string_equal(worker->shares, "GPU-a=300,GPU-b=200");
    assert_int_equal(worker->reserved_bytes, 500);
    pool_worker_info_free(worker);
}

static void a_reserve_is_set_without_shares(void **state)
{
    (void)state;
    struct pool_worker_info *worker = make_worker(NULL);
    assert_true(pool_worker_info_scale_reserve(worker, 10));
    assert_int_equal(worker->reserved_bytes, 10);
    assert_null(worker->shares);
    pool_worker_info_free(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_device_has_it_all),
        cmocka_unit_test(several_have_their_shares),
        cmocka_unit_test(a_reserve_is_set_without_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
