/*
 * Checks of what others wrote: the driver, the engines, git and hf. Each may hang (a driver, an engine that asks it), so
 * it is asked in a process of its own that can be left behind.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cli/child_process.h"
#include "cli/doctor.h"

#define ASK_TIMEOUT_MS 10000
#define VERSION_MAX    160
#define OWN_PROGRAM    "/proc/self/exe"
#define PCI_DEVICES    "/sys/bus/pci/devices"
#define NVIDIA_VENDOR  "0x10de"
#define DISPLAY_CLASS  "0x03" /* VGA, 3D and other display controllers */

/* ---- versions ---- */

/* The first line that has a digit: some print a banner before. */
static void take_version(const struct child_result *result, char version[VERSION_MAX])
{
    const char *texts[] = { strbuf_text(&result->out), strbuf_text(&result->err) };
    version[0] = '\0';
    for (size_t i = 0; i < CLI_COUNT(texts); i++) {
        for (const char *line = texts[i]; *line; line += strcspn(line, "\n"), line += *line == '\n') {
            size_t n = strcspn(line, "\n");
            if (strcspn(line, "0123456789") >= n)
                continue;
            snprintf(version, VERSION_MAX, "%.*s", (int)n, line);
            return;
        }
    }
}

static enum pool_code ask_version(const struct doctor *doctor, const char *program, const char *argument,
                                  char version[VERSION_MAX], struct pool_error *err)
{
    CLEANUP(child_result_done) struct child_result result = CHILD_RESULT_INIT;
    struct child_options options = { .program = program,
                                     .argv = (const char *const[]){ program, argument, NULL },
                                     .environment = doctor->cli->environment,
                                     .timeout_ms = ASK_TIMEOUT_MS };
    enum pool_code code = child_run(&options, &result, err);
    if (code == POOL_OK && (result.is_signal || result.value != 0))
        return pool_error_set(err, POOL_BACKEND_UNAVAILABLE, "%s %s ends with %s %d", program, argument,
                              result.is_signal ? "signal" : "status", result.value);
    if (code == POOL_OK)
        take_version(&result, version);
    return code;
}

/* ---- the driver ---- */

static bool starts_file(const char *folder, const char *name, const char *file, const char *text)
{
    CLEANUP(strbuf_done) struct strbuf content = STRBUF_INIT(4096);
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/%s/%s", folder, name, file) < 0) {
        path = NULL;
        return false;
    }
    return file_read(path, &content) == 0 && strncmp(strbuf_text(&content), text, strlen(text)) == 0;
}

static size_t count_nvidia_devices(void)
{
    CLEANUP(close_directory) DIR *folder = opendir(PCI_DEVICES);
    const struct dirent *entry;
    size_t n = 0;
    while (folder && (entry = readdir(folder)))
        n += entry->d_name[0] != '.' && starts_file(PCI_DEVICES, entry->d_name, "vendor", NVIDIA_VENDOR) &&
             starts_file(PCI_DEVICES, entry->d_name, "class", DISPLAY_CLASS);
    return n;
}

static void check_gpu(struct doctor *doctor, const struct pool_gpu_info *gpu)
{
    if (gpu->health != POOL_GPU_HEALTHY)
        doctor_fail(doctor, "gpu", POOL_GPU_UNAVAILABLE,
                    "see dmesg for NVRM; a reset or a reboot may be needed", "GPU %" PRIu32 " %s: %s",
                    gpu->gpu_id, gpu->name, gpu->health_reason);
    else
        doctor_good(doctor, "gpu", "%" PRIu32 ": %s, driver %s", gpu->gpu_id, gpu->name,
                    gpu->driver_version[0] ? gpu->driver_version : "not known");
    if (gpu->persistence_enabled.is_present && !gpu->persistence_enabled.value && !gpu->is_mig_instance)
        doctor_warn(doctor, "persistence", "run nvidia-persistenced, or: nvidia-smi -pm 1",
                    "GPU %" PRIu32
                    " has no persistence mode: the driver is loaded anew for each start, which takes "
                    "seconds",
                    gpu->gpu_id);
    if (gpu->ecc_uncorrected_errors.is_present && gpu->ecc_uncorrected_errors.value > 0)
        doctor_warn(doctor, "ecc", "see nvidia-smi -q -d ECC,PAGE_RETIREMENT",
                    "GPU %" PRIu32 " has had %" PRId64 " errors of memory that could not be corrected",
                    gpu->gpu_id, gpu->ecc_uncorrected_errors.value);
    if (!gpu->are_processes_known && gpu->is_placeable)
        doctor_note(doctor, "gpu", NULL, "GPU %" PRIu32 " does not tell who holds its memory", gpu->gpu_id);
}

