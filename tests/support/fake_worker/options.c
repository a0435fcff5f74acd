// The table of options, and reading the command line by it.
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_kind { FLAG, NUMBER, TEXT, SIGNAL, CLAIM, LINE, IGNORED_FLAG, IGNORED_VALUE };

struct option {
    const char *name;
    enum option_kind kind;
    size_t offset;
};

#define AT(member) offsetof(struct options, member)

static const struct option options[] = {
    { "--host", TEXT, AT(host) },
    { "--port", NUMBER, AT(port) },
    { "-m", TEXT, AT(model) },
    { "--model", TEXT, AT(model) },
    { "-np", NUMBER, AT(slots) },
    { "--parallel", NUMBER, AT(slots) },
    { "-c", NUMBER, AT(context) },
    { "--ctx-size", NUMBER, AT(context) },
    { "--reuseport", FLAG, AT(reuseport) },
    { "--listen-after-ms", NUMBER, AT(listen_after_ms) },
    { "--listen-when", TEXT, AT(listen_when) },
    { "--ready-after-ms", NUMBER, AT(ready_after_ms) },
    { "--ready-when", TEXT, AT(ready_when) },
    { "--never-ready", FLAG, AT(never_ready) },
    { "--busy-after", NUMBER, AT(busy_after_ms) },
    { "--completion-ms", NUMBER, AT(completion_ms) },
    { "--lose-port", IGNORED_FLAG, 0 }, // what happens anyway when the port is taken
    { "--exit-at-once", FLAG, AT(exit_at_once) },
    { "--crash-after-ms", NUMBER, AT(crash_after_ms) },
    { "--crash-when", TEXT, AT(crash_when) },
    { "--exit-code", NUMBER, AT(exit_code) },
    { "--crash-signal", SIGNAL, AT(crash_signal) },
    { "--ignore-sigterm", FLAG, AT(ignore_sigterm) },
    { "--term-takes-ms", NUMBER, AT(term_takes_ms) },
    { "--term-when", TEXT, AT(term_when) },
    { "--grandchildren", NUMBER, AT(grandchildren) },
    { "--grandchildren-leave-session", FLAG, AT(grandchildren_leave_session) },
    { "--grandchildren-ignore-sigterm", FLAG, AT(grandchildren_ignore_sigterm) },
    { "--stranger-port", FLAG, AT(stranger_port) },
    { "--helper-life-ms", NUMBER, AT(helper_life_ms) },
    { "--helpers-end-when", TEXT, AT(helpers_end_when) },
    { "--flood-log", NUMBER, AT(flood_bytes) },
    { "--flood-log-rate", NUMBER, AT(flood_bytes_per_s) },
    { "--take-memory", NUMBER, AT(memory_bytes) },
    { "--vram-claims", TEXT, AT(claims_dir) },
    { "--vram", CLAIM, 0 },
    { "--vram-growth-ms", NUMBER, AT(vram_growth_ms) },
    { "--callback-url", TEXT, AT(callback_url) },
    { "--no-callback", FLAG, AT(no_callback) },
    { "--wrong-token", FLAG, AT(wrong_token) },
    { "--callback-again", NUMBER, AT(callback_again) },
    { "--timestamps", TEXT, AT(timestamps) },
    { "--print-env", FLAG, AT(print_env) },
    { "--wipe-env", FLAG, AT(wipe_env) },
    { "--print-args", FLAG, AT(print_args) },
    { "--say", LINE, 0 },
    { "--list-devices", FLAG, AT(list_devices) },
    { "--fake-cuda-device", FLAG, AT(fake_cuda_device) },
    { "--version", FLAG, AT(version) },
    // Options of llama-server, vLLM and the native worker.
    { "-ngl", IGNORED_VALUE, 0 },
    { "--n-gpu-layers", IGNORED_VALUE, 0 },
    { "--gpu-layers", IGNORED_VALUE, 0 },
    { "-dev", IGNORED_VALUE, 0 },
    { "--device", IGNORED_VALUE, 0 },
    { "-t", IGNORED_VALUE, 0 },
    { "--threads", IGNORED_VALUE, 0 },
    { "-b", IGNORED_VALUE, 0 },
    { "--batch-size", IGNORED_VALUE, 0 },
    { "-ub", IGNORED_VALUE, 0 },
    { "--ubatch-size", IGNORED_VALUE, 0 },
    { "-a", IGNORED_VALUE, 0 },
    { "--alias", IGNORED_VALUE, 0 },
    { "-fa", IGNORED_VALUE, 0 },
    { "--flash-attn", IGNORED_VALUE, 0 },
    { "-fit", IGNORED_VALUE, 0 },
    { "--fit", IGNORED_VALUE, 0 },
    { "--timeout", IGNORED_VALUE, 0 },
    { "--api-key", IGNORED_VALUE, 0 },
    { "--api-key-file", IGNORED_VALUE, 0 },
    { "--cache-type-k", IGNORED_VALUE, 0 },
    { "--cache-type-v", IGNORED_VALUE, 0 },
    { "--main-gpu", IGNORED_VALUE, 0 },
    { "--split-mode", IGNORED_VALUE, 0 },
    { "--log-verbosity", IGNORED_VALUE, 0 },
    { "--worker-id", IGNORED_VALUE, 0 },
    { "--gpu-device", IGNORED_VALUE, 0 },
    { "--served-model-name", IGNORED_VALUE, 0 },
    { "--max-model-len", IGNORED_VALUE, 0 },
    { "--max-num-seqs", IGNORED_VALUE, 0 },
    { "--tensor-parallel-size", IGNORED_VALUE, 0 },
    { "--gpu-memory-utilization", IGNORED_VALUE, 0 },
    { "-kvu", IGNORED_FLAG, 0 },
    { "--kv-unified", IGNORED_FLAG, 0 },
    { "--no-kv-unified", IGNORED_FLAG, 0 },
    { "--jinja", IGNORED_FLAG, 0 },
    { "--metrics", IGNORED_FLAG, 0 },
    { "--mlock", IGNORED_FLAG, 0 },
    { "--no-mmap", IGNORED_FLAG, 0 },
    { "--no-slots", IGNORED_FLAG, 0 },
    { "--no-ui", IGNORED_FLAG, 0 },
    { "--no-warmup", IGNORED_FLAG, 0 },
    { "--no-webui", IGNORED_FLAG, 0 },
    { "--offline", IGNORED_FLAG, 0 },
    { "--props", IGNORED_FLAG, 0 },
    { "--slots", IGNORED_FLAG, 0 },
    { "-v", IGNORED_FLAG, 0 },
    { "--verbose", IGNORED_FLAG, 0 },
};

