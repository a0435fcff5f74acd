/*
 * Whether an engine can really use a GPU: llama-server built without CUDA accepts -ngl, runs on the CPU and calls
 * itself healthy. So its program is run once with the backend's device_check arguments, and must name a device. The
 * answer is remembered per binary (path, device, inode, size, mtime) below the state directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "core/lifecycle/plan.h"
#include "core/lifecycle/process.h"

/* The first touch of a GPU without persistence mode takes seconds per device (reference: nvml, section 7). */
#define DEVICE_CHECK_TIMEOUT_MS 60000
#define DEVICE_CHECK_OUTPUT_MAX 65536
/* Between the end of its output, or SIGKILL, and its end. A program that is stuck in the driver never gets there. */
#define EXIT_WAIT_MS 5000

/* Device lines of `llama-server --list-devices` are "  CUDA0: NAME (… MiB, … MiB free)"; a CPU-only build has none. */
static bool names_a_device(const char *output)
{
    static const char *const kinds[] = { "CUDA", "ROCm", "Vulkan", "SYCL" };
    for (const char *line = output; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        const char *word = line + strspn(line, " \t");
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            size_t n = strlen(kinds[i]);
            size_t n_digits = strncmp(word, kinds[i], n) == 0 ? strspn(word + n, "0123456789") : 0;
            if (n_digits > 0 && word[n + n_digits] == ':')
                return true;
        }
    }
    return false;
}

/* Reads until the end of the output or the deadline; what is longer than the buffer is read and thrown away. */
static void read_output(int fd, struct strbuf *output)
{
    int64_t deadline_ns = clock_boottime_ns() + DEVICE_CHECK_TIMEOUT_MS * NS_PER_MS;
    for (;;) {
        int64_t left_ms = (deadline_ns - clock_boottime_ns()) / NS_PER_MS;
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (left_ms <= 0 || poll(&p, 1, (int)left_ms) == 0)
            return;
        char chunk[4096];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        strbuf_add(output, chunk, (size_t)n);
    }
}

enum pool_code program_ask(const struct pool_backend *backend, const char *program, const char *const *words,
                           size_t n_words, const char *const *inherited, struct strbuf *output,
                           struct pool_error *err)
{
    CLEANUP(string_list_done) struct string_list argv = { 0 };
    CLEANUP(string_list_done) struct string_list environment = { 0 };
    struct pool_worker_spawn_request nothing = { 0 };
    struct command_values values = { .gpu_uuid = "",
                                     .worker_id = "device-check",
                                     .model_path = "",
                                     .host = "",
                                     .callback_url = "",
                                     .is_every_device_visible = true };
    string_list_add(&argv, program);
    for (size_t i = 0; i < n_words; i++)
        string_list_add(&argv, words[i]);
    enum pool_code code = environment_build(inherited, backend, &nothing, &values, &environment, err);
    if (code != POOL_OK)
        return code;
    if (argv.has_failed)
        return pool_error_no_memory(err);
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "pipe");
    CLEANUP_CLOSE int read_fd = pipe_fds[0];
    CLEANUP_CLOSE int write_fd = pipe_fds[1];
    pid_t pid;
    int failure = process_spawn(argv.at, environment.at, write_fd, &pid);
    if (failure)
        return pool_error_set_errno(err, POOL_BACKEND_UNAVAILABLE, failure, "%s", program);
    close(take_fd(&write_fd));
    CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "pidfd of %s", program);
    read_output(read_fd, output);
    if (pidfd_wait(pidfd, -1, EXIT_WAIT_MS) != PIDFD_ENDED)
        kill(-pid, SIGKILL); /* its own session, whose leader is our child and not reaped yet */
    if (pidfd_wait(pidfd, -1, EXIT_WAIT_MS) != PIDFD_ENDED)
        return pool_error_set(err, POOL_BACKEND_UNAVAILABLE, "%s hangs in the driver and can not be killed",
                              program);
    process_end_read(pidfd, pid);
    return POOL_OK;
}

static bool make_proof(const char *program, const struct pool_backend *backend, struct strbuf *proof)
{
    struct stat st;
    if (stat(program, &st) < 0)
        return false;
    strbuf_printf(proof, "%s\n%ju %ju %jd %jd.%09ld\n", program, (uintmax_t)st.st_dev, (uintmax_t)st.st_ino,
                  (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    for (size_t i = 0; i < backend->n_device_check; i++)
        strbuf_printf(proof, "%s\n", backend->device_check[i]);
    return proof->failure == STRBUF_FINE;
}

enum pool_code device_check_run(const struct pool_backend *backend, const char *program,
                                const char *const *environment, const char *state_dir, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf proof = STRBUF_INIT(65536);
    CLEANUP(strbuf_done) struct strbuf known = STRBUF_INIT(65536);
    CLEANUP(strbuf_done) struct strbuf output = STRBUF_INIT(DEVICE_CHECK_OUTPUT_MAX);
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/device-check.%s", state_dir, backend->name) < 0)
        return pool_error_no_memory(err);
    bool is_proof_made = make_proof(program, backend, &proof);
    if (is_proof_made && file_read(path, &known) == 0 &&
        strcmp(strbuf_text(&known), strbuf_text(&proof)) == 0)
        return POOL_OK;
    enum pool_code code = program_ask(backend, program, (const char *const *)backend->device_check,
                                      backend->n_device_check, environment, &output, err);
    if (code != POOL_OK)
        return code;
    if (!names_a_device(strbuf_text(&output))) {
        pool_error_set(
            err, POOL_BACKEND_UNAVAILABLE,
            "%s sees no GPU: it was built without GPU support, or the driver does not work (%s lists none)",
            program, backend->device_check[0]);
        pool_error_add_text(err, "program", program);
        return POOL_BACKEND_UNAVAILABLE;
    }
    if (is_proof_made) /* a proof that can not be written is made again next time */
        (void)!file_replace(path, strbuf_text(&proof), proof.n, 0600);
    return POOL_OK;
}
