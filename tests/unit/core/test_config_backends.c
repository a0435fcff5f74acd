/*
 * Backends: the built-in ones, what a file changes in them, and what is inherited.
 */
#include "config_sample.h"

#include <signal.h>

static int open_sample(void **state)
{
    static struct config_sample sample;
    sample_open(&sample);
    *state = &sample;
    return 0;
}

static int close_sample(void **state)
{
    sample_close(*state);
    return 0;
}

static void assert_texts(char *const *texts, size_t n, const char *joined)
{
    char text[4096] = "";
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i ? " " : "", texts[i]);
    assert_string_equal(text, joined);
}

static bool has_text(char *const *texts, size_t n, const char *wanted)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(texts[i], wanted) == 0)
            return true;
    }
    return false;
}

static void test_builtin(void **state)
{
    struct config_sample *s = *state;
    static const struct {
        const char *name, *command;
        enum pool_device_kind device;
        const char *ready_http;
        bool ready_callback;
        enum pool_activity activity;
        const char *protocol, *formats, *device_check;
        bool exclusive_start;
    } expected[] = {
        { "cpu",
          "llama-server -m {model_path} --host {host} --port {port} -c {ctx_size} -np {parallel} --device "
          "none",
          POOL_DEVICE_CPU, "/health", false, POOL_ACTIVITY_LLAMA_SERVER, "openai", "gguf", "", false },
        { "cuda",
          "llama-server -m {model_path} --host {host} --port {port} -c {ctx_size} -np {parallel} -ngl 999",
          POOL_DEVICE_GPU, "/health", false, POOL_ACTIVITY_LLAMA_SERVER, "openai", "gguf", "--list-devices",
          false },
        { "metal",
          "llama-server -m {model_path} --host {host} --port {port} -c {ctx_size} -np {parallel} -ngl 999",
          POOL_DEVICE_METAL, "/health", false, POOL_ACTIVITY_LLAMA_SERVER, "openai", "gguf", "--list-devices",
          false },
        { "native",
          "rbees-worker --worker-id {worker_id} --model {model_path} --gpu-device {gpu_ordinal} --port "
          "{port} "
          "--callback-url {callback_url}",
          POOL_DEVICE_GPU, NULL, true, POOL_ACTIVITY_NONE, "", "", "", false },
        { "vllm",
          "vllm serve {model_path} --host {host} --port {port} --max-model-len {ctx_size} --max-num-seqs "
          "{parallel} --gpu-memory-utilization {gpu_memory_fraction}",
          POOL_DEVICE_GPU, "/health", false, POOL_ACTIVITY_VLLM, "openai", "safetensors", "", true },
    };
    assert_int_equal(sample_load(s, ""), POOL_OK);
    assert_int_equal(s->n_warnings, 0);
    assert_int_equal(s->config->n_backends, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < s->config->n_backends; i++) {
        const struct pool_backend *b = s->config->backends[i]; /* by name, as the table is */
        assert_string_equal(b->name, expected[i].name);
        assert_true(b->is_builtin);
        assert_texts(b->command, b->n_command, expected[i].command);
        assert_int_equal(b->device, expected[i].device);
        if (expected[i].ready_http)
            assert_string_equal(b->ready_http, expected[i].ready_http);
        else
            assert_null(b->ready_http);
        assert_int_equal(b->ready_callback, expected[i].ready_callback);
        assert_int_equal(b->activity, expected[i].activity);
        assert_int_equal(b->stop_signal, SIGTERM);
        assert_string_equal(b->protocol, expected[i].protocol);
        assert_texts(b->model_formats, b->n_model_formats, expected[i].formats);
        assert_texts(b->device_check, b->n_device_check, expected[i].device_check);
        assert_int_equal(b->exclusive_start, expected[i].exclusive_start);
        assert_int_equal(b->n_allow_env, 0);
    }
    const struct pool_backend *cpu = sample_backend(s->config, "cpu");
    assert_int_equal(cpu->n_env, 2);
    assert_string_equal(cpu->env[0].name, "LLAMA_ARG_CACHE_RAM");
    assert_string_equal(cpu->env[0].value, "0");
    assert_string_equal(cpu->env[1].name, "LLAMA_ARG_FIT");
    assert_string_equal(cpu->env[1].value, "off");
    assert_texts(cpu->capabilities, cpu->n_capabilities, "completion chat");
}

