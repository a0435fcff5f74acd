/*
 * The executor: order where order is asked for, a limit on what runs beside, and that what is done in order goes on while
 * the others are stuck.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "managerd/executor.h"

#define N_BESIDE (EXECUTOR_BESIDE_MAX + 8)

static uv_loop_t loop;
static uv_sem_t gate; /* jobs beside wait for it */
static uv_mutex_t lock;
static int n_running, n_most, n_done, n_ordered;
static int order[4];

static void wait_at_the_gate(void *context)
{
    (void)context;
    uv_mutex_lock(&lock);
    n_running++;
    n_most = n_running > n_most ? n_running : n_most;
    uv_mutex_unlock(&lock);
    uv_sem_wait(&gate);
    uv_mutex_lock(&lock);
    n_running--;
    uv_mutex_unlock(&lock);
}

static void count(void *context)
{
    (void)context;
    n_done++;
}

static void nothing(void *context)
{
    (void)context;
}

static void note(void *context)
{
    order[n_ordered++] = *(int *)context;
}

static void stop(void *context)
{
    (void)context;
    uv_stop(&loop);
}

static void order_goes_on_while_all_others_are_stuck(void **state)
{
    (void)state;
    struct executor *executor = NULL;
    static int numbers[] = { 0, 1, 2, 3 };
    assert_int_equal(executor_open(&loop, &executor, NULL), POOL_OK);
    for (int i = 0; i < N_BESIDE; i++)
        assert_int_equal(executor_run_beside(executor, wait_at_the_gate, count, NULL, NULL), POOL_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(executor_submit(executor, nothing, note, &numbers[i], NULL), POOL_OK);
    while (n_ordered < 4)
        uv_run(&loop, UV_RUN_ONCE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(order[i], i);
    assert_int_equal(n_done, 0);
    assert_int_equal(executor_n_jobs(executor), N_BESIDE);
    for (int i = 0; i < N_BESIDE; i++)
        uv_sem_post(&gate);
    executor_on_idle(executor, stop, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(n_done, N_BESIDE);
    assert_int_equal(executor_n_jobs(executor), 0);
    assert_in_range(n_most, 1, EXECUTOR_BESIDE_MAX);
    executor_close(executor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_goes_on_while_all_others_are_stuck),
    };
    if (uv_os_setenv("UV_THREADPOOL_SIZE", "64") != 0 || uv_loop_init(&loop) != 0 ||
        uv_sem_init(&gate, 0) != 0 || uv_mutex_init(&lock) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
