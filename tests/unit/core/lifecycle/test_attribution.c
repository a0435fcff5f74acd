/*
 * Whose a process is: by its pid, its session, its parents, and by the pid that it has in another namespace; and the sums
 * of a device, to which every byte belongs once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/lifecycle/attribution.h"

static void the_last_pid_of_nspid_counts(void **state)
{
    (void)state;
    static const struct {
        const char *status;
        int64_t pid; /* 0: none */
    } cases[] = {
        { "Name:\tx\nNSpid:\t4711\nNSpgid:\t1\n", 4711 },
        { "Name:\tx\nNSpid:\t4711\t12\t1\nNSpgid:\t9\n", 1 },
        { "Name:\tx\nNSpid:\t\n", 0 },
        { "NSpid:\t5\n", 0 },
        { "Name:\tx\nNSpid:\t0\n", 0 },
        { "Name:\tx\nNSpid:\t99999999999999999999\n", 0 },
        { "Name:\tx\nNSpid:\t5", 5 },
        { "", 0 },
        { "Name:\tx\nNSpid:\t5x\n", 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t pid = 0;
        assert_int_equal(attribution_parse_nspid(cases[i].status, &pid), cases[i].pid != 0);
        assert_int_equal(pid, cases[i].pid);
    }
}

/* A child in a session of its own, as workers are, whose child lives on. *ret_stop ends both when it is closed. */
static pid_t start_tree(pid_t *ret_grandchild, int *ret_stop)
{
    int told[2], stop[2];
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(stop), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char byte;
        setsid();
        close(stop[1]);
        pid_t grandchild = fork();
        if (grandchild > 0)
            (void)!write(told[1], &grandchild, sizeof grandchild);
        _exit(read(stop[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(stop[0]);
    close(told[1]);
    assert_int_equal(read(told[0], ret_grandchild, sizeof *ret_grandchild), sizeof *ret_grandchild);
    close(told[0]);
    *ret_stop = stop[1];
    return child;
}

static struct pool_worker_info *make_worker(const char *id, pid_t pid, uint64_t pid_namespace,
                                            int64_t reserved)
{
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    worker->worker_id = strdup(id);
    worker->gpu_uuid = strdup("GPU-a");
    worker->process.pid = pid;
    worker->process.pid_namespace = pid_namespace;
    worker->reserved_bytes = reserved;
    worker->ready_boottime_ns = 1;
    return worker;
}

static void a_tree_belongs_to_its_worker(void **state)
{
    (void)state;
    struct host_identity host;
    pid_t grandchild;
    int stop;
    assert_int_equal(host_identity_read(&host), 0);
    pid_t child = start_tree(&grandchild, &stop);
    struct pool_worker_info *workers[] = { make_worker("other", 1, host.pid_namespace, 1),
                                           make_worker("w", child, host.pid_namespace, 1) };
    struct pool_worker_list live = { 2, workers };
    size_t index = 99;
    assert_true(attribution_find_owner(&host, &live, child, &index));
    assert_int_equal(index, 1);
    index = 99;
    assert_true(attribution_find_owner(&host, &live, grandchild, &index));
    assert_int_equal(index, 1);
    assert_false(attribution_find_owner(&host, &live, getpid(), &index));
    assert_false(attribution_find_owner(&host, &live, 0, &index));
    /* The same number in another namespace is another process. */
    workers[1]->process.pid_namespace = host.pid_namespace + 1;
    assert_false(attribution_find_owner(&host, &live, child, &index));
    close(stop);
    waitpid(child, NULL, 0);
    for (size_t i = 0; i < 2; i++)
        pool_worker_info_free(workers[i]);
}

static void every_byte_belongs_to_somebody_once(void **state)
{
    (void)state;
    struct host_identity host;
    assert_int_equal(host_identity_read(&host), 0);
    struct pool_worker_info *workers[] = { make_worker("w", getpid(), host.pid_namespace, 700) };
    struct pool_worker_list live = { 1, workers };
    struct pool_gpu_process processes[] = {
        { .pid = getpid(), .used_vram_bytes = { true, 500 } },
        { .pid = getppid(), .used_vram_bytes = { true, 200 }, .is_graphics = true },
        { .pid = 0, .used_vram_bytes = { true, 50 } },
        { .pid = 1, .used_vram_bytes = { false, 0 } },
        { .pid = 1, .used_vram_bytes = { true, INT64_MAX } }, /* more than there is: not said */
    };
    struct pool_gpu_info gpu = { .gpu_id = 3,
                                 .uuid = "GPU-a",
                                 .is_vram_known = true,
                                 .vram_total_bytes = 2000,
                                 .vram_used_bytes = 1000,
                                 .vram_reserved_bytes = { true, 30 },
                                 .are_processes_known = true,
                                 .n_processes = 5,
                                 .processes = processes };
    struct pool_gpu_info *list[] = { &gpu };
    struct pool_gpu_list gpus = { .n_gpus = 1, .gpus = list };
    struct pool_attribution *attribution = NULL;
    assert_int_equal(pool_attribution_make(&gpus, &live, &attribution, NULL), POOL_OK);
    assert_int_equal(attribution->n_processes, 5);
    assert_false(attribution->processes[4].used_vram_bytes.is_present);
    assert_int_equal(attribution->n_devices, 1);
    const struct pool_device_use *use = &attribution->devices[0];
    assert_int_equal(use->used_bytes, 1000);
    assert_int_equal(use->driver_bytes, 30);
    assert_int_equal(use->worker_bytes + use->foreign_bytes, 750);
    assert_int_equal(use->unknown_bytes, 250);
    assert_true(use->is_known);
    if (attribution_sees_drivers_pids(&host)) {
        assert_string_equal(attribution->processes[0].worker_id, "w");
        assert_string_equal(attribution->processes[1].worker_id, "");
        assert_true(attribution->processes[0].command[0] != '\0');
        assert_int_equal(use->worker_bytes, 500);
        assert_int_equal(use->promised_bytes, 700);
        assert_int_equal(use->drift_bytes, -200);
    } else {
        assert_string_equal(attribution->processes[0].worker_id, "");
        assert_int_equal(use->worker_bytes, 0);
    }
    pool_attribution_free(attribution);
    pool_worker_info_free(workers[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_pid_of_nspid_counts),
        cmocka_unit_test(a_tree_belongs_to_its_worker),
        cmocka_unit_test(every_byte_belongs_to_somebody_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
