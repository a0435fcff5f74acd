/*
 * What the steps of loading a configuration share: the loader, values on their way, and problems. A step
 * returns false only when memory is out; what is wrong with the configuration is reported with config_problem
 * and counted, and the step goes on, so that one pass finds everything.
 */
#ifndef CORE_CONFIG_LOADER_H
#define CORE_CONFIG_LOADER_H

#include <pool/config.h>

#include "base/toml.h"
#include "core/config_keys.h"

#define CONFIG_NAME_MAX    192   /* of a key with everything in front: "backends.NAME.ready.callback" */
#define CONFIG_TEXT_MAX    65536 /* of one value, bytes */
#define CONFIG_EXTENDS_MAX 8     /* backends that extend each other in a row */
#define CONFIG_SOCKET_MAX  107   /* sun_path without its NUL, unix(7) */

enum config_source { CONFIG_FROM_DEFAULT, CONFIG_FROM_FILE, CONFIG_FROM_ENVIRONMENT, CONFIG_FROM_FLAG };

/* A value before it is converted. All borrowed. */
struct config_input {
    enum config_source source;
    const struct toml_node *node; /* of a file and of the built-in backends, else NULL */
    const char *text;             /* of a variable, flag or default */
    const char *name;             /* the file, "POOL_…" or "--…"; NULL: built in or default */
};

/* Where this process finds and puts things. Absolute paths, owned; NULL when there is no home to build on. */
struct config_places {
    bool is_service; /* root or the user pool */
    char *home;
    char *config_dir;
    char *state_dir;
    char *data_dir;
    char *runtime_dir; /* NULL also when the system gives none */
};

struct config_loader {
    const struct pool_config_sources *sources;
    pool_config_problem_fn *report; /* or NULL */
    void *context;
    struct pool_error *err;
    size_t n_problems;
    bool is_muted; /* an inherited value: its owner reports it */
    struct pool_config *config;
    struct config_places places;
    char *file; /* absolute, NULL: none */
    char *file_dir;
    struct toml_document *document; /* NULL: no file */
    struct toml_document *builtin;
    struct config_input inputs[CONFIG_N_GLOBAL_KEYS];
    struct config_input (*backend_inputs)[CONFIG_N_BACKEND_KEYS]; /* one row a backend of config */
};

/* config_problem.c */
/* Reports "WHERE: [section].key: value: why". `in` may be NULL (then no place and no value is shown). */
void config_problem(struct config_loader *l, const struct config_input *in, const char *key, const char *why,
                    ...) __attribute__((format(printf, 4, 5)));
void config_warning(struct config_loader *l, const struct config_input *in, const char *key, const char *why,
                    ...) __attribute__((format(printf, 4, 5)));
/* The same for what is wrong with a key (unknown, misplaced): at the key's position, without a value. */
void config_key_problem(struct config_loader *l, const struct toml_node *node, const char *key,
                        const char *why, ...) __attribute__((format(printf, 4, 5)));
/* The same for the file as a whole; line 0: no position. */
void config_file_problem(struct config_loader *l, uint32_t line, uint32_t column, const char *why, ...)
    __attribute__((format(printf, 4, 5)));

/* config_places.c */
const char *config_environment(const struct pool_config_sources *sources,
                               const char *name); /* NULL: unset or empty */
bool config_find_places(struct config_loader *l);
/* Fills in what has no fixed default. */
bool config_default(struct config_loader *l, const struct config_key *key, void *base);
/* Completes what depends on other keys: the registry in the state folder, the socket in it. */
bool config_complete_paths(struct config_loader *l);
/* The absolute form of a path, "~/" and relative ones resolved. *ret_path stays NULL after a reported problem. */
bool config_resolve_path(struct config_loader *l, const struct config_input *in, const char *key,
                         const char *text, char **ret_path);

/* config_file.c */
bool config_read_file(struct config_loader *l);
bool config_is_backend_name(const char *name);

/* config_convert.c, config_lists.c */
/* Converts a value into its field of `base`; after a reported problem the field is untouched. */
bool config_convert(struct config_loader *l, const struct config_key *key, const char *name,
                    const struct config_input *in, void *base);
/* The text of a text value; NULL after a reported problem. */
const char *config_text(struct config_loader *l, const char *name, const struct config_input *in);
/* Checks one text value by the rules of its type; false after a reported problem. */
bool config_check_text(struct config_loader *l, const struct config_key *key, const char *name,
                       const struct config_input *in, const char *text);
bool config_convert_list(struct config_loader *l, const struct config_key *key, const char *name,
                         const struct config_input *in, void *base);
/* Adds the variables of an env table to base's, replacing those of the same name. */
bool config_convert_env(struct config_loader *l, const struct config_key *key, const char *name,
                        const struct config_input *in, void *base);
/* The index of a word in "a|b|c", SIZE_MAX when it is none of them. */
size_t config_word_index(const char *words, const char *text);
/* The word of an index, its length in *ret_n. */
const char *config_word_at(const char *words, size_t index, size_t *ret_n);
/* 15 for "SIGTERM" and "TERM"; 0 for what is no polite signal. */
int config_signal_number(const char *name);
const char *config_signal_name(int number);

/* config_merge.c */
bool config_merge(struct config_loader *l);

/* config_builtin.c */
#define CONFIG_N_BUILTIN_BACKENDS 5
extern const char *const config_builtin_backends[CONFIG_N_BUILTIN_BACKENDS]; /* TOML, a table each */

/* config_backends.c */
bool config_load_backends(struct config_loader *l);
void config_backend_free(struct pool_backend *backend);

/* config_validate.c */
void config_validate(struct config_loader *l);

/* config_values.c */
bool config_build_values(struct config_loader *l);
void config_values_free(struct pool_config_values *values);

#endif
