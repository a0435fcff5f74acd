/*
 * JSON documents that the library has no encoder for: those that only the command line prints.
 */
#ifndef CLI_JSON_DOCUMENT_H
#define CLI_JSON_DOCUMENT_H

#include "base/json.h"
#include "cli/program.h"

/* A string of bytes that need not be UTF-8: what is broken becomes U+FFFD, and so does a NUL. NULL: no memory. */
json_t *json_of_bytes(const char *bytes, size_t n);
json_t *json_of_text(const char *text); /* JSON null for NULL */
/* The value that an encoder of the library made as text, which is freed. NULL: no memory. */
json_t *json_of_encoded(char **text);
/* {"code", "message", …}: what stands under "error" in an error document; JSON null for no error. NULL: no memory. */
json_t *json_of_error(const struct pool_error *error);
/* JSON null for one that was not made (all zero). NULL: no memory. */
json_t *json_of_estimate(const struct pool_estimate *estimate);
/* Prints a document; one that is NULL is taken for memory that ran out. */
POOL_MUST_CHECK enum pool_code print_document(const struct cli *cli, const json_t *document,
                                              struct pool_error *err);

#endif
