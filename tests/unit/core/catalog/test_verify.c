/*
 * Verification: sums, sizes, progress and cancellation, files that change, and proofs with everything that makes
 * one void.
 */
#include "scratch_tree.h"

#include <dirent.h>
#include <errno.h>
#include <pool/catalog.h>
#include <time.h>

#include "base/clock.h"

/* SHA-256 of "abc", of nothing, and of one million times "a": FIPS 180-2, appendix B, and NIST's example values. */
#define SUM_ABC     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define SUM_EMPTY   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SUM_MILLION "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
#define SUM_OTHER   "0000000000000000000000000000000000000000000000000000000000000000"

#define FILES_MAX 3
#define BIG_BYTES (40 << 20)

/*
 * Files are remembered only when they were not changed just before. So that the tests wait for that once, and not each of
 * them, the group makes a stock of files first: "abc" and sparse ones of BIG_BYTES.
 */
#define STOCK_MAX 16
static struct {
    struct scratch_tree tree;
    size_t n_taken, n_big_taken;
} stock;

struct fixture {
    struct scratch_tree tree;
    char proof_dir[PATH_MAX];
    char paths[FILES_MAX][PATH_MAX];
    char *file_paths[FILES_MAX];
    struct pool_model_file files[FILES_MAX];
    struct pool_model_metadata metadata;
    struct pool_model model;
    struct pool_verify_options options;
    struct pool_verify_result result;
    struct pool_error err;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    scratch_tree_make(&f->tree);
    SCRATCH_PATH(&f->tree, "proofs", f->proof_dir);
    f->metadata = (struct pool_model_metadata){ .id = "m", .size_bytes = -1, .files = f->files };
    f->model = (struct pool_model){ .ref = "hf:o/r", .file_paths = f->file_paths, .metadata = &f->metadata };
    f->options = (struct pool_verify_options){ .struct_size = sizeof f->options, .proof_dir = f->proof_dir };
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    scratch_tree_remove(&f->tree);
    free(f);
    return 0;
}

/* Adds a file to the model, and what its metadata says of it. */
static void add_file(struct fixture *f, const char *text, size_t n, int64_t size_bytes, const char *sha256)
{
    size_t i = f->model.n_files++;
    assert_true(i < FILES_MAX);
    char name[16];
    snprintf(name, sizeof name, "file-%zu", i);
    scratch_tree_write(&f->tree, name, text, n);
    SCRATCH_PATH(&f->tree, name, f->paths[i]);
    f->file_paths[i] = f->paths[i];
    f->model.path = f->paths[0];
    f->files[i] =
        (struct pool_model_file){ .file = f->paths[i], .size_bytes = size_bytes, .sha256 = (char *)sha256 };
    f->metadata.n_files = f->model.n_files;
}

static void add_abc(struct fixture *f, const char *sha256)
{
    add_file(f, "abc", 3, 3, sha256);
}

/* Takes an aged file into the model, its first one. */
static void add_aged(struct fixture *f, const char *kind, size_t number, int64_t size_bytes,
                     const char *sha256)
{
    char name[32];
    assert_int_equal(f->model.n_files, 0);
    assert_true(number < STOCK_MAX);
    snprintf(name, sizeof name, "%s-%zu", kind, number);
    SCRATCH_PATH(&stock.tree, name, f->paths[0]);
    f->file_paths[0] = f->model.path = f->paths[0];
    f->files[0] =
        (struct pool_model_file){ .file = f->paths[0], .size_bytes = size_bytes, .sha256 = (char *)sha256 };
    f->metadata.n_files = f->model.n_files = 1;
}

static void add_aged_abc(struct fixture *f, const char *sha256)
{
    add_aged(f, "abc", stock.n_taken++, 3, sha256);
}

static void add_aged_big(struct fixture *f)
{
    add_aged(f, "big", stock.n_big_taken++, BIG_BYTES, NULL);
}

