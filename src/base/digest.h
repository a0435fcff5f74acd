/*
 * SHA-256 and SHA-1 by OpenSSL's libcrypto, which is loaded when the first hash is wanted: its 20 000 relocations cost
 * more than the whole rest of a program's start, and most commands hash nothing.
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

enum digest_kind {
    DIGEST_SHA256,
    DIGEST_SHA1, /* the names of git's objects; finds damage, not forgery */
};

#define SHA256_BYTES     32
#define SHA1_BYTES       20
#define DIGEST_BYTES_MAX SHA256_BYTES

/* One hash after the other; made once for many texts. */
struct digest {
    void *library;
    const struct digest_functions *functions;
    struct evp_md_st *method;
    struct evp_md_ctx_st *context;
    size_t n_bytes; /* of a sum */
};
#define DIGEST_INIT \
    {               \
        0           \
    }

struct digest_failure {
    bool is_no_memory;
    char message[192];
};

/* false, and *failure filled: there is no libcrypto, or one without the hash; or no memory. */
bool digest_open(struct digest *digest, enum digest_kind kind, struct digest_failure *failure);
/* The same with a library of another name. */
bool digest_open_library(struct digest *digest, enum digest_kind kind, const char *library,
                         struct digest_failure *failure);
void digest_close(struct digest *digest);

/* false: OpenSSL failed. */
bool digest_begin(struct digest *digest);
bool digest_add(struct digest *digest, const void *data, size_t n);
/* Writes n_bytes. */
bool digest_end(struct digest *digest, unsigned char sum[DIGEST_BYTES_MAX]);

#endif
