/*
 * Loading libcrypto and calling its hashes; see digest.h.
 *
 * Source: the manual page EVP_DigestInit(3ssl). The library stays loaded once it was (it is linked with -z nodelete), so
 * opening it again is cheap.
 */
#include "base/digest.h"

#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/opensslv.h>
#include <stdio.h>
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

struct digest_functions {
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

static bool find_functions(void *library, struct digest_functions *functions)
{
#define FUNCTION_FIND(name)                               \
    if (!find_function(library, #name, &functions->name)) \
        return false;
    FUNCTIONS(FUNCTION_FIND)
#undef FUNCTION_FIND
    return true;
}

static bool no_memory(struct digest_failure *failure)
{
    *failure = (struct digest_failure){ .is_no_memory = true };
    return false;
}

static bool refuse(struct digest_failure *failure, const char *what, const char *which)
{
    *failure = (struct digest_failure){ 0 };
    snprintf(failure->message, sizeof failure->message, "hashing needs OpenSSL: %s%s", what, which);
    return false;
}

bool digest_open_library(struct digest *digest, enum digest_kind kind, const char *library,
                         struct digest_failure *failure)
{
    static const char *const names[] = { [DIGEST_SHA256] = "SHA256", [DIGEST_SHA1] = "SHA1" };
    static const size_t sizes[] = { [DIGEST_SHA256] = SHA256_BYTES, [DIGEST_SHA1] = SHA1_BYTES };
    CLEANUP(digest_close) struct digest local = DIGEST_INIT;
    CLEANUP_FREE struct digest_functions *functions = calloc(1, sizeof *functions);
    if (!functions)
        return no_memory(failure);
    local.library = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    if (!local.library)
        return refuse(failure, dlerror(), "");
    if (!find_functions(local.library, functions))
        return refuse(failure, library, " is another library");
    local.functions = take_ptr(&functions);
    /* Fetched once: an implicit fetch at every start is slow in OpenSSL 3.0. */
    local.method = local.functions->EVP_MD_fetch(NULL, names[kind], NULL);
    if (!local.method)
        return refuse(failure, "it has no ", names[kind]);
    local.context = local.functions->EVP_MD_CTX_new();
    if (!local.context)
        return no_memory(failure);
    local.n_bytes = sizes[kind];
    *digest = local;
    /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): the cleanup reads it */
    local = (struct digest)DIGEST_INIT;
    return true;
}

bool digest_open(struct digest *digest, enum digest_kind kind, struct digest_failure *failure)
{
    return digest_open_library(digest, kind, LIBCRYPTO_LIBRARY, failure);
}

void digest_close(struct digest *digest)
{
    if (digest->functions) {
        digest->functions->EVP_MD_CTX_free(digest->context);
        digest->functions->EVP_MD_free(digest->method);
    }
    free((void *)digest->functions);
    if (digest->library)
        dlclose(digest->library);
    *digest = (struct digest)DIGEST_INIT;
}

bool digest_begin(struct digest *digest)
{
    return digest->functions->EVP_DigestInit_ex2(digest->context, digest->method, NULL) == 1;
}

bool digest_add(struct digest *digest, const void *data, size_t n)
{
    return digest->functions->EVP_DigestUpdate(digest->context, data, n) == 1;
}

bool digest_end(struct digest *digest, unsigned char sum[DIGEST_BYTES_MAX])
{
    unsigned char whole[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (digest->functions->EVP_DigestFinal_ex(digest->context, whole, &n) != 1 || n != digest->n_bytes)
        return false;
    memcpy(sum, whole, n);
    return true;
}