static void judge_list(struct doctor *doctor, const struct pool_gpu_list *list)
{
    size_t n_devices = list->n_gpus == 0 ? count_nvidia_devices() : 0;
    for (size_t i = 0; i < list->n_gpus; i++)
        check_gpu(doctor, list->gpus[i]);
    if (list->n_gpus > 0 && list->reason[0])
        doctor_warn(doctor, "driver", NULL, "%s", list->reason);
    else if (n_devices > 0)
        doctor_fail(doctor, "driver", POOL_GPU_UNAVAILABLE,
                    "install the NVIDIA driver, load its module, and see that /dev/nvidia* is there",
                    "%zu NVIDIA devices are in this machine, but: %s", n_devices, list->reason);
    else if (list->n_gpus == 0)
        doctor_note(doctor, "driver", NULL, "no GPU: %s", list->reason);
    else
        doctor_good(doctor, "driver", "%zu device%s by %s", list->n_gpus, list->n_gpus == 1 ? "" : "s",
                    list->source);
}

/* Ourselves, again: 'gpu list' without a daemon. */
static size_t make_words(const struct cli *cli, const char *words[12])
{
    size_t n = 0;
    words[n++] = CLI_PROGRAM_NAME;
    words[n++] = "gpu";
    words[n++] = "list";
    words[n++] = "--json";
    words[n++] = "--local";
    if (cli->globals.config_file) {
        words[n++] = "--config";
        words[n++] = cli->globals.config_file;
    }
    if (cli->globals.state_dir) {
        words[n++] = "--state-dir";
        words[n++] = cli->globals.state_dir;
    }
    words[n] = NULL;
    return n;
}

void doctor_check_driver(struct doctor *doctor)
{
    CLEANUP(child_result_done) struct child_result result = CHILD_RESULT_INIT;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_gpu_list *list = NULL;
    const char *words[12];
    if (!doctor->config)
        return;
    make_words(doctor->cli, words);
    struct child_options options = { .program = OWN_PROGRAM,
                                     .argv = words,
                                     .environment = doctor->cli->environment,
                                     .timeout_ms = ASK_TIMEOUT_MS };
    enum pool_code code = child_run(&options, &result, &error);
    if (code == POOL_DEADLINE_EXCEEDED) {
        doctor_fail(doctor, "driver", POOL_GPU_UNAVAILABLE,
                    "see dmesg for NVRM; a hanging driver needs a reboot",
                    "the driver does not answer in %d s", ASK_TIMEOUT_MS / 1000);
        return;
    }
    if (code == POOL_OK && (result.is_signal || result.value != 0)) {
        if (pool_error_decode(strbuf_text(&result.out), result.out.n, &error, NULL) != POOL_OK)
            pool_error_set(&error, POOL_GPU_UNAVAILABLE, "asking it ended with %s %d",
                           result.is_signal ? "signal" : "status", result.value);
        code = error.code;
    }
    if (code == POOL_OK)
        code = pool_gpu_list_decode(strbuf_text(&result.out), result.out.n, &list, &error);
    if (code == POOL_OK)
        judge_list(doctor, list);
    else
        doctor_fail(doctor, "driver", code, "see gpu.inventory of the configuration", "%s", error.message);
    pool_gpu_list_free(list);
}

