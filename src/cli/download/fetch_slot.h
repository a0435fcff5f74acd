/*
 * One connection of a fetch, and what comes over it: whether the answer is the one that was asked for, and its bytes on
 * their way into the part. When to start one, and what its end means, is fetch.c's.
 */
#ifndef DOWNLOAD_FETCH_SLOT_H
#define DOWNLOAD_FETCH_SLOT_H

#include "cli/download/fetch.h"

enum slot_fault {
    SLOT_FINE,
    SLOT_IGNORES_RANGE, /* the whole file comes */
    SLOT_WRONG,         /* not what was asked for; why says how */
    SLOT_FAILED,        /* on our side; the error is set */
};

struct fetch_slot {
    const struct fetch_request *request;
    CURL *easy;
    struct curl_slist *headers;
    bool is_active;
    bool is_whole;        /* the file from its beginning, without a range */
    int64_t at, end;      /* in the file: the next byte that comes, and the one behind the last */
    int64_t stored_bytes; /* of this transfer, that were missing */
    int64_t started_ns;
    int generation; /* of the address it asked */
    bool is_checked;
    enum slot_fault fault;
    struct pool_error error;
    char why[CURL_ERROR_SIZE];
    struct digest digest;
    bool has_digest_piece;
    size_t digest_piece; /* whose bytes so far are in the digest */
};

/* Errors: those of digest_open, INSUFFICIENT_MEMORY. */
POOL_MUST_CHECK enum pool_code slot_open(struct fetch_slot *slot, const struct fetch_request *request,
                                         struct pool_error *err);
void slot_close(struct fetch_slot *slot);
/* Makes the transfer of [at, end) ready to be added to a multi handle. false: no memory. */
bool slot_prepare(struct fetch_slot *slot, int64_t at, int64_t end, bool is_whole);

#endif
