/*
 * What a command of rbees-pool is: one constant table a file. Parsing, help, usage errors and the page docs/cli.md
 * come from these tables; a command's code sees only its filled arguments.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pool/error.h>

struct cli;

/* The kinds of values, each with the type of the field that an option's or positional's offset names. */
enum cli_value {
    CLI_FLAG,    /* bool; takes no value */
    CLI_TEXT,    /* const char *, borrowed from argv; the last one given wins */
    CLI_INTEGER, /* struct pool_reading (pool/gpu.h), min to max */
    CLI_BYTES,   /* struct pool_reading, "512MiB" or a number, min to max */
    CLI_TEXTS,   /* struct cli_texts; may be given several times */
};

struct cli_texts {
    size_t n;
    const char **at; /* the texts are borrowed from argv */
};

struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* '\0': none */
    enum cli_value value;
    const char *unit;         /* what stands for the value in help: "REF", "MS"; NULL for a flag */
    const char *default_text; /* for help; NULL: nothing to say */
    size_t offset;            /* of the field in the arguments */
    int64_t min, max;         /* of numbers */
    bool is_required;
    const char
        *field; /* of the request that it fills, when that has another name; errors then name the option */
    const char *summary; /* one sentence without a full stop */
};

struct cli_positional {
    const char *name;     /* "ID", for help and messages */
    enum cli_value value; /* CLI_TEXT, or CLI_TEXTS for all that follow */
    size_t offset;
    bool is_optional;
    const char *field; /* as of an option */
    const char *summary;
};

#define CLI_PATH_MAX  80 /* bytes of a command's path */
#define CLI_WORDS_MAX 3  /* words of it */

struct cli_command {
    const char *path;        /* "worker spawn" */
    const char *summary;     /* one line for the list of commands */
    const char *description; /* paragraphs */
    const struct cli_option *options;
    size_t n_options;
    const struct cli_positional *positionals;
    size_t n_positionals;
    const struct cli_positional
        *rest;                   /* what stands behind "--", CLI_TEXTS; NULL: "--" only ends the options */
    const char *const *examples; /* whole command lines */
    size_t n_examples;
    size_t arguments_bytes; /* size of its arguments struct, which is zeroed before parsing */
    enum pool_code (*run)(struct cli *cli, const void *arguments, struct pool_error *err);
};

#define CLI_COUNT(array) (sizeof(array) / sizeof(array)[0])
/* .options, .positionals and .examples of a command, each with its count. */
#define CLI_OPTIONS(array)     .options = (array), .n_options = CLI_COUNT(array)
#define CLI_POSITIONALS(array) .positionals = (array), .n_positionals = CLI_COUNT(array)
#define CLI_EXAMPLES(array)    .examples = (array), .n_examples = CLI_COUNT(array)

/* All commands, in the order of the overview. NULL beyond the end. */
const struct cli_command *cli_command_at(size_t index);
/* The command of a path such as "worker spawn"; NULL for none. */
const struct cli_command *cli_command_find(const char *path);
/* Whether some command's path begins with these words ("worker") and has one more. */
bool cli_command_is_group(const char *words);

#endif
