/*
 * Loading libcrypto and calling its SHA-256; see sha256.h. Knows nothing of files.
 *
 * Source: the manual page EVP_DigestInit(3ssl). The library stays loaded once it was (it is linked with -z nodelete), so
 * opening it again is cheap.
 */
#include "core/catalog/sha256.h"

#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/opensslv.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* The one whose headers we are compiled with: libcrypto.so.3 is compatible for all of OpenSSL 3. */
#define TEXT_(text)       #text
#define TEXT(text)        TEXT_(text)
#define LIBCRYPTO_LIBRARY "libcrypto.so." TEXT(OPENSSL_SHLIB_VERSION)

#define FUNCTIONS(X)      \
    X(EVP_MD_fetch)       \
    X(EVP_MD_free)        \
    X(EVP_MD_CTX_new)     \
    X(EVP_MD_CTX_free)    \
    X(EVP_DigestInit_ex2) \
    X(EVP_DigestUpdate)   \
    X(EVP_DigestFinal_ex)

struct sha256_functions {
#define FUNCTION_MEMBER(name) __typeof__(&(name)) name;
    FUNCTIONS(FUNCTION_MEMBER)
#undef FUNCTION_MEMBER
};

/* POSIX wants that a function's address fits into the void * of dlsym; C has no cast for it. */
static bool find_function(void *library, const char *name, void *ret_function)
{
    void *address = dlsym(library, name);
    memcpy(ret_function, &address, sizeof address);
    return address != NULL;
}

static const char *find_functions(void *library, struct sha256_functions *functions)
{
#define FUNCTION_FIND(name)                               \
    if (!find_function(library, #name, &functions->name)) \
        return #name;
    FUNCTIONS(FUNCTION_FIND)
#undef FUNCTION_FIND
    return NULL;
}

enum pool_code sha256_open_library(struct sha256 *hash, const char *library, struct pool_error *err)
{
    CLEANUP(sha256_close) struct sha256 local = SHA256_INIT;
    CLEANUP_FREE struct sha256_functions *functions = calloc(1, sizeof *functions);
    if (!functions)
        return pool_error_no_memory(err);
    local.library = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    if (!local.library)
        return pool_error_set(err, POOL_INTERNAL, "SHA-256 needs OpenSSL: %s", dlerror());
    const char *missing = find_functions(local.library, functions);
    if (missing)
        return pool_error_set(err, POOL_INTERNAL, "SHA-256 needs OpenSSL: %s has no %s", library, missing);
    local.functions = take_ptr(&functions);
    /* Fetched once: an implicit fetch at every start is slow in OpenSSL 3.0. */
    local.digest = local.functions->EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!local.digest)
        return pool_error_set(err, POOL_INTERNAL, "OpenSSL has no SHA-256 here");
    local.context = local.functions->EVP_MD_CTX_new();
    if (!local.context)
        return pool_error_no_memory(err);
    *hash = local;
    /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): the cleanup reads it */
    local = (struct sha256)SHA256_INIT;
    return POOL_OK;
}

enum pool_code sha256_open(struct sha256 *hash, struct pool_error *err)
{
    return sha256_open_library(hash, LIBCRYPTO_LIBRARY, err);
}

void sha256_close(struct sha256 *hash)
{
    if (hash->functions) {
        hash->functions->EVP_MD_CTX_free(hash->context);
        hash->functions->EVP_MD_free(hash->digest);
    }
    free((void *)hash->functions);
    if (hash->library)
        dlclose(hash->library);
    *hash = (struct sha256)SHA256_INIT;
}

bool sha256_begin(struct sha256 *hash)
{
    return hash->functions->EVP_DigestInit_ex2(hash->context, hash->digest, NULL) == 1;
}

bool sha256_add(struct sha256 *hash, const void *data, size_t n)
{
    return hash->functions->EVP_DigestUpdate(hash->context, data, n) == 1;
}

bool sha256_end(struct sha256 *hash, unsigned char sum[SHA256_BYTES])
{
    unsigned char whole[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (hash->functions->EVP_DigestFinal_ex(hash->context, whole, &n) != 1 || n != SHA256_BYTES)
        return false;
    memcpy(sum, whole, SHA256_BYTES);
    return true;
}
