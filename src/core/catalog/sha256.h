/*
 * SHA-256 by OpenSSL's libcrypto, which is loaded when the first hash is wanted: its 20 000 relocations cost more than
 * the whole rest of a program's start, and most commands hash nothing.
 */
#ifndef CATALOG_SHA256_H
#define CATALOG_SHA256_H

#include <pool/error.h>
#include <stddef.h>

#define SHA256_BYTES 32

/* One hash after the other; made once for many files. */
struct sha256 {
    void *library;
    const struct sha256_functions *functions;
    struct evp_md_st *digest;
    struct evp_md_ctx_st *context;
};
#define SHA256_INIT \
    {               \
        0           \
    }

/* Errors: INTERNAL (no libcrypto, or one without SHA-256), INSUFFICIENT_MEMORY. */
POOL_MUST_CHECK enum pool_code sha256_open(struct sha256 *hash, struct pool_error *err);
/* The same with a library of another name. */
POOL_MUST_CHECK enum pool_code sha256_open_library(struct sha256 *hash, const char *library,
                                                   struct pool_error *err);
void sha256_close(struct sha256 *hash);

/* false: OpenSSL failed. */
bool sha256_begin(struct sha256 *hash);
bool sha256_add(struct sha256 *hash, const void *data, size_t n);
bool sha256_end(struct sha256 *hash, unsigned char sum[SHA256_BYTES]);

#endif