static enum pool_code verify(struct fixture *f)
{
    memset(&f->result, 0x55, sizeof f->result);
    memset(&f->err, 0, sizeof f->err);
    return pool_model_verify(&f->model, &f->options, &f->result, &f->err);
}

static void check_code(struct fixture *f, enum pool_code expected)
{
    enum pool_code code = verify(f);
    if (code != expected)
        fail_msg("%s: %s", pool_code_name(code), f->err.message);
}

/*
 * Waits until a file is old enough to be remembered: until the file systems' clock is some ticks past its ctime, and two
 * seconds where that has no fraction.
 */
static void let_age(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    int64_t age_ns = st.st_ctim.tv_nsec == 0 ? 2 * NS_PER_SEC : 60 * NS_PER_MS;
    int64_t wanted = (int64_t)st.st_ctim.tv_sec * NS_PER_SEC + st.st_ctim.tv_nsec + age_ns;
    int64_t deadline = clock_boottime_ns() + 10 * NS_PER_SEC;
    for (;;) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        if ((int64_t)now.tv_sec * NS_PER_SEC + now.tv_nsec >= wanted)
            return;
        assert_true(clock_boottime_ns() < deadline);
        struct timespec until = { .tv_sec = wanted / NS_PER_SEC, .tv_nsec = wanted % NS_PER_SEC };
        clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
    }
}

static int make_stock(void **state)
{
    (void)state;
    scratch_tree_make(&stock.tree);
    char path[PATH_MAX];
    for (int i = 0; i < STOCK_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "abc-%d", i);
        scratch_tree_write_text(&stock.tree, name, "abc");
        snprintf(name, sizeof name, "big-%d", i);
        scratch_tree_write_text(&stock.tree, name, "");
        SCRATCH_PATH(&stock.tree, name, path);
        assert_int_equal(truncate(path, BIG_BYTES), 0);
    }
    let_age(path);
    return 0;
}

static int remove_stock(void **state)
{
    (void)state;
    scratch_tree_remove(&stock.tree);
    return 0;
}

static int count_proofs(const struct fixture *f)
{
    DIR *dir = opendir(f->proof_dir);
    if (!dir)
        return 0;
    int n = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* The path of the only proof. */
static void find_proof(const struct fixture *f, char path[PATH_MAX])
{
    assert_int_equal(count_proofs(f), 1);
    DIR *dir = opendir(f->proof_dir);
    assert_non_null(dir);
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (entry->d_name[0] != '.')
            assert_in_range(snprintf(path, PATH_MAX, "%s/%s", f->proof_dir, entry->d_name), 1, PATH_MAX - 1);
    }
    closedir(dir);
}

static void test_sums(void **state)
{
    struct fixture *f = *state;
    char *million = malloc(1000000);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    add_abc(f, SUM_ABC);
    add_file(f, "", 0, 0, SUM_EMPTY);
    add_file(f, million, 1000000, 1000000, SUM_MILLION);
    free(million);
    f->metadata.size_bytes = 1000003;
    check_code(f, POOL_OK);
    assert_true(f->result.is_verified);
    assert_false(f->result.was_remembered);
    assert_int_equal(f->result.hashed_bytes, 1000003);
    assert_string_equal(f->result.sha256, SUM_ABC);
    assert_int_equal(pool_model_verify(&f->model, NULL, &f->result, NULL), POOL_OK);
}

static void test_wrong_sum(void **state)
{
    struct fixture *f = *state;
    add_file(f, "", 0, -1, SUM_EMPTY);
    add_abc(f, SUM_OTHER);
    check_code(f, POOL_MODEL_CORRUPT);
    assert_string_equal(pool_error_detail(&f->err, "path")->text, f->paths[1]);
    assert_string_equal(pool_error_detail(&f->err, "expected_sha256")->text, SUM_OTHER);
    assert_string_equal(pool_error_detail(&f->err, "actual_sha256")->text, SUM_ABC);
}

