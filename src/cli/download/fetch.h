/*
 * The bytes of one file, from where the Hub keeps them into its part: the pieces that are missing, over several
 * connections at once, lowest first. What arrives is hashed piece by piece and written at once. It ends when all pieces
 * are there; whether they are the right ones is not asked here.
 *
 * A server that ignores ranges is read from the beginning to the end over one connection, and what is there already is
 * passed over.
 */
#ifndef DOWNLOAD_FETCH_H
#define DOWNLOAD_FETCH_H

#include "cli/download/part.h"
#include "cli/download/whole_sum.h"

#define FETCH_CONNECTIONS_MAX     16
#define FETCH_CONNECTIONS_DEFAULT 8

struct fetch_request {
    struct hub_client *client;
    struct hub_place_name place;  /* its revision is a commit */
    const char *path;             /* in the repository */
    struct hub_file_facts *facts; /* its address is renewed when it expires */
    struct part *part;            /* prepared */
    struct whole_sum *whole;      /* told how far it may read */
    int n_connections;
    /* Called many times a second with the bytes that are there; may be NULL. */
    void (*progress)(int64_t done_bytes, void *context);
    void *context;
};

/**
 * Errors: CANCELLED, DOWNLOAD_FAILED (tried client->n_tries times in a row without a byte; details.http_status),
 * RATE_LIMITED, INSUFFICIENT_DISK, MODEL_NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED, INSUFFICIENT_MEMORY, INTERNAL.
 * The part is as far as it came, whatever happens.
 */
POOL_MUST_CHECK enum pool_code fetch_missing(const struct fetch_request *request, struct pool_error *err);

#endif
