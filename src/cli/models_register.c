/*
 * rbees-pool models register.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "cli/catalog_file.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json_document.h"
#include "cli/model_state.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/verify_files.h"

struct models_register_arguments {
    const char *id;
    const char *model_ref;
    const char *name;
    const char *catalog;
    struct cli_texts backends;
};

struct registration {
    struct cli *cli;
    const struct models_register_arguments *arguments;
    struct pool_model *model;
    struct pool_model_ref *ref; /* of the model, as it was found */
    char *repo;
    struct verify_files files;
    struct catalog_entry_file *entry_files;
    char **names; /* of the files as the entry has them */
    int cancel_fd;
    struct progress_line line;
};

static void registration_done(struct registration *registration)
{
    size_t n = registration->model ? registration->model->n_files : 0;
    for (size_t i = 0; registration->names && i < n; i++)
        free(registration->names[i]);
    free(registration->names);
    free(registration->entry_files);
    free(registration->files.at);
    free(registration->repo);
    pool_model_ref_free(registration->ref);
    pool_model_free(registration->model);
}

static bool go_on(int64_t done_bytes, int64_t total_bytes, void *context)
{
    struct registration *registration = context;
    struct pollfd fd = { .fd = registration->cancel_fd, .events = POLLIN };
    progress_of_bytes(done_bytes, total_bytes, &registration->line);
    return poll(&fd, 1, 0) <= 0;
}

static enum pool_code refuse(struct pool_error *err, const char *field, const char *why)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "%s", why);
    pool_error_set_field(err, "%s", field);
    return POOL_INVALID_REQUEST;
}

static enum pool_code find_model(struct registration *registration, struct pool_error *err)
{
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    struct cli *cli = registration->cli;
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code == POOL_OK)
        code = open_catalog(cli, &catalog, err);
    if (code == POOL_OK)
        code = pool_config_resolve_model(config, cli->environment, NULL, true,
                                         registration->arguments->model_ref, &registration->model, err);
    if (code == POOL_OK)
        code = pool_model_ref_parse(registration->model->ref, strlen(registration->model->ref),
                                    &registration->ref, err);
    if (code != POOL_OK)
        return code;
    if (registration->ref->kind == POOL_MODEL_REF_HF && !registration->ref->file)
        return refuse(err, "model_ref", "an entry names files; a whole repository is used by its reference");
    return POOL_OK;
}

static enum pool_code hash_files(struct registration *registration, struct pool_error *err)
{
    const struct pool_model *model = registration->model;
    struct verify_files *files = &registration->files;
    const struct pool_config *config;
    enum pool_code code = cli_get_config(registration->cli, &config, err);
    CLEANUP_FREE char *proof_dir = code == POOL_OK ? pool_config_proof_dir(config) : NULL;
    files->at = calloc(model->n_files + 1, sizeof *files->at);
    if (!files->at || !proof_dir)
        return pool_error_no_memory(err);
    files->n = model->n_files;
    for (size_t i = 0; i < model->n_files; i++) {
        struct stat st;
        files->at[i] =
            (struct verify_file){ .path = model->file_paths[i],
                                  .sha256 = model->known_sha256s ? model->known_sha256s[i] : NULL,
                                  .size_bytes = stat(model->file_paths[i], &st) == 0 ? st.st_size : 0 };
    }
    files->proof_dir = proof_dir;
    files->progress = go_on;
    files->context = registration;
    registration->line =
        (struct progress_line){ .cli = registration->cli, .subject = registration->arguments->id };
    code = verify_files(files, err);
    progress_clear(&registration->line);
    for (size_t i = 0; i < files->n && code == POOL_OK; i++) {
        code = files->at[i].error.code;
        if (code != POOL_OK && err)
            *err = files->at[i].error;
    }
    return code;
}

/* Inside of its repository the first file has the name that the reference says; the others lie beside it. */
static char *name_in_entry(const struct registration *registration, size_t index)
{
    const char *path = registration->model->file_paths[index];
    if (registration->ref->kind == POOL_MODEL_REF_FILE)
        return strdup(index == 0 && registration->ref->path ? registration->ref->path : path);
    const char *first = registration->ref->file;
    const char *slash = strrchr(first, '/');
    const char *base = strrchr(path, '/');
    char *name = NULL;
    int n = asprintf(&name, "%.*s%s", slash ? (int)(slash + 1 - first) : 0, first, base ? base + 1 : path);
    return n < 0 ? NULL : name;
}

static enum pool_code describe_files(struct registration *registration, struct pool_error *err)
{
    const struct pool_model *model = registration->model;
    registration->entry_files = calloc(model->n_files + 1, sizeof *registration->entry_files);
    registration->names = calloc(model->n_files + 1, sizeof *registration->names);
    if (!registration->entry_files || !registration->names)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < model->n_files; i++) {
        registration->names[i] = name_in_entry(registration, i);
        if (!registration->names[i])
            return pool_error_no_memory(err);
        registration->entry_files[i] =
            (struct catalog_entry_file){ .file = registration->names[i],
                                         .size_bytes = registration->files.at[i].size_bytes,
                                         .sha256 = registration->files.at[i].result.sha256 };
    }
    return POOL_OK;
}

