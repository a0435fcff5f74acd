/*
 * Staging a cold file into RAM, beside `vmtouch -t` on the same file. Its pages are dropped before each.
 * Usage: stage FILE VMTOUCH N
 */
#include <fcntl.h>
#include <uv.h>

#include "bare.h"
#include "managerd/stage_reader.h"

static int64_t run_vmtouch(char *program, char *path)
{
    char *argv[] = { program, "-q", "-t", path, NULL };
    siginfo_t end = { 0 };
    pid_t pid;
    int64_t start_ns = clock_boottime_ns();
    int failure = posix_spawn(&pid, program, NULL, NULL, argv, environ);
    if (failure)
        die("%s: %s", program, strerror(failure));
    if (waitid(P_PID, (id_t)pid, &end, WEXITED) < 0 || end.si_status != 0)
        die("%s failed", program);
    return clock_boottime_ns() - start_ns;
}

static void work(void *context)
{
    stage_reader_work(context);
}

static int64_t stage(const char *path)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct stage_reader *reader = NULL;
    uv_thread_t threads[STAGE_THREADS];
    int64_t start_ns = clock_boottime_ns();
    expect_ok(stage_reader_open(&path, 1, false, &reader, &err), &err);
    for (int i = 0; i < STAGE_THREADS; i++) {
        if (uv_thread_create(&threads[i], work, reader) != 0)
            die("no thread");
    }
    for (int i = 0; i < STAGE_THREADS; i++)
        uv_thread_join(&threads[i]);
    expect_ok(stage_reader_result(reader, &err), &err);
    int64_t end_ns = clock_boottime_ns();
    stage_reader_close(reader);
    return end_ns - start_ns;
}

static void make_cold(const char *path)
{
    int64_t resident_bytes = 0;
    stage_drop(&path, 1);
    if (stage_measure(&path, 1, &resident_bytes) && resident_bytes > 1 << 20)
        die("%s stays in memory: is it on a disk?", path);
}

int main(int argc, char **argv)
{
    struct samples staged = { 0 };
    struct samples vmtouch = { 0 };
    if (argc != 4)
        die("usage: stage FILE VMTOUCH N");
    for (int64_t i = count_argument(argv[3]); i > 0; i--) {
        make_cold(argv[1]);
        add_sample(&vmtouch, run_vmtouch(argv[2], argv[1]));
        make_cold(argv[1]);
        add_sample(&staged, stage(argv[1]));
    }
    report("staged", &staged);
    report("vmtouch", &vmtouch);
    return 0;
}
