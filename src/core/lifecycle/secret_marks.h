/*
 * Marks of a worker's secrets: salted SHA-256 sums, kept beside its log while it lives, by which whoever settles its end
 * finds the secrets again where the worker wrote them into its log, and takes them out. The secrets themselves are not
 * kept. A mark lies where only the owner reads, and no longer than the process in whose /proc the secret stands.
 */
#ifndef LIFECYCLE_SECRET_MARKS_H
#define LIFECYCLE_SECRET_MARKS_H

#include <stdbool.h>

#include "base/strbuf.h"
#include "base/string_list.h"

#define SECRET_MARKS_MAX      16 /* the first of a worker's secrets; a look costs a hash a byte of log and mark */
#define SECRET_MARK_BYTES_MAX 512 /* longer secrets have no mark */
#define SECRET_MARKS_TEXT_MAX 4096

/* Adds one line, "SALT LENGTH:SUM …"; nothing when there are no secrets. false: no memory, or nothing to hash with. */
bool secret_marks_make(const struct string_list *secrets, struct strbuf *out);
/*
 * Adds the pieces of a text that have a mark of the line to `known`. A line that is none has no marks. false: no memory, or
 * nothing to hash with.
 */
bool secret_marks_find(const char *line, const char *text, size_t n, struct string_list *known);

#endif
