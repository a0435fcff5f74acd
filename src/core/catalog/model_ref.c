/*
 * Model references: their grammar, taking them apart, putting them together. Looks at text alone; the disk is
 * resolve.c's.
 *
 *     hf:ORG/REPO[@REV][::file=PATH]      file:/ABSOLUTE/PATH      ID
 *
 * What follows the first "::file=" is the path, so a path may have '@', '=' and "::file=" in it. '%' means itself:
 * nothing is decoded here or later, so nothing can hide behind an encoding.
 */
#include "core/catalog/model_ref.h"

#include <pool/catalog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"

/* Limits of names. Source: the Hub refuses repository names over 96 characters; NAME_MAX of Linux for segments. */
#define ID_BYTES_MAX       64
#define NAME_BYTES_MAX     96
#define REVISION_BYTES_MAX 255
#define SEGMENT_BYTES_MAX  255
#define PATH_BYTES_MAX \
    3072 /* in a repository: with the longest names and revision it still fits a reference */

#define FILE_SEPARATOR "::file="

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_name_char(char c)
{
    return is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
}

const char *model_id_problem(const char *id)
{
    size_t n = strlen(id);
    if (n == 0)
        return "is empty";
    if (n > ID_BYTES_MAX)
        return "is longer than 64 characters";
    if (!is_alphanumeric(id[0]))
        return "does not start with a letter or a digit";
    for (size_t i = 0; i < n; i++) {
        if (!is_name_char(id[i]))
            return "may have letters, digits, '.', '_' and '-' only";
    }
    return NULL;
}

/* One of the two names of a repository. The Hub forbids "--", which separates the two in its cache, and "..". */
static const char *name_problem(const char *name, size_t n)
{
    if (n == 0)
        return "has an empty part";
    if (n > NAME_BYTES_MAX)
        return "has a part longer than 96 characters";
    if (!is_alphanumeric(name[0]))
        return "has a part that does not start with a letter or a digit";
    for (size_t i = 0; i < n; i++) {
        if (!is_name_char(name[i]))
            return "may have letters, digits, '.', '_' and '-' only";
        if (i > 0 && name[i] == name[i - 1] && (name[i] == '-' || name[i] == '.'))
            return "has \"--\" or \"..\" in it";
    }
    if (name[n - 1] == '-' || name[n - 1] == '.')
        return "has a part that ends with '-' or '.'";
    return NULL;
}

const char *model_repo_problem(const char *repo)
{
    const char *slash = strchr(repo, '/');
    if (!slash)
        return "is not of the form ORG/REPO";
    if (strchr(slash + 1, '/'))
        return "has more than two parts";
    const char *problem = name_problem(repo, (size_t)(slash - repo));
    return problem ? problem : name_problem(slash + 1, strlen(slash + 1));
}

/* The segments of a path, none of which may be "", "." or "..". An empty path has an empty segment. */
static const char *segments_problem(const char *path)
{
    for (const char *segment = path;; segment++) {
        size_t n = strcspn(segment, "/");
        if (n == 0)
            return "has an empty part";
        if ((n == 1 || n == 2) && strncmp(segment, "..", n) == 0)
            return "has \".\" or \"..\" in it";
        if (n > SEGMENT_BYTES_MAX)
            return "has a part longer than 255 bytes";
        segment += n;
        if (*segment == '\0')
            return NULL;
    }
}

const char *model_revision_problem(const char *revision)
{
    size_t n = strlen(revision);
    if (n == 0)
        return "is empty";
    if (n > REVISION_BYTES_MAX)
        return "is longer than 255 characters";
    if (revision[0] == '-')
        return "starts with '-'";
    for (size_t i = 0; i < n; i++) {
        if (!is_name_char(revision[i]) && revision[i] != '/')
            return "may have letters, digits, '.', '_', '-' and '/' only";
        if (i > 0 && revision[i] == '.' && revision[i - 1] == '.')
            return "has \"..\" in it";
    }
    return segments_problem(revision);
}

static const char *path_problem(const char *path)
{
    if (!utf8_is_valid(path))
        return "is not UTF-8";
    if (utf8_has_control(path))
        return "has a control character in it";
    if (strchr(path, '\\'))
        return "has a backslash in it";
    return segments_problem(path);
}

const char *model_relative_path_problem(const char *path)
{
    if (path[0] == '/')
        return "is absolute";
    if (strlen(path) > PATH_BYTES_MAX)
        return "is longer than 3072 bytes";
    return path_problem(path);
}

const char *model_absolute_path_problem(const char *path)
{
    if (path[0] != '/')
        return "is not absolute";
    if (strlen(path) >= POOL_MODEL_REF_MAX - strlen("file:"))
        return "is too long";
    return path_problem(path + 1);
}

bool model_revision_is_commit(const char *revision)
{
    return strlen(revision) == MODEL_COMMIT_HEX &&
           strspn(revision, "0123456789abcdefABCDEF") == MODEL_COMMIT_HEX;
}

