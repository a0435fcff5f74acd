/*
 * Running git; see git.h.
 *
 * Source: git(1), "Environment Variables"; git-config(1), protocol.allow, core.fsmonitor; gitattributes are not ours.
 */
#include "cli/git.h"

#include <string.h>

#include "base/cleanup.h"

/* Before git's own words, whatever a configuration says. */
static const char *const leading_words[] = {
    "git", "--no-pager",           "-c", "protocol.ext.allow=never", "-c", "protocol.fd.allow=never",
    "-c",  "core.fsmonitor=false", "-c", "submodule.recurse=false",  "-c", "color.ui=false",
    "-c",  "core.quotePath=false",
};

/* Of the variables that git reads, those that say how to reach a remote and whose configuration is used. */
static const char *const passed_on[] = {
    "GIT_SSH=",           "GIT_SSH_COMMAND=",     "GIT_SSH_VARIANT=",     "GIT_ASKPASS=",
    "GIT_CONFIG_GLOBAL=", "GIT_CONFIG_SYSTEM=",   "GIT_CONFIG_NOSYSTEM=", "GIT_SSL_CAINFO=",
    "GIT_SSL_NO_VERIFY=", "GIT_TERMINAL_PROMPT=",
};

static bool is_passed_on(const char *variable)
{
    if (strncmp(variable, "LC_ALL=", 7) == 0 || strncmp(variable, "LANGUAGE=", 9) == 0)
        return false; /* ours are below */
    if (strncmp(variable, "GIT_", 4) != 0)
        return true;
    for (size_t i = 0; i < CLI_COUNT(passed_on); i++) {
        if (strncmp(variable, passed_on[i], strlen(passed_on[i])) == 0)
            return true;
    }
    return false;
}

static bool make_environment(const struct cli *cli, struct string_list *list)
{
    for (const char *const *variable = cli->environment; *variable; variable++) {
        if (is_passed_on(*variable))
            string_list_add(list, *variable);
    }
    string_list_add(list, "LC_ALL=C");
    string_list_add(list, "GIT_OPTIONAL_LOCKS=0"); /* looking changes nothing */
    return !list->has_failed;
}

/* The first line that says what is wrong: the others are advice. */
static const char *find_reason(char *text)
{
    static const char *const marks[] = { "fatal: ", "error: " };
    for (size_t i = 0; i < CLI_COUNT(marks); i++) {
        char *at = strstr(text, marks[i]);
        if (at && (at == text || at[-1] == '\n')) {
            at += strlen(marks[i]);
            at[strcspn(at, "\n")] = '\0';
            return at;
        }
    }
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static enum pool_code explain(enum git_run run, const char *const *words, const struct child_result *result,
                              struct pool_error *err)
{
    enum pool_code code = run == GIT_TRANSFER ? POOL_DOWNLOAD_FAILED : POOL_CONFLICT;
    CLEANUP_FREE char *text = strdup(strbuf_text(&result->err));
    if (!text)
        return pool_error_no_memory(err);
    const char *reason = find_reason(text);
    if (result->is_signal)
        return pool_error_set(err, code, "git %s was ended by signal %d", words[0], result->value);
    if (*reason)
        return pool_error_set(err, code, "git %s: %s", words[0], reason);
    return pool_error_set(err, code, "git %s failed with status %d", words[0], result->value);
}

/* Runs it and leaves the outcome to the caller. */
static enum pool_code run_words(const struct git *git, enum git_run run, const char *directory,
                                const char *const *words, struct child_result *result, struct pool_error *err)
{
    const char *argv[CLI_COUNT(leading_words) + GIT_WORDS_MAX + 3];
    size_t n = CLI_COUNT(leading_words);
    size_t n_words = 0;
    memcpy(argv, leading_words, sizeof leading_words);
    argv[n++] = "-C";
    argv[n++] = directory ? directory : git->top;
    while (n_words < GIT_WORDS_MAX && words[n_words])
        argv[n++] = words[n_words++];
    argv[n] = NULL;
    if (words[n_words])
        return pool_error_set(err, POOL_INTERNAL, "a command line of git that is too long");
    struct child_options options = { .program = "git",
                                     .argv = argv,
                                     .environment = (const char *const *)git->environment.at,
                                     .is_interactive = run == GIT_TRANSFER && !git->cli->globals.is_json &&
                                                       git->cli->terminal.is_err_terminal };
    enum pool_code code = child_run(&options, result, err);
    if (code == POOL_NOT_FOUND || code == POOL_PERMISSION_DENIED)
        return pool_error_set(err, POOL_BACKEND_UNAVAILABLE,
                              "git is not installed; on Debian: apt-get install git");
    return code;
}

enum pool_code git_run(const struct git *git, enum git_run run, const char *directory,
                       const char *const *words, struct strbuf *ret_out, struct pool_error *err)
{
    CLEANUP(child_result_done) struct child_result result = CHILD_RESULT_INIT;
    enum pool_code code = run_words(git, run, directory, words, &result, err);
    if (code != POOL_OK)
        return code;
    if (result.is_signal || result.value != 0)
        return explain(run, words, &result, err);
    if (result.out.failure == STRBUF_FULL)
        return pool_error_set(err, POOL_PAYLOAD_TOO_LARGE, "git %s says more than %zu bytes", words[0],
                              CHILD_OUTPUT_MAX);
    *ret_out = result.out;
    result.out = (struct strbuf){ 0 };
    return POOL_OK;
}

enum pool_code git_line(const struct git *git, const char *directory, const char *const *words,
                        char **ret_line, struct pool_error *err)
{
    CLEANUP(child_result_done) struct child_result result = CHILD_RESULT_INIT;
    enum pool_code code = run_words(git, GIT_ASK, directory, words, &result, err);
    if (code != POOL_OK)
        return code;
    const char *text = result.is_signal || result.value != 0 ? "" : strbuf_text(&result.out);
    char *line = strndup(text, strcspn(text, "\n"));
    if (!line)
        return pool_error_no_memory(err);
    *ret_line = line;
    return POOL_OK;
}

enum pool_code git_open(const struct cli *cli, const char *directory, struct git *git, struct pool_error *err)
{
    CLEANUP(child_result_done) struct child_result result = CHILD_RESULT_INIT;
    const char *where = directory ? directory : ".";
    *git = (struct git){ .cli = cli };
    if (!make_environment(cli, &git->environment))
        return pool_error_no_memory(err);
    enum pool_code code = run_words(
        git, GIT_ASK, where, (const char *const[]){ "rev-parse", "--show-toplevel", NULL }, &result, err);
    if (code != POOL_OK)
        return code;
    char *text = strdup(strbuf_text(&result.out));
    if (!text)
        return pool_error_no_memory(err);
    size_t n = strlen(text);
    if (n > 0 && text[n - 1] == '\n') /* the only one that is not of its name */
        text[n - 1] = '\0';
    if (result.is_signal || result.value != 0 || text[0] != '/') {
        free(text);
        CLEANUP_FREE char *why = strdup(strbuf_text(&result.err));
        return pool_error_set(err, POOL_NOT_FOUND, "%s is in no git checkout: %s", where,
                              why ? find_reason(why) : "");
    }
    git->top = text;
    return POOL_OK;
}

void git_done(struct git *git)
{
    string_list_done(&git->environment);
    free(git->top);
}
