/*
 * The git program, as far as an operator's checkout needs it. Every call names its commands and options itself; words of
 * people and of the repository stand behind "--" or are checked first.
 *
 * What git is kept from: variables GIT_* that lead it to another repository or loosen its protocols are not passed on;
 * remote helpers that run programs (ext::, fd::) are off whatever a configuration says; no program is asked what has
 * changed (core.fsmonitor). Hooks of the checkout run when git itself would run them: they are the operator's own.
 */
#ifndef CLI_GIT_H
#define CLI_GIT_H

#include "base/string_list.h"
#include "cli/child_process.h"
#include "cli/program.h"

#define GIT_HASH_MAX  65 /* SHA-256 in hex and its end */
#define GIT_NAME_MAX  4096
#define GIT_WORDS_MAX 32

/* Where git works. */
struct git {
    const struct cli *cli;
    struct string_list environment;
    char *top; /* of the checkout, absolute; owned */
};

/**
 * Finds the checkout that a directory is in.
 * @param directory NULL: the present one
 * Errors: NOT_FOUND (it is in none, or there is no such directory), BACKEND_UNAVAILABLE (there is no git),
 * INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code git_open(const struct cli *cli, const char *directory, struct git *git,
                                        struct pool_error *err);
void git_done(struct git *git);

/* What a run of git is for decides what its failure means. */
enum git_run {
    GIT_ASK,    /* reads the checkout; failing is CONFLICT */
    GIT_CHANGE, /* changes it; the same */
    GIT_TRANSFER, /* talks to a remote, may ask for a password and shows how it gets on; failing is DOWNLOAD_FAILED */
};

/**
 * Runs `git -C DIRECTORY WORDS...` and returns what it wrote, for the caller to free with strbuf_done.
 * @param directory NULL: the top of the checkout
 * @param words NULL-terminated
 */
POOL_MUST_CHECK enum pool_code git_run(const struct git *git, enum git_run run, const char *directory,
                                       const char *const *words, struct strbuf *ret_out,
                                       struct pool_error *err);
/* The same for one line: without its end. "" when git fails (there is no such thing). Owner: the caller. */
POOL_MUST_CHECK enum pool_code git_line(const struct git *git, const char *directory,
                                        const char *const *words, char **ret_line, struct pool_error *err);

/* ---- what is asked ---- */

struct git_change {
    const char *path;      /* borrowed from the text of the status */
    const char *from;      /* of a rename; NULL otherwise */
    char index, work_tree; /* git's letters: M A D R C T U; '.' none; '?' untracked */
    bool is_submodule;
};

struct git_status {
    char commit[GIT_HASH_MAX]; /* "" before the first one */
    const char *branch;        /* NULL: detached */
    const char *upstream;      /* NULL: none */
    bool is_compared;          /* ahead and behind are known */
    int64_t n_ahead, n_behind;
    size_t n_changes;
    struct git_change *changes;
    char *text; /* what all of them point into */
};

POOL_MUST_CHECK enum pool_code git_read_status(const struct git *git, struct git_status *ret_status,
                                               struct pool_error *err);
/* Reads what `git status --porcelain=v2 --branch -z` says; takes the text over. Errors: INTERNAL, INSUFFICIENT_MEMORY. */
POOL_MUST_CHECK enum pool_code git_parse_status(char *text, size_t n, struct git_status *ret_status,
                                                struct pool_error *err);
void git_status_done(struct git_status *status);

/* How a submodule stands. X(name, text) */
#define GIT_SUBMODULE_STATES(X)                                         \
    X(ABSENT, "absent")   /* not fetched yet */                         \
    X(CLEAN, "clean")     /* at the recorded commit, nothing changed */ \
    X(MOVED, "moved")     /* at another commit */                       \
    X(CHANGED, "changed") /* at the recorded one, with changes */       \
    X(BOTH, "moved, changed")                                           \
    X(CONFLICT, "conflict") /* a merge is not done */

enum git_submodule_state {
#define STATE(name, text) GIT_SUBMODULE_##name,
    GIT_SUBMODULE_STATES(STATE)
#undef STATE
};

struct git_submodule {
    char *name; /* in .gitmodules; NULL: not in it */
    char *path;
    char *url;                   /* NULL: not said */
    char *followed;              /* the branch that .gitmodules says; NULL: none */
    char recorded[GIT_HASH_MAX]; /* the commit that the checkout wants */
    char *commit;                /* the one that is there; NULL: none */
    char *branch;                /* NULL: detached, as after an update */
    enum git_submodule_state state;
};

struct git_submodule_list {
    size_t n;
    struct git_submodule *at;
};

const char *git_submodule_state_name(enum git_submodule_state state);
/**
 * Lists the submodules of the checkout (of its first level) as they are.
 * Errors: CONFLICT when a name, path or URL is one that git could be misled by.
 */
POOL_MUST_CHECK enum pool_code git_list_submodules(const struct git *git, struct git_submodule_list *ret_list,
                                                   struct pool_error *err);
void git_submodule_list_done(struct git_submodule_list *list);
/* Errors: NOT_FOUND (field PATH; the nearest one is named). Borrowed from the list. */
POOL_MUST_CHECK enum pool_code git_find_submodule(const struct git_submodule_list *list, const char *path,
                                                  const struct git_submodule **ret_submodule,
                                                  struct pool_error *err);
/* Whether git is safe with it: a path inside the checkout, no option, no control characters. */
bool git_path_is_safe(const char *path);
/* Whether it names a place to fetch from and no program to run. */
bool git_url_is_safe(const char *url);

/* The option that all of them have, and its field. */
#define GIT_REPO_OPTION(field_offset)                                                              \
    {                                                                                              \
        .name = "repo", .letter = 'C', .value = CLI_TEXT, .unit = "DIR", .offset = (field_offset), \
        .default_text = "the present directory", .summary = "A directory in the checkout"          \
    }

#endif