/* Options that read or write files, open connections, run things or change place, ports and devices. */
static void test_builtin_allow_nothing_harmful(void **state)
{
    struct config_sample *s = *state;
    static const char *const harmful[] = {
        "-m",
        "--model",
        "-mu",
        "--model-url",
        "-hf",
        "--hf-repo",
        "-hft",
        "--lora",
        "--control-vector",
        "--mmproj",
        "-mm",
        "--log-file",
        "--grammar-file",
        "--slot-save-path",
        "--path",
        "--media-path",
        "--rpc",
        "--tools",
        "--tools-runtime",
        "--mcp-servers-json",
        "--mcp-servers-config",
        "--agent",
        "--host",
        "--port",
        "--reuse-port",
        "--api-key",
        "--api-key-file",
        "--ssl-key-file",
        "--chat-template",
        "--chat-template-file",
        "--props",
        "-ngl",
        "--gpu-layers",
        "-dev",
        "--device",
        "-sm",
        "--split-mode",
        "-ts",
        "-mg",
        "-ot",
        "-fit",
        "--fit",
        "--no-slots",
        "-c",
        "--ctx-size",
        "-np",
        "--parallel",
        "-cram",
        "--cache-ram",
        "--models-dir",
        "--offline",
        "--trust-remote-code",
        "--tensor-parallel-size",
        "--download-dir",
        "--config",
        "--middleware",
        "--tool-parser-plugin",
        "--max-model-len",
        "--max-num-seqs",
        "--cpu-offload-gb",
        "--lora-modules",
    };
    assert_int_equal(sample_load(s, ""), POOL_OK);
    for (size_t i = 0; i < s->config->n_backends; i++) {
        const struct pool_backend *b = s->config->backends[i];
        for (size_t k = 0; k < sizeof harmful / sizeof harmful[0]; k++)
            assert_false(has_text(b->allow_args, b->n_allow_args, harmful[k]));
    }
    const struct pool_backend *cpu = sample_backend(s->config, "cpu");
    assert_true(has_text(cpu->allow_args, cpu->n_allow_args, "--flash-attn"));
    const struct pool_backend *native = sample_backend(s->config, "native");
    assert_int_equal(native->n_allow_args, 0);
}

static void test_overrides_keep_the_rest(void **state)
{
    struct config_sample *s = *state;
    const char *const environment[] = { "HOME=/home/me", NULL };
    assert_int_equal(sample_load_with(s,
                                      "[backends.cpu]\ncommand = [\"~/llama\", \"--port\", \"{port}\"]\n"
                                      "env.Z = \"1\"\nenv.A = \"{{{port}}}\"\nallow_args = []\n",
                                      environment, 0, NULL),
                     POOL_OK);
    const struct pool_backend *cpu = sample_backend(s->config, "cpu");
    assert_true(cpu->is_builtin);
    assert_texts(cpu->command, cpu->n_command, "/home/me/llama --port {port}");
    assert_string_equal(cpu->ready_http, "/health");
    assert_int_equal(cpu->n_allow_args, 0);
    assert_null(cpu->allow_args);
    assert_int_equal(cpu->n_env, 4); /* by name, the built-in ones still there */
    assert_string_equal(cpu->env[0].name, "A");
    assert_string_equal(cpu->env[0].value, "{{{port}}}");
    assert_string_equal(cpu->env[1].name, "LLAMA_ARG_CACHE_RAM");
    assert_string_equal(cpu->env[2].name, "LLAMA_ARG_FIT");
    assert_string_equal(cpu->env[3].name, "Z");
    char origin[160];
    snprintf(origin, sizeof origin, "%s:2", s->path);
    assert_string_equal(pool_config_origin(s->config, "backends.cpu.command"), origin);
    assert_string_equal(pool_config_origin(s->config, "backends.cpu.ready.http"), "default");
    /* cuda does not build on cpu, so that it stays what it was. */
    assert_string_equal(sample_backend(s->config, "cuda")->command[0], "llama-server");
}

static void test_extends(void **state)
{
    struct config_sample *s = *state;
    assert_int_equal(sample_load(s,
                                 "[backends.child]\nextends = \"parent\"\nstop_signal = \"INT\"\n"
                                 "env = { B = \"child\" }\n"
                                 "[backends.parent]\nextends = \"cuda\"\ncommand = [\"bin/p\", \"{port}\"]\n"
                                 "env = { A = \"parent\", B = \"parent\" }\nallow_env = [\"X\"]\n"
                                 "[backends.cuda]\nprotocol = \"changed\"\n"),
                     POOL_OK);
    const struct pool_backend *child = sample_backend(s->config, "child");
    char program[128];
    snprintf(program, sizeof program, "%s/bin/p", s->dir);
    assert_false(child->is_builtin);
    assert_string_equal(child->extends, "parent");
    assert_string_equal(child->command[0], program);
    assert_int_equal(child->stop_signal, SIGINT);
    assert_int_equal(child->device, POOL_DEVICE_GPU);
    assert_string_equal(child->protocol, "changed");
    assert_texts(child->allow_env, child->n_allow_env, "X");
    assert_int_equal(child->n_env, 4);
    assert_string_equal(child->env[0].value, "parent");
    assert_string_equal(child->env[1].value, "child");
    assert_string_equal(child->env[2].name, "LLAMA_ARG_CACHE_RAM");
    assert_string_equal(child->env[3].name, "LLAMA_ARG_FIT");
    assert_string_equal(sample_backend(s->config, "parent")->extends, "cuda");
    assert_int_equal(sample_backend(s->config, "parent")->stop_signal, SIGTERM);
    assert_null(sample_backend(s->config, "cuda")->extends);
    assert_string_equal(sample_backend(s->config, "metal")->protocol, "changed");
    assert_string_equal(pool_config_origin(s->config, "backends.child.ready.http"), "default");
    char origin[160];
    snprintf(origin, sizeof origin, "%s:11", s->path);
    assert_string_equal(pool_config_origin(s->config, "backends.child.protocol"), origin);
}

