/*
 * Any bytes as a configuration file. What loads has to show itself as a file that loads to the same; what does
 * not has to say INVALID_CONFIG and where.
 */
#include <pool/config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_report(bool is_warning, const char *message, void *context)
{
    (void)is_warning;
    (void)context;
    if (message[0] == '\0')
        abort();
}

static enum pool_code load(const void *data, size_t size, struct pool_config **ret_config,
                           struct pool_error *err)
{
    static const char *const environment[] = { "HOME=/home/fuzz", "POOL_ID=fuzz", NULL };
    char path[64];
    int fd = memfd_create("pool.toml", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct pool_config_sources sources = { .struct_size = sizeof sources,
                                           .file = path,
                                           .environment = environment };
    enum pool_code code = pool_config_check(&sources, ignore_report, NULL, ret_config, err);
    close(fd);
    return code;
}

static void check_that_it_reads_back(const struct pool_config *config)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out)
        abort();
    for (size_t i = 0; i < pool_config_n_values(config); i++) {
        struct pool_config_value value = pool_config_value_at(config, i);
        fprintf(out, "%s = %s\n", value.key, value.value);
    }
    if (fclose(out) != 0)
        abort();
    struct pool_config *again = NULL;
    /* Written out in full, a configuration may be larger than a file may be. */
    if (n <= POOL_CONFIG_FILE_MAX_BYTES) {
        if (load(text, n, &again, NULL) != POOL_OK ||
            pool_config_n_values(again) != pool_config_n_values(config))
            abort();
        for (size_t i = 0; i < pool_config_n_values(config); i++) {
            if (strcmp(pool_config_value_at(config, i).value, pool_config_value_at(again, i).value) != 0)
                abort();
        }
    }
    pool_config_free(again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pool_config *config = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = load(data, size, &config, &err);
    if (code == POOL_OK)
        check_that_it_reads_back(config);
    else if (config || (code == POOL_INVALID_CONFIG && !pool_error_detail(&err, "n_problems")))
        abort();
    pool_config_free(config);
    return 0;
}
