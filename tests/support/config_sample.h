/*
 * Loading configurations in tests: a file of given text in a folder of its own, everything that is reported
 * collected. The environment and flags are exactly those that a test gives.
 */
#ifndef CONFIG_SAMPLE_H
#define CONFIG_SAMPLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pool/config.h>
#include <cmocka.h>

#define SAMPLE_REPORTS_MAX 64

struct config_sample {
    char dir[64];
    char path[96]; /* of the file */
    struct pool_config *config;
    struct pool_error err;
    size_t n_problems, n_warnings;
    char problems[SAMPLE_REPORTS_MAX][POOL_ERROR_MESSAGE_MAX];
    char warnings[SAMPLE_REPORTS_MAX][POOL_ERROR_MESSAGE_MAX];
};

static inline void sample_report(bool is_warning, const char *message, void *context)
{
    struct config_sample *s = context;
    size_t *n = is_warning ? &s->n_warnings : &s->n_problems;
    char(*list)[POOL_ERROR_MESSAGE_MAX] = is_warning ? s->warnings : s->problems;
    assert_true(*n < SAMPLE_REPORTS_MAX);
    snprintf(list[(*n)++], POOL_ERROR_MESSAGE_MAX, "%s", message);
}

static inline void sample_open(struct config_sample *s)
{
    memset(s, 0, sizeof *s);
    snprintf(s->dir, sizeof s->dir, "/tmp/pool-config-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof s->path, "%s/pool.toml", s->dir);
}

static inline void sample_close(struct config_sample *s)
{
    pool_config_free(s->config);
    s->config = NULL;
    unlink(s->path);
    rmdir(s->dir);
}

static inline void sample_write(const struct config_sample *s, const char *text, size_t n)
{
    FILE *file = fopen(s->path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

/* Loads `toml` (NULL: the file as it lies there) with these variables and flags. */
static inline enum pool_code sample_load_with(struct config_sample *s, const char *toml,
                                              const char *const *environment, size_t n_overrides,
                                              const struct pool_config_override *overrides)
{
    if (toml)
        sample_write(s, toml, strlen(toml));
    pool_config_free(s->config);
    s->config = NULL;
    s->err = (struct pool_error)POOL_ERROR_INIT;
    s->n_problems = s->n_warnings = 0;
    struct pool_config_sources sources = { .struct_size = sizeof sources,
                                           .file = s->path,
                                           .environment = environment,
                                           .n_overrides = n_overrides,
                                           .overrides = overrides };
    return pool_config_check(&sources, sample_report, s, &s->config, &s->err);
}

static inline enum pool_code sample_load(struct config_sample *s, const char *toml)
{
    return sample_load_with(s, toml, NULL, 0, NULL);
}

/* The shown value of a key; the test fails when there is none. */
static inline struct pool_config_value sample_value(const struct pool_config *config, const char *key)
{
    for (size_t i = 0; i < pool_config_n_values(config); i++) {
        struct pool_config_value value = pool_config_value_at(config, i);
        if (strcmp(value.key, key) == 0)
            return value;
    }
    fail_msg("no value of %s", key);
    return (struct pool_config_value){ NULL, NULL, NULL };
}

static inline const struct pool_backend *sample_backend(const struct pool_config *config, const char *name)
{
    const struct pool_backend *backend = NULL;
    assert_int_equal(pool_config_backend(config, name, &backend, NULL), POOL_OK);
    return backend;
}

/* All values of a configuration as a file that says the same; the caller frees it. */
static inline char *sample_as_file(const struct pool_config *config)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    for (size_t i = 0; i < pool_config_n_values(config); i++) {
        struct pool_config_value value = pool_config_value_at(config, i);
        fprintf(out, "%s = %s\n", value.key, value.value);
    }
    assert_int_equal(fclose(out), 0);
    return text;
}

#endif
