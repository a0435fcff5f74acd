/*
 * rbees-pool completion, and what there is to complete; see completion.h.
 */
#include "cli/completion.h"

#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/json_document.h"

struct completion_arguments {
    const char *shell;
};

/* ---- sources ---- */

static enum completion_source source_of_name(const char *name)
{
    static const struct {
        const char *name;
        enum completion_source source;
    } sources[] = {
        { "FILE", COMPLETE_FILES },     { "DIR", COMPLETE_DIRECTORIES }, { "GPU", COMPLETE_GPUS },
        { "REF", COMPLETE_MODELS },     { "MODEL", COMPLETE_MODELS },    { "SHELL", COMPLETE_SHELLS },
        { "WORKER", COMPLETE_WORKERS },
    };
    for (size_t i = 0; i < CLI_COUNT(sources); i++) {
        if (strcmp(sources[i].name, name) == 0)
            return sources[i].source;
    }
    return COMPLETE_NOTHING;
}

enum completion_source completion_of_option(const struct cli_option *option)
{
    return option->unit ? source_of_name(option->unit) : COMPLETE_NOTHING;
}

enum completion_source completion_of_positional(const struct cli_command *command, size_t index)
{
    if (command->n_positionals == 0)
        return COMPLETE_NOTHING;
    const struct cli_positional *last = &command->positionals[command->n_positionals - 1];
    if (index >= command->n_positionals && last->value != CLI_TEXTS)
        return COMPLETE_NOTHING;
    const char *name = index < command->n_positionals ? command->positionals[index].name : last->name;
    bool is_id = strcmp(name, "ID") == 0;
    if (is_id && strncmp(command->path, "worker ", 7) == 0)
        return COMPLETE_WORKERS;
    if (is_id && strncmp(command->path, "models ", 7) == 0)
        return COMPLETE_MODELS;
    if (strcmp(name, "PATH") == 0 && strncmp(command->path, "git submodules ", 15) == 0)
        return COMPLETE_SUBMODULES;
    return source_of_name(name);
}

const char *completion_list_command(enum completion_source source)
{
    switch (source) {
    case COMPLETE_WORKERS: return "worker list --all";
    case COMPLETE_GPUS: return "gpu list";
    case COMPLETE_MODELS: return "models list";
    case COMPLETE_SUBMODULES: return "git submodules list";
    case COMPLETE_NOTHING:
    case COMPLETE_FILES:
    case COMPLETE_DIRECTORIES:
    case COMPLETE_SHELLS: return NULL;
    }
    return NULL;
}

/* ---- words ---- */

void completion_find_groups(struct completion_groups *ret_groups)
{
    const struct cli_command *command;
    ret_groups->n = 0;
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        for (const char *blank = strchr(command->path, ' '); blank; blank = strchr(blank + 1, ' ')) {
            char group[CLI_PATH_MAX];
            bool is_there = false;
            snprintf(group, sizeof group, "%.*s", (int)(blank - command->path), command->path);
            for (size_t k = 0; k < ret_groups->n; k++)
                is_there = is_there || strcmp(ret_groups->at[k], group) == 0;
            if (!is_there && ret_groups->n < COMPLETION_GROUPS_MAX)
                memcpy(ret_groups->at[ret_groups->n++], group, sizeof group);
        }
    }
}

/* The word of a path behind a group; NULL when it is not in it. */
static const char *word_behind(const char *path, const char *group)
{
    size_t n = strlen(group);
    if (n == 0)
        return path;
    return strncmp(path, group, n) == 0 && path[n] == ' ' ? path + n + 1 : NULL;
}

static bool is_word(const char *path, const char *group, const char *word, size_t n_word)
{
    const char *there = word_behind(path, group);
    return there && strncmp(there, word, n_word) == 0 && (there[n_word] == ' ' || there[n_word] == '\0');
}

static bool was_before(size_t index, const char *group, const char *word, size_t n_word)
{
    for (size_t i = 0; i < index; i++) {
        if (is_word(cli_command_at(i)->path, group, word, n_word))
            return true;
    }
    return false;
}