bool read_size(const char *text, long long *ret)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 0);
    if (errno != 0 || end == text)
        return false;
    long long unit = 1;
    if (strcmp(end, "KiB") == 0)
        unit = 1LL << 10;
    else if (strcmp(end, "MiB") == 0)
        unit = 1LL << 20;
    else if (strcmp(end, "GiB") == 0)
        unit = 1LL << 30;
    else if (*end != '\0')
        return false;
    return !__builtin_mul_overflow(value, unit, ret);
}

static bool read_signal(const char *text, long long *ret)
{
    static const struct {
        const char *name;
        int number;
    } names[] = { { "SEGV", SIGSEGV }, { "ABRT", SIGABRT }, { "KILL", SIGKILL }, { "BUS", SIGBUS },
                  { "FPE", SIGFPE },   { "TERM", SIGTERM }, { "INT", SIGINT },   { "ILL", SIGILL } };
    const char *bare = strncmp(text, "SIG", 3) == 0 ? text + 3 : text;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].name, bare) == 0) {
            *ret = names[i].number;
            return true;
        }
    return read_size(text, ret) && *ret > 0 && *ret < NSIG;
}

static void __attribute__((noreturn)) refuse(const char *what, const char *why)
{
    fprintf(stderr, "fake-worker: %s: %s\n", what, why);
    exit(2);
}

// Sets one option; value is NULL for a flag.
static void set_option(const struct option *option, const char *value, struct options *ret)
{
    char *member = (char *)ret + option->offset;
    bool is_right = true;
    switch (option->kind) {
    case FLAG: *(bool *)member = true; break;
    case NUMBER: is_right = read_size(value, (long long *)(void *)member); break;
    case SIGNAL: is_right = read_signal(value, (long long *)(void *)member); break;
    case TEXT: *(const char **)(void *)member = value; break;
    case CLAIM:
        is_right = ret->n_claims < MAX_CLAIMS && strchr(value, ':') != NULL;
        if (is_right)
            ret->claims[ret->n_claims++] = value;
        break;
    case LINE:
        is_right = ret->n_lines < MAX_LINES;
        if (is_right)
            ret->lines[ret->n_lines++] = value;
        break;
    case IGNORED_FLAG:
    case IGNORED_VALUE: break;
    }
    if (!is_right)
        refuse(option->name, "wrong value");
}

static void read_words(char **words, int n, struct options *ret)
{
    for (int i = 0; i < n; i++) {
        if (words[i][0] != '-')
            continue; // a sub-command or a model of another engine
        size_t at = 0;
        while (at < sizeof options / sizeof options[0] && strcmp(options[at].name, words[i]) != 0)
            at++;
        if (at == sizeof options / sizeof options[0])
            refuse(words[i], "unknown option");
        bool is_flag = options[at].kind == FLAG || options[at].kind == IGNORED_FLAG;
        if (!is_flag && i + 1 == n)
            refuse(words[i], "wants a value");
        set_option(&options[at], is_flag ? NULL : words[++i], ret);
    }
}

void read_options(int argc, char **argv, struct options *ret)
{
    *ret = (struct options){ .host = "127.0.0.1",
                             .port = 8080,
                             .model = "fake.gguf",
                             .slots = 1,
                             .context = 4096,
                             .busy_after_ms = -1,
                             .crash_after_ms = -1,
                             .exit_code = 1,
                             .helper_life_ms = 60000 };
    read_words(argv + 1, argc - 1, ret);
    char *words[64], *rest = getenv("FAKE_WORKER_ARGS"), *word;
    int n = 0;
    while (rest != NULL && (word = strsep(&rest, " ")) != NULL)
        if (*word != '\0') {
            if (n == 64)
                refuse("FAKE_WORKER_ARGS", "too many words");
            words[n++] = word;
        }
    read_words(words, n, ret);
    if (ret->port < 0 || ret->port > 65535)
        refuse("--port", "out of range");
    if (ret->slots < 1)
        ret->slots = 1; // llama-server takes -1 for a number of its own choice
    if (ret->slots > 256)
        refuse("--parallel", "more than 256");
    if (ret->n_claims > 0 && ret->claims_dir == NULL)
        refuse("--vram", "wants --vram-claims");
}