/* ---- engines ---- */

/* false: PATH has none. */
static bool find_program(const struct cli *cli, const char *program, char **ret_path)
{
    const char *path = NULL;
    for (const char *const *variable = cli->environment; *variable; variable++) {
        if (strncmp(*variable, "PATH=", 5) == 0)
            path = *variable + 5;
    }
    if (strchr(program, '/'))
        return access(program, X_OK) == 0 && (*ret_path = strdup(program)) != NULL;
    while (path && *path) {
        size_t n = strcspn(path, ":");
        char *candidate = NULL;
        struct stat status;
        if (n > 0 && asprintf(&candidate, "%.*s/%s", (int)n, path, program) >= 0) {
            if (access(candidate, X_OK) == 0 && stat(candidate, &status) == 0 && S_ISREG(status.st_mode)) {
                *ret_path = candidate;
                return true;
            }
            free(candidate);
        }
        path += n + (path[n] == ':');
    }
    return false;
}

static bool was_seen(const struct pool_config *config, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (config->backends[i]->n_command > 0 &&
            strcmp(config->backends[i]->command[0], config->backends[index]->command[0]) == 0)
            return true;
    }
    return false;
}

static bool check_engine(struct doctor *doctor, const struct pool_backend *backend)
{
    CLEANUP_FREE char *path = NULL;
    char version[VERSION_MAX] = "";
    struct pool_error error = POOL_ERROR_INIT;
    const char *program = backend->command[0];
    if (!find_program(doctor->cli, program, &path)) {
        if (backend->is_builtin)
            doctor_note(doctor, "engines", "install it, or leave backends of it alone",
                        "%s (backend %s) is not installed", program, backend->name);
        else
            doctor_fail(doctor, "engines", POOL_BACKEND_UNAVAILABLE,
                        "install it, or mend the backend's command in the configuration",
                        "%s (backend %s) is not there or not executable", program, backend->name);
        return false;
    }
    enum pool_code code = ask_version(doctor, path, "--version", version, &error);
    if (code == POOL_OK && version[0])
        doctor_good(doctor, "engines", "%s (backend %s): %s", path, backend->name, version);
    else if (code == POOL_DEADLINE_EXCEEDED)
        doctor_warn(doctor, "engines", "see whether it hangs in the driver", "%s (backend %s): %s", path,
                    backend->name, error.message);
    else
        doctor_good(doctor, "engines", "%s (backend %s), version not known", path, backend->name);
    return true;
}

void doctor_check_engines(struct doctor *doctor)
{
    const struct pool_config *config = doctor->config;
    size_t n_there = 0;
    for (size_t i = 0; config && i < config->n_backends; i++) {
        if (config->backends[i]->n_command > 0 && !was_seen(config, i))
            n_there += check_engine(doctor, config->backends[i]);
    }
    if (config && n_there == 0)
        doctor_warn(doctor, "engines", "install llama-server or vllm, or name one in the configuration",
                    "no engine is there: no worker can be started");
}

/* ---- tools ---- */

static void check_tool(struct doctor *doctor, const char *program, const char *argument, const char *fix,
                       const char *without)
{
    char version[VERSION_MAX] = "";
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = ask_version(doctor, program, argument, version, &error);
    if (code == POOL_NOT_FOUND)
        doctor_note(doctor, program, fix, "%s is not installed: %s", program, without);
    else if (code != POOL_OK)
        doctor_warn(doctor, program, fix, "%s", error.message);
    else
        doctor_good(doctor, program, "%s", version[0] ? version : "version not known");
}

void doctor_check_tools(struct doctor *doctor)
{
    check_tool(doctor, "git", "--version", "on Debian: apt-get install git", "'git' commands do not work");
    check_tool(doctor, "hf", "version", "pipx install huggingface_hub",
               "downloads do without it, '--via hf' does not");
}
