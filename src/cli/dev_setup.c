/*
 * rbees-pool dev setup: a configuration and a catalog to begin with, everything in them commented out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "cli/commands.h"
#include "cli/json_document.h"
#include "cli/report.h"
#include "cli/setup_files.h"

#define FILE_MODE    0644
#define FOLDER_MODE  0755
#define FILE_MAX     (1 << 20)
#define CATALOG_NAME "catalog.toml"
/* As it stands in the example, and what is written for it. */
#define CATALOGS_SHOWN "\n#catalogs = "
#define CATALOGS_SET   "\ncatalogs = [\"" CATALOG_NAME "\"]"

/* Takes the example's catalogs for the one that is written beside it. */
static void make_config(struct strbuf *text)
{
    const char *at = strstr(setup_config_text, CATALOGS_SHOWN);
    size_t n = at ? (size_t)(at - setup_config_text) : strlen(setup_config_text);
    strbuf_add(text, setup_config_text, n);
    if (!at)
        return;
    strbuf_add_text(text, CATALOGS_SET);
    strbuf_add_text(text, at + 1 + strcspn(at + 1, "\n"));
}

/* The models of the example are nobody's yet. */
static void make_catalog(struct strbuf *text)
{
    for (const char *line = setup_catalog_text; *line;) {
        size_t n = strcspn(line, "\n");
        if (n > 0 && line[0] != '#')
            strbuf_add_char(text, '#');
        strbuf_add(text, line, n);
        strbuf_add_char(text, '\n');
        line += n + (line[n] == '\n');
    }
}

static enum pool_code refuse(const char *path, int failure, struct pool_error *err)
{
    if (failure != EEXIST)
        return pool_error_set_errno(
            err, failure == ENOSPC || failure == EDQUOT ? POOL_INSUFFICIENT_DISK : POOL_PERMISSION_DENIED,
            failure, "%s can not be written", path);
    pool_error_set(err, POOL_ALREADY_EXISTS, "%s is there already and is left as it is", path);
    pool_error_add_text(err, "path", path);
    return POOL_ALREADY_EXISTS;
}

/* The whole file or none, and never over another one. */
static enum pool_code write_new(const char *path, const struct strbuf *text, struct pool_error *err)
{
    CLEANUP_FREE char *new_path = NULL;
    if (text->failure != STRBUF_FINE)
        return pool_error_no_memory(err);
    if (asprintf(&new_path, "%s.XXXXXX", path) < 0) {
        new_path = NULL;
        return pool_error_no_memory(err);
    }
    CLEANUP_CLOSE int fd = mkostemp(new_path, O_CLOEXEC);
    if (fd < 0)
        return refuse(path, errno, err);
    int failure = fd_write_all(fd, strbuf_text(text), text->n);
    if (!failure && (fchmod(fd, FILE_MODE) < 0 || fsync(fd) < 0))
        failure = errno;
    if (!failure && renameat2(AT_FDCWD, new_path, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
        failure = errno;
    if (!failure)
        return POOL_OK;
    unlink(new_path);
    return refuse(path, failure, err);
}

static enum pool_code write_files(const char *config_path, const char *catalog_path, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf config = STRBUF_INIT(FILE_MAX);
    CLEANUP(strbuf_done) struct strbuf catalog = STRBUF_INIT(FILE_MAX);
    CLEANUP_FREE char *folder = strdup(config_path);
    if (!folder)
        return pool_error_no_memory(err);
    char *slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = '\0';
        int failure = make_directories(folder, FOLDER_MODE);
        if (failure)
            return refuse(folder, failure, err);
    }
    if (access(config_path, F_OK) == 0) /* before anything is written; the writing itself makes sure */
        return refuse(config_path, EEXIST, err);
    make_config(&config);
    make_catalog(&catalog);
    enum pool_code code = write_new(catalog_path, &catalog, err);
    if (code != POOL_OK)
        return code;
    code = write_new(config_path, &config, err);
    if (code != POOL_OK)
        unlink(catalog_path); /* ours of a moment ago */
    return code;
}

static enum pool_code find_paths(const struct cli *cli, char **ret_config, char **ret_catalog,
                                 struct pool_error *err)
{
    struct pool_config_override overrides[CLI_OVERRIDES_MAX];
    struct pool_config_sources sources = cli_config_sources(cli, overrides);
    enum pool_code code = pool_config_place(&sources, ret_config, err);
    if (code != POOL_OK)
        return code;
    const char *slash = strrchr(*ret_config, '/');
    int n_folder = slash ? (int)(slash + 1 - *ret_config) : 0;
    if (asprintf(ret_catalog, "%.*s" CATALOG_NAME, n_folder, *ret_config) < 0) {
        *ret_catalog = NULL;
        return pool_error_no_memory(err);
    }
    return POOL_OK;
}

static enum pool_code run_setup(struct cli *cli, const void *data, struct pool_error *err)
{
    (void)data;
    CLEANUP_FREE char *config_path = NULL;
    CLEANUP_FREE char *catalog_path = NULL;
    enum pool_code code = find_paths(cli, &config_path, &catalog_path, err);
    if (code == POOL_OK)
        code = write_files(config_path, catalog_path, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_pack("{s:o, s:o}", "config", json_of_text(config_path),
                                                  "catalog", json_of_text(catalog_path));
        return print_document(cli, document, err);
    }
    print_field(cli, "config", config_path);
    print_field(cli, "catalog", catalog_path);
    fputs("Every value in them is commented out; 'rbees-pool config check' says whether a change is right.\n",
          cli->out);
    return POOL_OK;
}

static const char *const examples[] = { "rbees-pool dev setup",
                                        "rbees-pool dev setup --config pool/pool.toml" };

const struct cli_command dev_setup_command = {
    .path = "dev setup",
    .summary = "Write a configuration and a catalog to begin with",
    .description = "Writes a configuration with every key, its meaning and its default, and a catalog beside "
                   "it with examples of "
                   "models, all commented out. They go to where the configuration is looked for: --config, "
                   "POOL_CONFIG, else the "
                   "default place. A file that is there already is never overwritten.",
    CLI_EXAMPLES(examples),
    .run = run_setup,
};
