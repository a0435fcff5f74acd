/*
 * Catalogs of strangers: a catalog that opens is ordered and its references hold, one that does not says where.
 */
#include <pool/catalog.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) \
    do {                   \
        if (!(condition))  \
            abort();       \
    } while (0)

static void check_sha256(const char *sha256)
{
    REQUIRE(!sha256 || (strlen(sha256) == 64 && strspn(sha256, "0123456789abcdef") == 64));
}

static void check_model(const struct pool_model_metadata *model)
{
    REQUIRE(model->n_files >= 1 && model->size_bytes >= -1 && strcmp(model->file, model->files[0].file) == 0);
    for (size_t i = 0; i < model->n_files; i++) {
        check_sha256(model->files[i].sha256);
        char text[2 * POOL_MODEL_REF_MAX];
        int n = model->repo ? snprintf(text, sizeof text, "hf:%s%s%s::file=%s", model->repo,
                                       model->revision ? "@" : "", model->revision ? model->revision : "",
                                       model->files[i].file)
                            : snprintf(text, sizeof text, "file:%s", model->files[i].file);
        struct pool_model_ref *ref = NULL;
        REQUIRE(n > 0);
        if (n > POOL_MODEL_REF_MAX)
            continue;
        REQUIRE(pool_model_ref_parse(text, (size_t)n, &ref, NULL) == POOL_OK);
        pool_model_ref_free(ref);
    }
    struct pool_model_metadata *copy = pool_model_metadata_copy(model);
    REQUIRE(copy && strcmp(copy->id, model->id) == 0 && copy->n_files == model->n_files);
    pool_model_metadata_free(copy);
}

static void check_catalog(const struct pool_model_catalog *catalog)
{
    size_t n = pool_model_catalog_n_models(catalog);
    for (size_t i = 0; i < n; i++) {
        const struct pool_model_metadata *model = pool_model_catalog_at(catalog, i);
        const struct pool_model_metadata *found = NULL;
        check_model(model);
        REQUIRE(i == 0 || strcmp(pool_model_catalog_at(catalog, i - 1)->id, model->id) < 0);
        REQUIRE(pool_model_catalog_get(catalog, model->id, &found, NULL) == POOL_OK && found == model);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("catalog", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const char *const paths[] = { path };
    struct pool_model_catalog *catalog = NULL;
    struct pool_catalog_problem *problems = NULL;
    size_t n_problems = 0;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = pool_model_catalog_open(paths, 1, &catalog, &problems, &n_problems, &err);
    size_t n_errors = 0;
    for (size_t i = 0; i < n_problems; i++) {
        REQUIRE(problems[i].message[0] != '\0' && strcmp(problems[i].path, path) == 0);
        n_errors += !problems[i].is_warning;
    }
    if (code == POOL_OK) {
        REQUIRE(n_errors == 0);
        check_catalog(catalog);
    } else {
        REQUIRE(code == POOL_INVALID_CONFIG && n_errors > 0 && !catalog && err.message[0] != '\0');
    }
    pool_catalog_problems_free(problems, n_problems);
    pool_model_catalog_close(catalog);
    close(fd);
    return 0;
}
