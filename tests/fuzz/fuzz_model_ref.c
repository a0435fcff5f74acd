/*
 * Model references of strangers: what is accepted keeps its rules, and means the same when written and read again.
 */
#include <pool/catalog.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) \
    do {                   \
        if (!(condition))  \
            abort();       \
    } while (0)

/* No path that is accepted leaves the folder it is put behind. */
static void check_path(const char *path)
{
    REQUIRE(path[0] != '\0' && path[0] != '/');
    for (const char *segment = path; segment; segment = strchr(segment, '/')) {
        segment += *segment == '/';
        size_t n = strcspn(segment, "/");
        REQUIRE(n > 0 && !(n == 1 && segment[0] == '.') && !(n == 2 && strncmp(segment, "..", 2) == 0));
    }
    for (const char *c = path; *c; c++)
        REQUIRE((unsigned char)*c >= 0x20 && *c != 0x7f && *c != '\\');
}

static void check_equal(const char *a, const char *b)
{
    REQUIRE(!a == !b && (!a || strcmp(a, b) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_ref *ref = NULL;
    enum pool_code code = pool_model_ref_parse((const char *)data, size, &ref, &err);
    if (code != POOL_OK) {
        REQUIRE(code == POOL_INVALID_REQUEST && err.code == code && !ref &&
                strcmp(err.field, "model_ref") == 0);
        return 0;
    }
    char *text = pool_model_ref_format(ref);
    REQUIRE(text && strlen(text) == size && memcmp(text, data, size) == 0);
    switch (ref->kind) {
    case POOL_MODEL_REF_HF:
        check_path(ref->org);
        check_path(ref->repo);
        REQUIRE(!strchr(ref->org, '/') && !strchr(ref->repo, '/') && !strstr(ref->repo, "--"));
        if (ref->revision)
            check_path(ref->revision);
        if (ref->file)
            check_path(ref->file);
        break;
    case POOL_MODEL_REF_FILE:
        REQUIRE(ref->path[0] == '/');
        check_path(ref->path + 1);
        break;
    case POOL_MODEL_REF_ID:
        check_path(ref->id);
        REQUIRE(!strchr(ref->id, '/') && !strchr(ref->id, ':'));
        break;
    }
    struct pool_model_ref *again = NULL;
    REQUIRE(pool_model_ref_parse(text, strlen(text), &again, NULL) == POOL_OK && again->kind == ref->kind);
    check_equal(ref->org, again->org);
    check_equal(ref->repo, again->repo);
    check_equal(ref->revision, again->revision);
    check_equal(ref->file, again->file);
    pool_model_ref_free(again);
    pool_model_ref_free(ref);
    free(text);
    return 0;
}