/* The words of the group that a word begins, as its summary. */
static void describe_group(const char *group, struct completion_word *word)
{
    char inner[2 * CLI_PATH_MAX + 1];
    struct completion_word one;
    size_t n = 0;
    snprintf(inner, sizeof inner, "%s%s%s", group, *group ? " " : "", word->word);
    for (size_t i = 0; completion_word_at(inner, i, &one); i++) {
        int added =
            snprintf(word->summary + n, sizeof word->summary - n, "%s%s", i > 0 ? ", " : "", one.word);
        n += added > 0 && n + (size_t)added < sizeof word->summary ? (size_t)added : 0;
    }
}

// NOLINTNEXTLINE(misc-no-recursion) -- as deep as a path has words
bool completion_word_at(const char *group, size_t index, struct completion_word *ret_word)
{
    const struct cli_command *command;
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        const char *word = word_behind(command->path, group);
        size_t n = word ? strcspn(word, " ") : 0;
        if (!word || was_before(i, group, word, n) || index-- > 0)
            continue;
        snprintf(ret_word->word, sizeof ret_word->word, "%.*s", (int)n, word);
        ret_word->summary[0] = '\0';
        if (word[n])
            describe_group(group, ret_word);
        else
            snprintf(ret_word->summary, sizeof ret_word->summary, "%s", command->summary);
        return true;
    }
    return false;
}

void completion_quote(struct strbuf *out, const char *text)
{
    strbuf_add_char(out, '\'');
    for (; *text; text++) {
        if (*text == '\'')
            strbuf_add_text(out, "'\\''");
        else
            strbuf_add_char(out, *text);
    }
    strbuf_add_char(out, '\'');
}

/* ---- the command ---- */

static const struct {
    const char *name;
    void (*write)(struct strbuf *out);
} shells[] = {
    { "bash", completion_write_bash },
    { "zsh", completion_write_zsh },
    { "fish", completion_write_fish },
};

static enum pool_code refuse_shell(const char *shell, struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST,
                   "there is no completion for '%.40s'; there is for bash, zsh, fish", shell);
    pool_error_set_field(err, "SHELL");
    return POOL_INVALID_REQUEST;
}

static enum pool_code run_completion(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct completion_arguments *arguments = data;
    CLEANUP(strbuf_done) struct strbuf script = STRBUF_INIT(COMPLETION_MAX_BYTES);
    for (size_t i = 0; i < CLI_COUNT(shells); i++) {
        if (strcmp(shells[i].name, arguments->shell) != 0)
            continue;
        shells[i].write(&script);
        if (script.failure != STRBUF_FINE)
            return pool_error_no_memory(err);
        if (cli->globals.is_json) {
            CLEANUP_JSON json_t *document = json_pack("{s:s, s:o}", "shell", shells[i].name, "script",
                                                      json_of_text(strbuf_text(&script)));
            return print_document(cli, document, err);
        }
        fputs(strbuf_text(&script), cli->out);
        return POOL_OK;
    }
    return refuse_shell(arguments->shell, err);
}

static const struct cli_positional positionals[] = {
    { .name = "SHELL",
      .value = CLI_TEXT,
      .offset = offsetof(struct completion_arguments, shell),
      .summary = "bash, zsh or fish" },
};
static const char *const examples[] = { "rbees-pool completion bash", "rbees-pool completion zsh",
                                        "rbees-pool completion fish" };

const struct cli_command completion_command = {
    .path = "completion",
    .summary = "Print the completion of a shell",
    .description = "Prints a script that completes the commands, their options and, by asking the pool, the "
                   "names of workers, "
                   "GPUs and models.\n\n"
                   "bash: rbees-pool completion bash >~/.local/share/bash-completion/completions/rbees-pool\n"
                   "zsh: rbees-pool completion zsh >DIR/_rbees-pool, a folder of $fpath\n"
                   "fish: rbees-pool completion fish >~/.config/fish/completions/rbees-pool.fish",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct completion_arguments),
    .run = run_completion,
};
