/*
 * The submodules of a checkout: what the index records, what .gitmodules says, and what is on disk.
 *
 * Source: git-ls-files(1), git-config(1), gitmodules(5). What git itself was misled by: CVE-2018-11235 (names that leave
 * .git/modules), CVE-2018-17456 (URLs and paths that look like options).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/nearest.h"
#include "cli/git.h"

#define LINK_MODE      "160000 "
#define NEAREST_MAX    256
#define MODULES_PREFIX "submodule."

const char *git_submodule_state_name(enum git_submodule_state state)
{
    static const char *const names[] = {
#define STATE(name, text) text,
        GIT_SUBMODULE_STATES(STATE)
#undef STATE
    };
    return names[state];
}

static bool has_control(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    }
    return false;
}

bool git_path_is_safe(const char *path)
{
    if (!*path || *path == '-' || *path == '/' || has_control(path) || strlen(path) >= GIT_NAME_MAX)
        return false;
    for (const char *part = path; *part;) {
        size_t n = strcspn(part, "/");
        if ((n == 2 && memcmp(part, "..", 2) == 0) || (n == 1 && *part == '.') || n == 0)
            return false;
        part += n + (part[n] == '/');
    }
    return true;
}

bool git_url_is_safe(const char *url)
{
    /* "ext::sh -c …" names a program; a scheme behind one colon, a host of scp's form and a path do not */
    return *url && *url != '-' && !has_control(url) && !strstr(url, "::");
}

/* ---- the index ---- */

static struct git_submodule *append(struct git_submodule_list *list)
{
    struct git_submodule *longer = reallocarray(list->at, list->n + 1, sizeof *longer);
    if (!longer)
        return NULL;
    list->at = longer;
    list->at[list->n] = (struct git_submodule){ .state = GIT_SUBMODULE_ABSENT };
    return &list->at[list->n++];
}

/* "160000 HASH STAGE\tPATH", each ended by NUL. One in conflict has an entry a stage. */
static enum pool_code read_index(const struct strbuf *text, struct git_submodule_list *list,
                                 struct pool_error *err)
{
    const char *end = strbuf_text(text) + text->n;
    for (const char *entry = strbuf_text(text); entry < end; entry += strlen(entry) + 1) {
        const char *tab = strchr(entry, '\t');
        if (strncmp(entry, LINK_MODE, strlen(LINK_MODE)) != 0 || !tab)
            continue;
        const char *hash = entry + strlen(LINK_MODE);
        size_t n_hash = strcspn(hash, " ");
        bool is_conflict = tab[-1] != '0';
        if (list->n > 0 && strcmp(list->at[list->n - 1].path, tab + 1) == 0)
            continue;
        struct git_submodule *submodule = append(list);
        if (!submodule || !(submodule->path = strdup(tab + 1)))
            return pool_error_no_memory(err);
        snprintf(submodule->recorded, sizeof submodule->recorded, "%.*s", (int)n_hash, hash);
        if (is_conflict)
            submodule->state = GIT_SUBMODULE_CONFLICT;
    }
    return POOL_OK;
}

/* ---- .gitmodules ---- */

/* The value of "submodule.NAME.KEY\nVALUE" entries of one name. NULL: it has none. */
static const char *find_setting(const struct strbuf *text, const char *name, const char *key)
{
    const char *found = NULL;
    const char *end = strbuf_text(text) + text->n;
    size_t n_name = strlen(name);
    for (const char *entry = strbuf_text(text); entry < end; entry += strlen(entry) + 1) {
        const char *feed = strchr(entry, '\n');
        const char *rest = entry + strlen(MODULES_PREFIX);
        if (!feed || strncmp(entry, MODULES_PREFIX, strlen(MODULES_PREFIX)) != 0)
            continue;
        if (strncmp(rest, name, n_name) == 0 && rest[n_name] == '.' &&
            strlen(key) == (size_t)(feed - (rest + n_name + 1)) &&
            memcmp(rest + n_name + 1, key, strlen(key)) == 0)
            found = feed + 1; /* the last one counts */
    }
    return found;
}

static bool copy_setting(const struct strbuf *text, const char *name, const char *key, char **ret_value)
{
    const char *value = find_setting(text, name, key);
    return !value || (*ret_value = strdup(value)) != NULL;
}