static enum pool_code choose_catalog(struct cli *cli, const char *given, const char **ret_path,
                                     struct pool_error *err)
{
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code != POOL_OK)
        return code;
    *ret_path = given ? given : config->n_catalogs > 0 ? config->catalogs[0] : NULL;
    return *ret_path
               ? POOL_OK
               : pool_error_set(err, POOL_INVALID_CONFIG,
                                "no catalog is configured: name a file with --catalog and in pool.catalogs");
}

static enum pool_code add_entry(struct registration *registration, const char *path, struct pool_error *err)
{
    const struct models_register_arguments *arguments = registration->arguments;
    const struct pool_model_ref *ref = registration->ref;
    bool is_hub = ref->kind == POOL_MODEL_REF_HF;
    if (is_hub && asprintf(&registration->repo, "%s/%s", ref->org, ref->repo) < 0) {
        registration->repo = NULL;
        return pool_error_no_memory(err);
    }
    struct catalog_entry entry = { .id = arguments->id,
                                   .name = arguments->name ? arguments->name : arguments->id,
                                   .repo = registration->repo,
                                   .revision = is_hub ? ref->revision : NULL,
                                   .n_files = registration->model->n_files,
                                   .files = registration->entry_files,
                                   .n_backends = arguments->backends.n,
                                   .backends = arguments->backends.at };
    return catalog_file_add(registration->cli, path, &entry, err);
}

static enum pool_code print_added(const struct registration *registration, const char *path,
                                  struct pool_error *err)
{
    const struct cli *cli = registration->cli;
    const char *id = registration->arguments->id;
    const char *sha256 = registration->files.at[0].result.sha256;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_pack("{s:o, s:o, s:I, s:s, s:o}", "id", json_of_text(id),
                                                  "model", json_of_text(registration->model->ref),
                                                  "size_bytes", (json_int_t)registration->model->size_bytes,
                                                  "sha256", sha256, "catalog", json_of_text(path));
        return print_document(cli, document, err);
    }
    fprintf(cli->out, "%s is in ", id);
    terminal_print(&cli->terminal, cli->out, path);
    fprintf(cli->out, ", SHA-256 %s\n", sha256);
    return POOL_OK;
}

static enum pool_code run_register(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct models_register_arguments *arguments = data;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    CLEANUP(registration_done) struct registration registration = { .cli = cli, .arguments = arguments };
    struct pool_model_ref *id = NULL;
    const char *path = NULL;
    enum pool_code code = pool_model_ref_parse(arguments->id, strlen(arguments->id), &id, err);
    bool is_id = code == POOL_OK && id->kind == POOL_MODEL_REF_ID;
    pool_model_ref_free(id);
    if (code != POOL_OK || !is_id)
        return code == POOL_OK ? refuse(err, "ID", "not an id: letters, digits, '.', '_' and '-', at most 64")
                               : code;
    code = choose_catalog(cli, arguments->catalog, &path, err);
    if (code == POOL_OK)
        code = interrupt_open(&interrupt, err);
    registration.cancel_fd = interrupt.fd;
    if (code == POOL_OK)
        code = find_model(&registration, err);
    if (code == POOL_OK)
        code = hash_files(&registration, err);
    if (code == POOL_OK)
        code = describe_files(&registration, err);
    if (code == POOL_OK)
        code = add_entry(&registration, path, err);
    return code == POOL_OK ? print_added(&registration, path, err) : code;
}

#define AT(field) .offset = offsetof(struct models_register_arguments, field)

static const struct cli_option options[] = {
    { .name = "name", .value = CLI_TEXT, .unit = "TEXT", AT(name), .summary = "What people call it" },
    { .name = "backend",
      .letter = 'b',
      .value = CLI_TEXTS,
      .unit = "NAME",
      AT(backends),
      .summary = "A backend that can run it; may be given several times" },
    { .name = "catalog",
      .value = CLI_TEXT,
      .unit = "FILE",
      AT(catalog),
      .default_text = "the first of pool.catalogs",
      .summary = "The catalog to write to" },
};
static const struct cli_positional positionals[] = {
    { .name = "ID", .value = CLI_TEXT, AT(id), .summary = "The id of the new entry" },
    { .name = "MODEL",
      .value = CLI_TEXT,
      AT(model_ref),
      .summary = "file:/path or hf:ORG/REPO[@REV][::file=PATH], on disk already" },
};
static const char *const examples[] = {
    "rbees-pool models register tiny file:/srv/models/tiny.gguf",
    "rbees-pool models register qwen "
    "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF::file=qwen2.5-0.5b-instruct-q4_k_m.gguf",
};

const struct cli_command models_register_command = {
    .path = "models register",
    .summary = "Add a model on disk to a catalog",
    .description = "Adds an entry to the operator's catalog, with the size and the SHA-256 of the files as "
                   "they are, and of a "
                   "model of the Hub with its commit. What else is in the catalog stays as it is. The new "
                   "catalog is in place "
                   "only when it can be read together with the others.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct models_register_arguments),
    .run = run_register,
};