static enum pool_code refuse(struct pool_error *err, const char *what, const char *problem)
{
    enum pool_code code =
        pool_error_set(err, POOL_INVALID_REQUEST, "%s of the model reference %s", what, problem);
    pool_error_set_field(err, "model_ref");
    return code;
}

/* Takes "ORG/REPO[@REV][::file=PATH]" apart; cuts `text` into pieces on the way. */
static enum pool_code parse_hf(char *text, struct pool_model_ref *ref, struct pool_error *err)
{
    char *file = strstr(text, FILE_SEPARATOR);
    if (file) {
        *file = '\0';
        file += strlen(FILE_SEPARATOR);
    }
    char *revision = strrchr(text, '@');
    if (revision)
        *revision++ = '\0';

    const char *problem = model_repo_problem(text);
    if (problem)
        return refuse(err, "the repository", problem);
    if (revision && (problem = model_revision_problem(revision)))
        return refuse(err, "the revision", problem);
    if (file && (problem = model_relative_path_problem(file)))
        return refuse(err, "the file", problem);

    char *slash = strchr(text, '/');
    ref->kind = POOL_MODEL_REF_HF;
    ref->org = strndup(text, (size_t)(slash - text));
    ref->repo = strdup(slash + 1);
    ref->revision = revision ? strdup(revision) : NULL;
    ref->file = file ? strdup(file) : NULL;
    if (!ref->org || !ref->repo || (revision && !ref->revision) || (file && !ref->file))
        return pool_error_no_memory(err);
    return POOL_OK;
}

static enum pool_code parse_file(const char *path, struct pool_model_ref *ref, struct pool_error *err)
{
    if (strncmp(path, "//", 2) == 0)
        return refuse(err, "the path", "has an empty part; write file:/path, this is no URL");
    const char *problem = model_absolute_path_problem(path);
    if (problem)
        return refuse(err, "the path", problem);
    ref->kind = POOL_MODEL_REF_FILE;
    ref->path = strdup(path);
    return ref->path ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code parse_id(const char *id, struct pool_model_ref *ref, struct pool_error *err)
{
    if (strchr(id, ':'))
        return refuse(err, "the scheme", "is not \"hf:\" or \"file:\"");
    if (strchr(id, '/'))
        return refuse(err, "the scheme", "is missing: hf:ORG/REPO, file:/path, or the id of a catalog entry");
    const char *problem = model_id_problem(id);
    if (problem)
        return refuse(err, "the id", problem);
    ref->kind = POOL_MODEL_REF_ID;
    ref->id = strdup(id);
    return ref->id ? POOL_OK : pool_error_no_memory(err);
}

static void free_ref(struct pool_model_ref **ref)
{
    pool_model_ref_free(*ref);
}

enum pool_code pool_model_ref_parse(const char *text, size_t n, struct pool_model_ref **ret_ref,
                                    struct pool_error *err)
{
    if (n > POOL_MODEL_REF_MAX)
        return refuse(err, "the text", "is longer than 4096 bytes");
    if (n == 0)
        return refuse(err, "the text", "is empty");
    if (memchr(text, '\0', n))
        return refuse(err, "the text", "has a NUL in it");
    CLEANUP_FREE char *copy = malloc(n + 1);
    CLEANUP(free_ref) struct pool_model_ref *ref = calloc(1, sizeof *ref);
    if (!copy || !ref)
        return pool_error_no_memory(err);
    memcpy(copy, text, n); /* nothing behind it is looked at, not even for its end */
    copy[n] = '\0';
    if (!utf8_is_valid(copy))
        return refuse(err, "the text", "is not UTF-8");
    if (utf8_has_control(copy))
        return refuse(err, "the text", "has a control character in it");

    enum pool_code code;
    if (strncmp(copy, "hf:", 3) == 0)
        code = parse_hf(copy + 3, ref, err);
    else if (strncmp(copy, "file:", 5) == 0)
        code = parse_file(copy + 5, ref, err);
    else
        code = parse_id(copy, ref, err);
    if (code == POOL_OK)
        *ret_ref = take_ptr(&ref);
    return code;
}

void pool_model_ref_free(struct pool_model_ref *ref)
{
    if (!ref)
        return;
    free(ref->org);
    free(ref->repo);
    free(ref->revision);
    free(ref->file);
    free(ref->path);
    free(ref->id);
    free(ref);
}

char *pool_model_ref_format(const struct pool_model_ref *ref)
{
    char *text = NULL;
    switch (ref->kind) {
    case POOL_MODEL_REF_HF:
        if (asprintf(&text, "hf:%s/%s%s%s%s%s", ref->org, ref->repo, ref->revision ? "@" : "",
                     ref->revision ? ref->revision : "", ref->file ? FILE_SEPARATOR : "",
                     ref->file ? ref->file : "") < 0)
            return NULL;
        return text;
    case POOL_MODEL_REF_FILE: return asprintf(&text, "file:%s", ref->path) < 0 ? NULL : text;
    case POOL_MODEL_REF_ID: return strdup(ref->id);
    }
    return NULL;
}
