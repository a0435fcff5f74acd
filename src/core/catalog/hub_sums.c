/*
 * Sums that the Hub said; see hub_sums.h. They are compared with, never trusted for anything else.
 */
#include "core/catalog/hub_sums.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define SUM_HEX (SHA256_TEXT_MAX - 1)

static bool copy_sum(const char *text, size_t n, char sha256[SHA256_TEXT_MAX])
{
    if (n != SUM_HEX)
        return false;
    for (size_t i = 0; i < SUM_HEX; i++) {
        if (!isxdigit((unsigned char)text[i]))
            return false;
    }
    for (size_t i = 0; i < SUM_HEX; i++)
        sha256[i] = (char)tolower((unsigned char)text[i]);
    sha256[SUM_HEX] = '\0';
    return true;
}

bool hub_sums_find(const char *text, size_t n, const char *file, char ret_sha256[SHA256_TEXT_MAX])
{
    const size_t n_before = SUM_HEX + 2; /* the sum, a blank, and a blank or an asterisk */
    size_t n_file = strlen(file);
    for (size_t at = 0; at < n;) {
        const char *line = text + at;
        const char *feed = memchr(line, '\n', n - at);
        size_t n_line = feed ? (size_t)(feed - line) : n - at;
        at += n_line + 1;
        if (n_line != n_before + n_file || memcmp(line + n_before, file, n_file) != 0)
            continue;
        if (line[SUM_HEX] == ' ' && copy_sum(line, SUM_HEX, ret_sha256))
            return true;
    }
    return false;
}

/* A file of the cache is a link to its content, which is named by its SHA-256 (or, when it is small, by git). */
static bool find_blob_name(const char *path, char sha256[SHA256_TEXT_MAX])
{
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
        return false;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    const char *name = slash ? slash + 1 : target;
    return copy_sum(name, strlen(name), sha256);
}

static bool find_sum(const struct strbuf *sums, const char *real_dir, bool is_cache, const char *path,
                     char sha256[SHA256_TEXT_MAX])
{
    size_t n = strlen(real_dir);
    if (is_cache)
        return find_blob_name(path, sha256);
    return strncmp(path, real_dir, n) == 0 && path[n] == '/' &&
           hub_sums_find(strbuf_text(sums), sums->n, path + n + 1, sha256);
}

char **hub_sums_of_files(const char *dir, bool is_cache, size_t n_files, char *const *paths)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(HUB_SUMS_MAX_BYTES);
    CLEANUP_FREE char *real_dir = realpath(dir, NULL);
    CLEANUP_FREE char *path = NULL;
    char **sums = calloc(n_files + 1, sizeof *sums);
    if (!sums)
        return NULL;
    if (asprintf(&path, "%s/" HUB_SUMS_FILE, dir) < 0) {
        path = NULL;
        free(sums);
        return NULL;
    }
    if (!real_dir || (!is_cache && file_read(path, &text) != 0))
        return sums; /* none is known */
    for (size_t i = 0; i < n_files; i++) {
        char sha256[SHA256_TEXT_MAX];
        if (!find_sum(&text, real_dir, is_cache, paths[i], sha256))
            continue;
        sums[i] = strdup(sha256);
        if (!sums[i]) {
            hub_sums_free(sums, n_files);
            return NULL;
        }
    }
    return sums;
}

void hub_sums_free(char **sums, size_t n_files)
{
    for (size_t i = 0; sums && i < n_files; i++)
        free(sums[i]);
    free(sums);
}
