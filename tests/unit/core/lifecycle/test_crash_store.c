/*
 * The files of crash bundles: their names, their bounds, damaged ones, and the last lines of logs in them.
 */
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "manager_ground.h"

#include "base/cleanup.h"
#include "core/lifecycle/crash.h"

GROUND_FIXTURE

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *worker_id; /* NULL: it is none */
        int64_t wall_ms, boottime_ns;
    } cases[] = {
        { "w-1760011200123-81234.json", "w", 1760011200123, 81234 },
        { "w-1-2-3.json", "w-1", 2, 3 }, /* an id may end like a name */
        { "w-0-0.json", "w", 0, 0 },
        { "w-1-2.json.abcdef", NULL, 0, 0 },
        { "w-1.json", NULL, 0, 0 },
        { "w-01-2.json", NULL, 0, 0 }, /* would be the same as another */
        { "-1-2.json", NULL, 0, 0 },
        { "w--1-2.json", "w-", 1, 2 },
        { "w-1--2.json", NULL, 0, 0 },
        { "w-1-99999999999999999999.json", NULL, 0, 0 },
        { "a/b-1-2.json", NULL, 0, 0 },
        { "../w-1-2.json", NULL, 0, 0 },
        { ".json", NULL, 0, 0 },
        { "", NULL, 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct crash_name name;
        bool is_one = crash_name_parse(cases[i].text, &name);
        if (is_one != (cases[i].worker_id != NULL))
            fail_msg("%s", cases[i].text);
        if (!is_one)
            continue;
        assert_string_equal(name.worker_id, cases[i].worker_id);
        assert_int_equal(name.created_wall_ms, cases[i].wall_ms);
        assert_int_equal(name.created_boottime_ns, cases[i].boottime_ns);
    }
}

/* ---- files ---- */