static bool count_calls(int64_t done_bytes, int64_t total_bytes, void *context)
{
    (void)done_bytes;
    (void)total_bytes;
    (*(int *)context)++;
    return true;
}

static void test_wrong_size_is_seen_before_reading(void **state)
{
    struct fixture *f = *state;
    int n_calls = 0;
    f->options.progress = count_calls;
    f->options.progress_context = &n_calls;
    add_file(f, "", 0, 0, SUM_EMPTY);
    add_file(f, "abc", 3, 4, SUM_ABC);
    check_code(f, POOL_MODEL_CORRUPT);
    assert_int_equal(pool_error_detail(&f->err, "expected_size_bytes")->number, 4);
    assert_int_equal(pool_error_detail(&f->err, "actual_size_bytes")->number, 3);
    assert_int_equal(n_calls, 0);
}

static void test_without_a_known_sum(void **state)
{
    struct fixture *f = *state;
    add_abc(f, NULL);
    check_code(f, POOL_OK);
    assert_false(f->result.is_verified);
    assert_string_equal(f->result.sha256, SUM_ABC);
    f->model.metadata = NULL;
    check_code(f, POOL_OK);
    assert_false(f->result.is_verified);
}

static void test_one_entry_for_several_files(void **state)
{
    struct fixture *f = *state;
    add_abc(f, SUM_ABC);
    add_file(f, "defg", 4, -1, NULL);
    f->metadata.n_files = 1;
    f->metadata.size_bytes = 7;
    f->files[0].size_bytes = 7;
    check_code(f, POOL_OK);
    assert_false(f->result.is_verified); /* nobody knows the second's sum */
    f->metadata.size_bytes = 8;
    check_code(f, POOL_MODEL_CORRUPT);
}

static void test_files_that_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    add_abc(f, SUM_ABC);
    assert_int_equal(unlink(f->paths[0]), 0);
    check_code(f, POOL_MODEL_NOT_FOUND);
    assert_int_equal(f->err.sys_errno, ENOENT);
    assert_int_equal(mkdir(f->paths[0], 0700), 0);
    check_code(f, POOL_MODEL_CORRUPT);
    assert_int_equal(rmdir(f->paths[0]), 0);
    assert_int_equal(mkfifo(f->paths[0], 0600), 0);
    check_code(f, POOL_MODEL_CORRUPT);
    assert_int_equal(unlink(f->paths[0]), 0);
    scratch_tree_write_text(&f->tree, "file-0", "abc");
    assert_int_equal(chmod(f->paths[0], 0), 0);
    if (geteuid() != 0)
        check_code(f, POOL_PERMISSION_DENIED);
}

static void test_bad_options(void **state)
{
    struct fixture *f = *state;
    add_abc(f, SUM_ABC);
    f->options.only_proof = f->options.ignore_proof = true;
    check_code(f, POOL_INVALID_REQUEST);
    f->options.struct_size = 0;
    check_code(f, POOL_INVALID_REQUEST);
}

/* ---- progress ---- */

struct watch {
    int64_t last_done, largest_step, total;
    int64_t stop_at; /* cancel from here on; -1: never */
    int n_calls;
    const char *change_path; /* appended to, or rewritten in place, at the third call */
    bool is_append;
};

static bool watch_progress(int64_t done_bytes, int64_t total_bytes, void *context)
{
    struct watch *watch = context;
    if (done_bytes - watch->last_done > watch->largest_step)
        watch->largest_step = done_bytes - watch->last_done;
    watch->last_done = done_bytes;
    watch->total = total_bytes;
    if (++watch->n_calls == 3 && watch->change_path) {
        int fd = open(watch->change_path, O_WRONLY | O_CLOEXEC | (watch->is_append ? O_APPEND : 0));
        bool is_written = fd >= 0 && write(fd, "x", 1) == 1;
        if (fd >= 0)
            close(fd);
        return is_written;
    }
    return watch->stop_at < 0 || done_bytes < watch->stop_at;
}

