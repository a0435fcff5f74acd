/*
 * The headers of the Hub that need reading: rate limits, ranges, names of contents. Texts from outside; nothing here
 * asks anybody.
 */
#ifndef DOWNLOAD_HUB_HEADERS_H
#define DOWNLOAD_HUB_HEADERS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/download/hub_client.h"

/*
 * How long a limit of the rate lasts, by `RateLimit: "resolvers";r=0;t=12` (nothing remains: the time to its reset) or
 * Retry-After in seconds. Each may be NULL. -1: neither says.
 */
int64_t hub_limit_ms(const char *rate_limit, const char *retry_after);
/* "bytes 5-9/10" as 5, 9, 10. */
bool hub_read_content_range(const char *text, int64_t *ret_first, int64_t *ret_last, int64_t *ret_total);
/* An ETag as the name of a content, without W/ and quotes, in lower case. false: it is no SHA-256 and no git name. */
bool hub_read_content_name(const char *etag, char ret_name[HUB_NAME_MAX + 1]);
/* 40 hex digits, in lower case. */
bool hub_read_commit(const char *text, char ret_commit[HUB_COMMIT_HEX + 1]);

#endif
