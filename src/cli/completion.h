/*
 * Completion for shells, made from the tables of the commands. Each shell has a file that writes its script; what there is
 * to complete is found here.
 */
#ifndef CLI_COMPLETION_H
#define CLI_COMPLETION_H

#include "base/strbuf.h"
#include "cli/program.h"

#define COMPLETION_MAX_BYTES  ((size_t)1 << 20)
#define COMPLETION_GROUPS_MAX 32

/* What a value is completed with. */
enum completion_source {
    COMPLETE_NOTHING,
    COMPLETE_FILES,
    COMPLETE_DIRECTORIES,
    COMPLETE_WORKERS,    /* the first column of `worker list --all` */
    COMPLETE_GPUS,       /* of `gpu list` */
    COMPLETE_MODELS,     /* of `models list` */
    COMPLETE_SUBMODULES, /* of `git submodules list` */
    COMPLETE_SHELLS,     /* bash, zsh, fish */
};

enum completion_source completion_of_option(const struct cli_option *option);
/* Of the index-th word behind the command, counted from 0; what repeats goes on. */
enum completion_source completion_of_positional(const struct cli_command *command, size_t index);
/* The words whose first column has the values; NULL for other sources. */
const char *completion_list_command(enum completion_source source);

/* Groups in the order of the overview: "worker", "git", "git submodules". */
struct completion_groups {
    size_t n;
    char at[COMPLETION_GROUPS_MAX][CLI_PATH_MAX];
};
void completion_find_groups(struct completion_groups *ret_groups);

/* One word that may follow a group. */
struct completion_word {
    char word[CLI_PATH_MAX];
    char summary[256]; /* of the command, or the words of the group that it begins */
};
/* The index-th word behind a group ("": at the beginning), each once; false: there are no more. */
bool completion_word_at(const char *group, size_t index, struct completion_word *ret_word);

/* Appends 'text' as one word in single quotes, as bash and zsh read it. */
void completion_quote(struct strbuf *out, const char *text);

/* Parts of the scripts of bash and zsh: options that take a value, and functions that set `source` for what a value is
 * completed with. */
void completion_add_valued(struct strbuf *out, const struct cli_option *options, size_t n_options);
void completion_write_values(struct strbuf *out);
void completion_write_operands(struct strbuf *out);
/* The scripts. Failures are marked in `out`. */
void completion_write_bash(struct strbuf *out);
void completion_write_zsh(struct strbuf *out);
void completion_write_fish(struct strbuf *out);

#endif