static void test_progress(void **state)
{
    struct fixture *f = *state;
    struct watch watch = { .stop_at = -1 };
    f->options.progress = watch_progress;
    f->options.progress_context = &watch;
    add_aged_big(f);
    add_file(f, "abc", 3, 3, SUM_ABC);
    check_code(f, POOL_OK);
    assert_int_equal(watch.total, BIG_BYTES + 3);
    assert_int_equal(watch.last_done, BIG_BYTES + 3);
    assert_true(watch.largest_step <= 16 << 20);
    assert_true(watch.n_calls >= 5);
}

static void test_cancellation(void **state)
{
    struct fixture *f = *state;
    struct watch watch = { .stop_at = 20 << 20 };
    f->options.progress = watch_progress;
    f->options.progress_context = &watch;
    add_aged_big(f);
    check_code(f, POOL_CANCELLED);
    assert_true(watch.last_done < BIG_BYTES);
    assert_int_equal(count_proofs(f), 0);
    watch.stop_at = 0;
    watch.n_calls = 0;
    check_code(f, POOL_CANCELLED);
    assert_int_equal(watch.n_calls, 1);
}

static void test_files_that_change_while_hashed(void **state)
{
    struct fixture *f = *state;
    for (int is_append = 0; is_append < 2; is_append++) {
        f->model.n_files = 0;
        add_aged_big(f);
        struct watch watch = { .stop_at = -1, .change_path = f->paths[0], .is_append = is_append };
        f->options.progress = watch_progress;
        f->options.progress_context = &watch;
        check_code(f, POOL_CONFLICT);
        assert_true(f->err.is_retriable);
        assert_int_equal(count_proofs(f), 0);
    }
}

/* ---- proofs ---- */

static void remember(struct fixture *f)
{
    check_code(f, POOL_OK);
    assert_false(f->result.was_remembered);
    check_code(f, POOL_OK);
    assert_true(f->result.was_remembered);
    assert_int_equal(f->result.hashed_bytes, 0);
}