/* A file that says `extends` for a built-in name starts over. */
static void test_extends_replaces_builtin(void **state)
{
    struct config_sample *s = *state;
    assert_int_equal(
        sample_load(
            s, "[backends.vllm]\nextends = \"native\"\n"
               "[backends.native]\nextends = \"\"\ncommand = [\"n\", \"{port}\"]\nready.http = \"/n\"\n"),
        POOL_OK);
    const struct pool_backend *vllm = sample_backend(s->config, "vllm");
    assert_string_equal(vllm->command[0], "n");
    assert_string_equal(vllm->ready_http, "/n");
    assert_false(vllm->exclusive_start);
    assert_int_equal(vllm->activity, POOL_ACTIVITY_NONE);
    assert_int_equal(vllm->n_model_formats, 0);
    assert_int_equal(vllm->device, POOL_DEVICE_CPU);
    assert_false(sample_backend(s->config, "native")->ready_callback);
}

static void test_not_on_gpu(void **state)
{
    struct config_sample *s = *state;
    assert_int_equal(sample_load(s, "[backends.lazy]\nextends = \"cuda\"\nnot_on_gpu = \"warn\"\n"
                                    "[backends.lazier]\nextends = \"lazy\"\n"
                                    "[backends.strict]\nextends = \"lazy\"\nnot_on_gpu = \"fail\"\n"),
                     POOL_OK);
    assert_int_equal(sample_backend(s->config, "cuda")->not_on_gpu, POOL_NOT_ON_GPU_FAIL);
    assert_int_equal(sample_backend(s->config, "vllm")->not_on_gpu, POOL_NOT_ON_GPU_FAIL);
    assert_int_equal(sample_backend(s->config, "lazy")->not_on_gpu, POOL_NOT_ON_GPU_WARN);
    assert_int_equal(sample_backend(s->config, "lazier")->not_on_gpu, POOL_NOT_ON_GPU_WARN);
    assert_int_equal(sample_backend(s->config, "strict")->not_on_gpu, POOL_NOT_ON_GPU_FAIL);
    char origin[160];
    snprintf(origin, sizeof origin, "%s:3", s->path);
    assert_string_equal(pool_config_origin(s->config, "backends.lazy.not_on_gpu"), origin);
}

static void test_device_from_placeholders(void **state)
{
    struct config_sample *s = *state;
    static const struct {
        const char *toml;
        enum pool_device_kind device;
    } cases[] = {
        { "command = [\"x\", \"{port}\"]", POOL_DEVICE_CPU },
        { "command = [\"x\", \"{port}\", \"--gpu={gpu_ordinal}\"]", POOL_DEVICE_GPU },
        { "command = [\"x\", \"{port}\", \"{gpu_index}\"]", POOL_DEVICE_GPU },
        { "command = [\"x\", \"{port}\"]\nenv = { G = \"{gpu_uuid}\" }", POOL_DEVICE_GPU },
        { "command = [\"x\", \"{port}\", \"{{gpu_uuid}}\"]", POOL_DEVICE_CPU },
        { "command = [\"x\", \"{port}\"]\ndevice = \"gpu\"", POOL_DEVICE_GPU },
        { "command = [\"x\", \"{port}\", \"{gpu_uuid}\"]\ndevice = \"metal\"", POOL_DEVICE_METAL },
        { "command = [\"x\", \"{port}\"]\nextends = \"cuda\"", POOL_DEVICE_GPU },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char toml[512];
        snprintf(toml, sizeof toml, "[backends.x]\nready.http = \"/\"\n%s\n", cases[i].toml);
        assert_int_equal(sample_load(s, toml), POOL_OK);
        assert_int_equal(sample_backend(s->config, "x")->device, cases[i].device);
    }
    assert_string_equal(pool_device_kind_name(POOL_DEVICE_CPU), "cpu");
    assert_string_equal(pool_device_kind_name(POOL_DEVICE_GPU), "gpu");
    assert_string_equal(pool_device_kind_name(POOL_DEVICE_METAL), "metal");
}

static void test_unknown_backend(void **state)
{
    struct config_sample *s = *state;
    const struct pool_backend *backend = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(sample_load(s, ""), POOL_OK);
    assert_int_equal(pool_config_backend(s->config, "rocm", &backend, &err), POOL_BACKEND_NOT_FOUND);
    assert_null(backend);
    assert_non_null(strstr(err.message, "cpu, cuda, metal, native, vllm"));
    assert_string_equal(pool_error_detail(&err, "backend")->text, "rocm");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_builtin, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_builtin_allow_nothing_harmful, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_overrides_keep_the_rest, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_extends, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_extends_replaces_builtin, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_not_on_gpu, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_device_from_placeholders, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_unknown_backend, open_sample, close_sample),
    };
    return cmocka_run_group_tests_name("config backends", tests, NULL, NULL);
}
