/*
 * Verifying a model's file: hashed, beside `openssl dgst -sha256` on the same file; and remembered, beside one stat().
 * Usage: verify FILE OPENSSL N
 */
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <sys/stat.h>

#include <pool/catalog.h>

#include "bare.h"

static int64_t run_openssl(char *program, char *path)
{
    char *argv[] = { program, "dgst", "-sha256", path, NULL };
    posix_spawn_file_actions_t actions;
    siginfo_t end = { 0 };
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    int64_t start_ns = clock_boottime_ns();
    int failure = posix_spawn(&pid, program, &actions, NULL, argv, environ);
    if (failure)
        die("%s: %s", program, strerror(failure));
    if (waitid(P_PID, (id_t)pid, &end, WEXITED) < 0 || end.si_status != 0)
        die("%s failed", program);
    int64_t end_ns = clock_boottime_ns();
    posix_spawn_file_actions_destroy(&actions);
    return end_ns - start_ns;
}

static int64_t verify(const struct pool_model *model, const struct pool_verify_options *options,
                      bool *ret_was_remembered)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_verify_result result = { 0 };
    int64_t start_ns = clock_boottime_ns();
    enum pool_code code = pool_model_verify(model, options, &result, &err);
    int64_t end_ns = clock_boottime_ns();
    expect_ok(code, &err);
    *ret_was_remembered = result.was_remembered;
    return end_ns - start_ns;
}

static int64_t stat_once(const char *path)
{
    struct stat st;
    int64_t start_ns = clock_boottime_ns();
    int rc = stat(path, &st);
    int64_t end_ns = clock_boottime_ns();
    if (rc < 0)
        die_errno(path);
    return end_ns - start_ns;
}

int main(int argc, char **argv)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model *model = NULL;
    struct samples hashed = { 0 };
    struct samples openssl = { 0 };
    struct samples remembered = { 0 };
    struct samples stats = { 0 };
    struct pool_model_paths paths = { .struct_size = sizeof paths, .allow_any_file = true };
    char ref[4096];
    char folder[4096];
    char proofs[4200];
    bool was_remembered = false;
    if (argc != 4)
        die("usage: verify FILE OPENSSL N");
    snprintf(ref, sizeof ref, "file:%s", argv[1]);
    snprintf(folder, sizeof folder, "%s", argv[1]);
    snprintf(proofs, sizeof proofs, "%s/proofs", dirname(folder));
    expect_ok(pool_model_resolve(NULL, &paths, ref, &model, &err), &err);
    struct pool_verify_options hash = { .struct_size = sizeof hash,
                                        .proof_dir = proofs,
                                        .ignore_proof = true };
    struct pool_verify_options remember = { .struct_size = sizeof remember, .proof_dir = proofs };
    run_openssl(argv[2], argv[1]); /* into the page cache */
    for (int64_t i = count_argument(argv[3]); i > 0; i--) {
        add_sample(&openssl, run_openssl(argv[2], argv[1]));
        add_sample(&hashed, verify(model, &hash, &was_remembered));
    }
    report("hashed", &hashed);
    report("openssl", &openssl);
    for (int i = 0; i < 500; i++) {
        int64_t stat_ns = stat_once(argv[1]);
        int64_t verify_ns = verify(model, &remember, &was_remembered);
        if (!was_remembered)
            die("the verification was not remembered");
        add_sample(&stats, stat_ns);
        add_sample(&remembered, verify_ns);
    }
    report("remembered", &remembered);
    report("stat", &stats);
    pool_model_free(model);
    return 0;
}