static void test_a_proof_is_remembered(void **state)
{
    struct fixture *f = *state;
    add_aged_abc(f, SUM_ABC);
    f->options.only_proof = true;
    check_code(f, POOL_MODEL_UNVERIFIED);
    f->options.only_proof = false;
    remember(f);
    assert_true(f->result.is_verified);
    assert_string_equal(f->result.sha256, SUM_ABC);
    f->options.only_proof = true;
    check_code(f, POOL_OK);
    assert_true(f->result.was_remembered);
    f->options.only_proof = false;
    f->options.ignore_proof = true;
    check_code(f, POOL_OK);
    assert_false(f->result.was_remembered);
    assert_int_equal(f->result.hashed_bytes, 3);
    f->options.ignore_proof = false;

    struct stat st;
    assert_int_equal(stat(f->proof_dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    /* the catalog changed its mind: told without reading */
    f->files[0].sha256 = SUM_OTHER;
    int n_calls = 0;
    f->options.progress = count_calls;
    f->options.progress_context = &n_calls;
    check_code(f, POOL_MODEL_CORRUPT);
    assert_int_equal(n_calls, 0);
    /* a model without a known sum is remembered too, and stays unverified */
    f->files[0].sha256 = NULL;
    check_code(f, POOL_OK);
    assert_true(f->result.was_remembered);
    assert_false(f->result.is_verified);
    assert_string_equal(f->result.sha256, SUM_ABC);
}

static void test_wrong_bytes_are_remembered_too(void **state)
{
    struct fixture *f = *state;
    add_aged_abc(f, SUM_OTHER);
    check_code(f, POOL_MODEL_CORRUPT);
    f->options.only_proof = true;
    check_code(f, POOL_MODEL_CORRUPT);
}

static void test_a_young_file_is_not_remembered(void **state)
{
    struct fixture *f = *state;
    add_abc(f, SUM_ABC);
    /* the mtime may be anything; the kernel's own stamp counts, which this sets to now */
    const struct timespec old[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
    int64_t began_ns;
    int n_tries = 0;
    do {
        assert_true(n_tries++ < 200);
        began_ns = clock_boottime_ns();
        assert_int_equal(utimensat(AT_FDCWD, f->paths[0], old, 0), 0);
        check_code(f, POOL_OK);
        /* on a machine that stood still in between, the file was no longer young */
    } while (clock_boottime_ns() - began_ns > 40 * NS_PER_MS);
    f->options.only_proof = true;
    check_code(f, POOL_MODEL_UNVERIFIED);
}

static void test_what_voids_a_proof(void **state)
{
    struct fixture *f = *state;
    add_aged_abc(f, SUM_ABC);
    remember(f);

    /* other bytes of the same size, and the mtime set back: the ctime tells */
    struct stat st;
    assert_int_equal(stat(f->paths[0], &st), 0);
    int fd = open(f->paths[0], O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, "abd", 3), 3);
    close(fd);
    struct timespec times[2] = { st.st_atim, st.st_mtim };
    assert_int_equal(utimensat(AT_FDCWD, f->paths[0], times, 0), 0);
    check_code(f, POOL_MODEL_CORRUPT);

    /* another file in its place */
    scratch_tree_write_text(&f->tree, "other", "abc");
    char other[PATH_MAX];
    SCRATCH_PATH(&f->tree, "other", other);
    assert_int_equal(rename(other, f->paths[0]), 0);
    check_code(f, POOL_OK);
    assert_false(f->result.was_remembered);
}

static void write_proof(const char *path, const char *text, size_t n, mode_t mode)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void check_void(struct fixture *f)
{
    f->options.only_proof = true;
    check_code(f, POOL_MODEL_UNVERIFIED);
    f->options.only_proof = false;
}

static void test_damaged_proofs(void **state)
{
    struct fixture *f = *state;
    add_aged_abc(f, SUM_ABC);
    remember(f);
    char path[PATH_MAX];
    find_proof(f, path);
    char text[1024];
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    assert_true(n > 100 && n < sizeof text - 1);
    text[n] = '\0';

    /* every byte changed, every length cut short, something behind it */
    for (size_t i = 0; i < n; i++) {
        text[i] ^= 1;
        write_proof(path, text, n, 0600);
        check_void(f);
        text[i] ^= 1;
        write_proof(path, text, i, 0600);
        check_void(f);
    }
    text[n] = '\n';
    write_proof(path, text, n + 1, 0600);
    check_void(f);
    char *big = calloc(1, 1 << 20);
    assert_non_null(big);
    memcpy(big, text, n);
    write_proof(path, big, 1 << 20, 0600);
    free(big);
    check_void(f);
    write_proof(path, text, n, 0600);
    check_code(f, POOL_OK);
    assert_true(f->result.was_remembered);

    /* a damaged one is replaced */
    write_proof(path, "x", 1, 0600);
    check_code(f, POOL_OK);
    check_code(f, POOL_OK);
    assert_true(f->result.was_remembered);
}

static void test_proofs_of_others(void **state)
{
    struct fixture *f = *state;
    add_aged_abc(f, SUM_ABC);
    remember(f);
    char path[PATH_MAX];
    char moved[PATH_MAX];
    find_proof(f, path);
    SCRATCH_PATH(&f->tree, "moved", moved);

    assert_int_equal(chmod(path, 0622), 0);
    check_void(f);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chmod(f->proof_dir, 0777), 0);
    check_void(f);
    assert_int_equal(chmod(f->proof_dir, 0700), 0);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(symlink(moved, path), 0);
    check_void(f);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    check_void(f);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(moved, path), 0);
    f->options.only_proof = true;
    check_code(f, POOL_OK);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
        check_void(f);
        assert_int_equal(chown(path, 0, (gid_t)-1), 0);
        assert_int_equal(chown(f->proof_dir, 12345, (gid_t)-1), 0);
        check_void(f);
    }
}