static struct state_dir open_state(void)
{
    struct state_dir dir = STATE_DIR_INIT;
    struct pool_error err = POOL_ERROR_INIT;
    if (state_dir_open(&dir, ground.state_dir, true, false, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return dir;
}
#define CLEANUP_STATE CLEANUP(state_dir_close) struct state_dir

/* How many regular files are in the folder, and how large they are together. */
static size_t count_files(int64_t *ret_bytes)
{
    char path[1200];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/crashes", ground.state_dir);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    struct dirent *entry;
    *ret_bytes = 0;
    while ((entry = readdir(folder))) {
        struct stat st;
        if (fstatat(dirfd(folder), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode)) {
            n++;
            *ret_bytes += st.st_size;
        }
    }
    closedir(folder);
    return n;
}

static void write_bundle(const struct state_dir *dir, const char *worker_id, int64_t wall_ms, size_t n_bytes)
{
    struct crash_name name = { .created_wall_ms = wall_ms, .created_boottime_ns = 7 };
    struct pool_error err = POOL_ERROR_INIT;
    snprintf(name.worker_id, sizeof name.worker_id, "%s", worker_id);
    CLEANUP_FREE char *json = malloc(n_bytes + 64);
    assert_non_null(json);
    int n = sprintf(json, "{\"format\":1,\"worker_id\":\"%s\"}", worker_id);
    if ((size_t)n < n_bytes) {
        memset(json + n, ' ', n_bytes - (size_t)n);
        json[n_bytes] = '\0';
    }
    if (crash_store_write(dir, &name, json, &err) != POOL_OK)
        fail_msg("%s", err.message);
}

static void test_the_number_is_bounded(void **state)
{
    (void)state;
    CLEANUP_STATE dir = open_state();
    struct crash_name name;
    int64_t bytes;
    char path[1300];
    for (int64_t i = 0; i < POOL_CRASHES_MAX + 57; i++) {
        char worker_id[16];
        snprintf(worker_id, sizeof worker_id, "w%lld", (long long)i);
        write_bundle(&dir, worker_id, i, 10);
    }
    assert_int_equal(count_files(&bytes), POOL_CRASHES_MAX);
    assert_false(crash_store_find(&dir, "w0", &name));
    assert_true(crash_store_find(&dir, "w256", &name));
    /* What is not ours stays, and does not count. */
    snprintf(path, sizeof path, "%s/crashes/notes.txt", ground.state_dir);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fclose(file);
    write_bundle(&dir, "last", 1, 10);
    assert_int_equal(count_files(&bytes), POOL_CRASHES_MAX + 1);
    assert_int_equal(access(path, F_OK), 0);
}

static void test_the_bytes_are_bounded(void **state)
{
    (void)state;
    enum { EACH = POOL_CRASH_MAX_BYTES / 2, FIT = POOL_CRASHES_MAX_BYTES / EACH };
    CLEANUP_STATE dir = open_state();
    struct crash_name name;
    int64_t bytes;
    for (int64_t i = 0; i < FIT + 5; i++) {
        char worker_id[16];
        snprintf(worker_id, sizeof worker_id, "w%lld", (long long)i);
        write_bundle(&dir, worker_id, i, EACH);
    }
    assert_int_equal(count_files(&bytes), FIT);
    assert_in_range(bytes, 1, POOL_CRASHES_MAX_BYTES);
    assert_false(crash_store_find(&dir, "w4", &name));
    assert_true(crash_store_find(&dir, "w5", &name));
}

static void test_the_last_start_of_an_id(void **state)
{
    (void)state;
    CLEANUP_STATE dir = open_state();
    struct crash_name name;
    assert_false(crash_store_find(&dir, "w", &name));
    write_bundle(&dir, "w", 2000, 10);
    write_bundle(&dir, "w", 1000, 10);
    write_bundle(&dir, "w-3000", 9000, 10); /* another id */
    assert_true(crash_store_find(&dir, "w", &name));
    assert_int_equal(name.created_wall_ms, 2000);
}

static void test_files_are_private(void **state)
{
    (void)state;
    CLEANUP_STATE dir = open_state();
    struct stat st;
    char path[1300];
    write_bundle(&dir, "w", 1, 10);
    snprintf(path, sizeof path, "%s/crashes/w-1-7.json", ground.state_dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    snprintf(path, sizeof path, "%s/crashes", ground.state_dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
}

static void test_damaged_files(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"format\":1}",
        "{\"format\":2,\"worker_id\":\"w\"}",
        "{\"format\":\"1\",\"worker_id\":\"w\"}",
        "{\"format\":1,\"worker_id\":\"other\"}",
        "{\"format\":1,\"worker_id\":\"w\",\"samples\":[{\"at\":3}]}",
        "{\"format\":1,\"worker_id\":\"w\",\"log\":\"no list\"}",
        "{\"format\":1,\"worker_id\":\"w\",\"why\":\"\xff\"}",
        "{\"format\":1,\"worker_id\":\"w\"} trailing",
    };
    CLEANUP_STATE dir = open_state();
    struct crash_name name = { .worker_id = "w", .created_wall_ms = 1, .created_boottime_ns = 7 };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        CLEANUP(free_crash) struct pool_crash *crash = NULL;
        CLEANUP_FREE char *path = NULL;
        struct pool_error err = POOL_ERROR_INIT;
        assert_int_equal(crash_store_write(&dir, &name, texts[i], &err), POOL_OK);
        if (crash_store_read(&dir, &name, &path, &crash, &err) != POOL_INVALID_REQUEST)
            fail_msg("%s: %s", texts[i], err.message);
        assert_null(crash);
        assert_non_null(strstr(err.message, "w-1-7.json can not be read"));
    }
    CLEANUP(free_crash) struct pool_crash *crash = NULL;
    CLEANUP_FREE char *path = NULL;
    crash_store_remove(&dir, &name);
    assert_int_equal(crash_store_read(&dir, &name, &path, &crash, NULL), POOL_NOT_FOUND);
}

/* The largest that can be made of everything that has a limit. */
static void test_the_largest_fits(void **state)
{
    (void)state;
    CLEANUP(free_crash) struct pool_crash *crash = pool_crash_new();
    CLEANUP_FREE char *json = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_non_null(crash);
    crash->worker_id = strdup("w");
    crash->samples = calloc(POOL_CRASH_SAMPLES_MAX, sizeof *crash->samples);
    crash->n_samples = POOL_CRASH_SAMPLES_MAX;
    crash->faults = calloc(POOL_CRASH_FAULTS_MAX, sizeof *crash->faults);
    crash->n_faults = POOL_CRASH_FAULTS_MAX;
    crash->candidates = calloc(POOL_EXPLAIN_CANDIDATES_MAX, sizeof *crash->candidates);
    crash->n_candidates = POOL_EXPLAIN_CANDIDATES_MAX;
    crash->log = calloc(1, sizeof *crash->log);
    crash->command.argv = calloc(1, sizeof *crash->command.argv);
    crash->command.environment = calloc(1, sizeof *crash->command.environment);
    assert_true(crash->worker_id && crash->samples && crash->faults && crash->candidates && crash->log &&
                crash->command.argv && crash->command.environment);
    for (size_t i = 0; i < POOL_CRASH_SAMPLES_MAX; i++) {
        struct pool_vram_sample *sample = &crash->samples[i];
        memset(sample->gpu_uuid, '"', sizeof sample->gpu_uuid - 1);
        sample->at_wall_ms = 1;
        sample->observed_bytes = sample->free_bytes = (struct pool_reading){ true, INT64_MAX };
    }
    for (size_t i = 0; i < POOL_CRASH_FAULTS_MAX; i++)
        memset(crash->faults[i].text, '"', sizeof crash->faults[i].text - 1);
    for (size_t i = 0; i < POOL_EXPLAIN_CANDIDATES_MAX; i++) {
        memset(crash->candidates[i].verdict, '"', sizeof crash->candidates[i].verdict - 1);
        memset(crash->candidates[i].ledger.device, '"', sizeof crash->candidates[i].ledger.device - 1);
    }
    crash->n_log = crash->command.n_argv = crash->command.n_environment = 1;
    crash->log[0] = malloc(3 * POOL_CRASH_LOG_MAX_BYTES + 1); /* each byte U+FFFD */
    crash->command.argv[0] = malloc(POOL_CRASH_COMMAND_MAX_BYTES + 1);
    crash->command.environment[0] = malloc(POOL_CRASH_COMMAND_MAX_BYTES + 1);
    assert_true(crash->log[0] && crash->command.argv[0] && crash->command.environment[0]);
    memset(crash->log[0], '"', 3 * POOL_CRASH_LOG_MAX_BYTES);
    memset(crash->command.argv[0], '\1', POOL_CRASH_COMMAND_MAX_BYTES);
    memset(crash->command.environment[0], '\1', POOL_CRASH_COMMAND_MAX_BYTES);
    crash->log[0][3 * POOL_CRASH_LOG_MAX_BYTES] = '\0';
    crash->command.argv[0][POOL_CRASH_COMMAND_MAX_BYTES] = '\0';
    crash->command.environment[0][POOL_CRASH_COMMAND_MAX_BYTES] = '\0';
    assert_true(crash_reason(crash));
    if (pool_crash_encode(crash, &json, &err) != POOL_OK)
        fail_msg("%s", err.message);
    CLEANUP(free_crash) struct pool_crash *again = NULL;
    if (pool_crash_decode(json, strlen(json), &again, &err) != POOL_OK)
        fail_msg("%s (%s)", err.message, err.field);
    assert_int_equal(again->n_samples, POOL_CRASH_SAMPLES_MAX);
}

/* ---- the log ---- */

static void test_logs(void **state)
{
    (void)state;
    CLEANUP(string_list_done) struct string_list known = { 0 };
    char path[1200];
    SCRATCH_PATH(&ground.tree, "w.log", path);
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    worker->log_path = strdup(path);
    assert_non_null(worker->log_path);
    static const struct {
        const char *text;
        size_t n_lines;
        const char *first;
        bool is_cut;
    } cases[] = {
        { "", 0, NULL, false },
        { "one\ntwo\n", 2, "one", false },
        { "no end", 1, "no end", false },
        { "\n\nx\n", 3, "", false },
        { "bad \xff\xc3( \x1b[31m\ttab\n", 1, "bad \xef\xbf\xbd\xef\xbf\xbd( ?[31m\ttab", false },
        { "args: --api-key s3cret\n", 1, "args: --api-key [redacted]", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP(free_crash) struct pool_crash *crash = pool_crash_new();
        scratch_tree_write_text(&ground.tree, "w.log", cases[i].text);
        assert_true(crash && crash_take_log(crash, worker, NULL, &known));
        assert_int_equal(crash->n_log, cases[i].n_lines);
        if (cases[i].first)
            assert_string_equal(crash->log[0], cases[i].first);
        assert_int_equal(crash->is_log_cut, cases[i].is_cut);
    }
    /* Too many lines, too many bytes, one endless line, and a NUL. */
    for (size_t n_each = 1; n_each <= 100000; n_each *= 10) {
        CLEANUP(free_crash) struct pool_crash *crash = pool_crash_new();
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        for (size_t i = 0; i < 1000000 / n_each; i++)
            fprintf(file, "%0*d%c\n", (int)n_each, 7, i % 2 ? '\0' : 'x');
        fclose(file);
        assert_true(crash && crash_take_log(crash, worker, NULL, &known));
        assert_in_range(crash->n_log, 1, POOL_CRASH_LOG_MAX_LINES);
        size_t n = 0;
        for (size_t i = 0; i < crash->n_log; i++)
            n += strlen(crash->log[i]) + 1;
        assert_in_range(n, 2, POOL_CRASH_LOG_MAX_BYTES);
        assert_true(crash->is_log_cut);
    }
    /* The log of a later start of the same id is not its own. */
    CLEANUP(free_crash) struct pool_crash *crash = pool_crash_new();
    worker->log_identity = 12345;
    assert_true(crash && crash_take_log(crash, worker, NULL, &known));
    assert_int_equal(crash->n_log, 0);
    pool_worker_info_free(worker);
}

/* Of a log that nothing else is known of, in an error. */
static void test_tails(void **state)
{
    (void)state;
    static const struct {
        const char *log;
        size_t n;
        const char *tail;
    } cases[] = {
        { "", 32, "" },
        { "one\n", 32, "one\n" },
        { "one\ntwo", 32, "one\ntwo\n" },
        { "one\ntwo\nthree\n", 8, "three\n" },
        { "one\ntwo\nthree\n", 7, "three\n" },
        { "one\ntwo\nthree\n", 6, "three" },
        { "one\ntwo\nthree\n", 4, "ree" },
        { "tw\xc3\xb6\xc3\xa4\n", 4, "\xc3\xa4" },
        { "a\tb\n", 32, "a\tb\n" },
        { "\x1b[31mred\x1b[0m\r\n", 32, "?[31mred?[0m?\n" },
        { "bell\a del\x7f\n", 32, "bell? del?\n" },
        { "\xff\n", 32, "\xef\xbf\xbd\n" },
        { "--api-key=s3cret SSHPASS=1234\n", 64, "--api-key=[redacted] SSHPASS=[redacted]\n" },
    };
    char path[1200];
    SCRATCH_PATH(&ground.tree, "w.log", path);
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    char text[64] = "before";
    crash_log_tail(NULL, worker, text, sizeof text);
    assert_string_equal(text, "");
    worker->log_path = strdup(path);
    assert_non_null(worker->log_path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memcpy(text, "before", 7);
        scratch_tree_write_text(&ground.tree, "w.log", cases[i].log);
        crash_log_tail(NULL, worker, text, cases[i].n);
        assert_string_equal(text, cases[i].tail);
    }
    worker->log_identity = 12345; /* a later start of the same id has made it */
    crash_log_tail(NULL, worker, text, sizeof text);
    assert_string_equal(text, "");
    pool_worker_info_free(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        GROUND_TEST(test_the_number_is_bounded),
        GROUND_TEST(test_the_bytes_are_bounded),
        GROUND_TEST(test_the_last_start_of_an_id),
        GROUND_TEST(test_files_are_private),
        GROUND_TEST(test_damaged_files),
        cmocka_unit_test(test_the_largest_fits),
        GROUND_TEST(test_logs),
        GROUND_TEST(test_tails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