/* Gives each submodule what .gitmodules says of its path. */
static enum pool_code read_modules(const struct strbuf *text, struct git_submodule_list *list,
                                   struct pool_error *err)
{
    static const char path_key[] = ".path\n";
    const char *end = strbuf_text(text) + text->n;
    for (const char *entry = strbuf_text(text); entry < end; entry += strlen(entry) + 1) {
        const char *feed = strchr(entry, '\n');
        if (!feed || strncmp(entry, MODULES_PREFIX, strlen(MODULES_PREFIX)) != 0 ||
            feed - entry < (ptrdiff_t)(strlen(MODULES_PREFIX) + strlen(path_key)) ||
            memcmp(feed + 1 - strlen(path_key), path_key, strlen(path_key)) != 0)
            continue;
        const char *name = entry + strlen(MODULES_PREFIX);
        size_t n_name = (size_t)(feed + 1 - (ptrdiff_t)strlen(path_key) - name);
        for (size_t i = 0; i < list->n; i++) {
            struct git_submodule *submodule = &list->at[i];
            if (strcmp(submodule->path, feed + 1) != 0 || submodule->name)
                continue;
            if (!(submodule->name = strndup(name, n_name)) ||
                !copy_setting(text, submodule->name, "url", &submodule->url) ||
                !copy_setting(text, submodule->name, "branch", &submodule->followed))
                return pool_error_no_memory(err);
        }
    }
    return POOL_OK;
}

static enum pool_code refuse(const struct git_submodule *submodule, const char *what, struct pool_error *err)
{
    pool_error_set(err, POOL_CONFLICT, "the submodule at '%.200s' has a %s that git could be misled by",
                   submodule->path, what);
    pool_error_set_field(err, "%.100s", submodule->path);
    return POOL_CONFLICT;
}

static enum pool_code check_names(const struct git_submodule_list *list, struct pool_error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct git_submodule *submodule = &list->at[i];
        if (!git_path_is_safe(submodule->path))
            return refuse(submodule, "path", err);
        if (submodule->name && !git_path_is_safe(submodule->name))
            return refuse(submodule, "name", err);
        if (submodule->url && !git_url_is_safe(submodule->url))
            return refuse(submodule, "URL", err);
        if (submodule->followed && (submodule->followed[0] == '-' || has_control(submodule->followed)))
            return refuse(submodule, "branch", err);
    }
    return POOL_OK;
}

/* ---- the disk ---- */

static char *take_or_null(char *line)
{
    if (*line)
        return line;
    free(line);
    return NULL;
}

/* One that was never fetched has no .git, and git would look above it and find the checkout that it is in. */
static enum pool_code look(const struct git *git, struct git_submodule *submodule, struct pool_error *err)
{
    CLEANUP_FREE char *directory = NULL;
    CLEANUP_FREE char *inside = NULL;
    struct stat status;
    if (asprintf(&directory, "%s/%s", git->top, submodule->path) < 0) {
        directory = NULL;
        return pool_error_no_memory(err);
    }
    if (asprintf(&inside, "%s/.git", directory) < 0) {
        inside = NULL;
        return pool_error_no_memory(err);
    }
    if (lstat(inside, &status) < 0)
        return POOL_OK;
    enum pool_code code =
        git_line(git, directory, (const char *const[]){ "rev-parse", "--verify", "--quiet", "HEAD", NULL },
                 &submodule->commit, err);
    if (code == POOL_OK)
        code = git_line(git, directory,
                        (const char *const[]){ "symbolic-ref", "--quiet", "--short", "HEAD", NULL },
                        &submodule->branch, err);
    if (code != POOL_OK)
        return code;
    submodule->commit = take_or_null(submodule->commit);
    submodule->branch = take_or_null(submodule->branch);
    bool is_moved = !submodule->commit || strcmp(submodule->commit, submodule->recorded) != 0;
    if (submodule->state != GIT_SUBMODULE_CONFLICT)
        submodule->state = is_moved ? GIT_SUBMODULE_MOVED : GIT_SUBMODULE_CLEAN;
    return POOL_OK;
}