static void test_a_folder_that_cannot_be_made(void **state)
{
    struct fixture *f = *state;
    add_aged_abc(f, SUM_ABC);
    scratch_tree_write_text(&f->tree, "proofs", "in the way");
    check_code(f, POOL_OK);
    assert_true(f->result.is_verified);
    check_code(f, POOL_OK);
    assert_false(f->result.was_remembered);
    f->options.proof_dir = NULL;
    check_code(f, POOL_OK);
    f->options.only_proof = true;
    check_code(f, POOL_MODEL_UNVERIFIED);
}

/* ---- by id ---- */

static void test_the_verify_of_a_catalog(void **state)
{
    struct fixture *f = *state;
    char models[PATH_MAX];
    char path[PATH_MAX];
    SCRATCH_PATH(&f->tree, "models", models);
    SCRATCH_PATH(&f->tree, "catalog.toml", path);
    scratch_tree_write_text(&f->tree, "models/o/r/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/a.gguf", "abc");
    scratch_tree_write_text(&f->tree, "catalog.toml",
                            "[[models]]\nid = \"good\"\nrepo = \"o/r\"\nfile = \"a.gguf\"\nsize = 3\n"
                            "sha256 = \"BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD\"\n"
                            "[[models]]\nid = \"bad\"\nrepo = \"o/r\"\nfile = \"a.gguf\"\nsize = 4\n"
                            "[[models]]\nid = \"gone\"\nrepo = \"o/s\"\nfile = \"a.gguf\"\n");
    const char *catalogs[] = { path };
    struct pool_model_catalog *catalog = NULL;
    assert_int_equal(pool_model_catalog_open(catalogs, 1, &catalog, NULL, NULL, &f->err), POOL_OK);
    const char *dirs[] = { models };
    struct pool_model_paths paths = { .struct_size = sizeof paths, .n_models_dirs = 1, .models_dirs = dirs };
    static const struct {
        const char *id;
        enum pool_code code;
    } cases[] = { { "good", POOL_OK },
                  { "bad", POOL_MODEL_CORRUPT },
                  { "gone", POOL_MODEL_NOT_FOUND },
                  { "absent", POOL_MODEL_NOT_FOUND },
                  { "no id", POOL_INVALID_REQUEST } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum pool_code code =
            pool_model_catalog_verify(catalog, &paths, cases[i].id, &f->options, &f->result, &f->err);
        if (code != cases[i].code)
            fail_msg("%s: %s: %s", cases[i].id, pool_code_name(code), f->err.message);
        assert_true(code != POOL_OK || f->result.is_verified);
    }
    pool_model_catalog_close(catalog);
}

#define WITH_TREE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TREE(test_sums),
        WITH_TREE(test_wrong_sum),
        WITH_TREE(test_wrong_size_is_seen_before_reading),
        WITH_TREE(test_without_a_known_sum),
        WITH_TREE(test_one_entry_for_several_files),
        WITH_TREE(test_files_that_cannot_be_read),
        WITH_TREE(test_bad_options),
        WITH_TREE(test_progress),
        WITH_TREE(test_cancellation),
        WITH_TREE(test_files_that_change_while_hashed),
        WITH_TREE(test_a_proof_is_remembered),
        WITH_TREE(test_wrong_bytes_are_remembered_too),
        WITH_TREE(test_a_young_file_is_not_remembered),
        WITH_TREE(test_what_voids_a_proof),
        WITH_TREE(test_damaged_proofs),
        WITH_TREE(test_proofs_of_others),
        WITH_TREE(test_a_folder_that_cannot_be_made),
        WITH_TREE(test_the_verify_of_a_catalog),
    };
    return cmocka_run_group_tests(tests, make_stock, remove_stock);
}