/* Whether there are changes inside: what a look at each of them says. */
static enum pool_code look_inside(const struct git *git, struct git_submodule *submodule,
                                  struct pool_error *err)
{
    CLEANUP_FREE char *directory = NULL;
    CLEANUP(strbuf_done) struct strbuf out = { 0 };
    if (submodule->state == GIT_SUBMODULE_ABSENT || submodule->state == GIT_SUBMODULE_CONFLICT)
        return POOL_OK;
    if (asprintf(&directory, "%s/%s", git->top, submodule->path) < 0) {
        directory = NULL;
        return pool_error_no_memory(err);
    }
    enum pool_code code = git_run(git, GIT_ASK, directory,
                                  (const char *const[]){ "status", "--porcelain", "-z", NULL }, &out, err);
    if (code == POOL_OK && out.n > 0)
        submodule->state =
            submodule->state == GIT_SUBMODULE_MOVED ? GIT_SUBMODULE_BOTH : GIT_SUBMODULE_CHANGED;
    return code;
}

enum pool_code git_list_submodules(const struct git *git, struct git_submodule_list *ret_list,
                                   struct pool_error *err)
{
    CLEANUP(git_submodule_list_done) struct git_submodule_list list = { 0 };
    CLEANUP(strbuf_done) struct strbuf index = { 0 };
    CLEANUP(strbuf_done) struct strbuf modules = { 0 };
    CLEANUP_FREE char *file = NULL;
    struct stat status;
    enum pool_code code =
        git_run(git, GIT_ASK, NULL, (const char *const[]){ "ls-files", "-s", "-z", NULL }, &index, err);
    if (code == POOL_OK)
        code = read_index(&index, &list, err);
    if (code == POOL_OK && asprintf(&file, "%s/.gitmodules", git->top) < 0) {
        file = NULL;
        code = pool_error_no_memory(err);
    }
    /* a file of its own only: a link could lead to another one */
    if (code == POOL_OK && list.n > 0 && lstat(file, &status) == 0 && S_ISREG(status.st_mode))
        code = git_run(git, GIT_ASK, NULL,
                       (const char *const[]){ "config", "-z", "--no-includes", "-f", file, "--list", NULL },
                       &modules, err);
    if (code == POOL_OK)
        code = read_modules(&modules, &list, err);
    if (code == POOL_OK)
        code = check_names(&list, err);
    for (size_t i = 0; code == POOL_OK && i < list.n; i++) {
        code = look(git, &list.at[i], err);
        if (code == POOL_OK)
            code = look_inside(git, &list.at[i], err);
    }
    if (code != POOL_OK)
        return code;
    *ret_list = list;
    list = (struct git_submodule_list){ 0 };
    return POOL_OK;
}

void git_submodule_list_done(struct git_submodule_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        struct git_submodule *submodule = &list->at[i];
        free(submodule->name);
        free(submodule->path);
        free(submodule->url);
        free(submodule->followed);
        free(submodule->commit);
        free(submodule->branch);
    }
    free(list->at);
}

enum pool_code git_find_submodule(const struct git_submodule_list *list, const char *path,
                                  const struct git_submodule **ret_submodule, struct pool_error *err)
{
    const char *names[NEAREST_MAX];
    size_t n = 0;
    size_t n_path = strlen(path);
    while (n_path > 1 && path[n_path - 1] == '/') /* as a shell completes a directory */
        n_path--;
    for (size_t i = 0; i < list->n; i++) {
        if (strlen(list->at[i].path) == n_path && memcmp(list->at[i].path, path, n_path) == 0) {
            *ret_submodule = &list->at[i];
            return POOL_OK;
        }
        if (n < NEAREST_MAX)
            names[n++] = list->at[i].path;
    }
    const char *nearest = nearest_name(path, names, n);
    if (nearest)
        pool_error_set(err, POOL_NOT_FOUND, "there is no submodule '%.200s'; did you mean '%s'?", path,
                       nearest);
    else
        pool_error_set(err, POOL_NOT_FOUND,
                       "there is no submodule '%.200s'; 'git submodules list' shows them", path);
    pool_error_set_field(err, "PATH");
    return POOL_NOT_FOUND;
}
