/*
 * What is refused, and where: a table of configurations with one fault each. Texts of messages are not
 * compared but for the name that was meant.
 */
#include "config_sample.h"

#define ANY "" /* the message may say anything */

static const struct {
    const char *toml;
    const char *key;
    int line, column;
    const char *says;
} cases[] = {
    /* syntax */
    { "[pool\nid = 1", NULL, 1, 6, ANY },
    { "a = 1\na = 2", NULL, 2, 5, ANY },
    /* unknown keys name the one that was meant */
    { "[workers]\n port_rang = \"1-2\"", "workers.port_rang", 2, 2, "did you mean workers.port_range?" },
    { "[worker]\nport_range = \"1-2\"", "worker", 1, 2, "did you mean workers?" },
    { "state_dir = \"/x\"", "state_dir", 1, 1, "did you mean pool.state_dir?" },
    { "[gpu]\nzzzzzzzz = 1", "gpu.zzzzzzzz", 2, 1,
      "inventory, refresh_interval_ms, vram_headroom_bytes, lock_dir" },
    { "xyzzyxyzzy = 1", "xyzzyxyzzy", 1, 1, "pool, daemon, registry, orchestrator, workers, gpu, staging" },
    { "backend.cpu.command = []", "backend", 1, 1, "did you mean backends?" },
    { "[backends.cpu]\nComand = []", "backends.cpu.Comand", 2, 1, "did you mean command?" },
    { "[backends.cpu.ready]\nhtp = \"/\"", "backends.cpu.ready.htp", 2, 1, "did you mean ready.http?" },
    { "[backends.cpu]\nready = true", "backends.cpu.ready", 2, 1, ANY },
    { "pool = 1", "pool", 1, 1, ANY },
    { "backends = 1", "backends", 1, 1, ANY },
    { "[backends]\ncpu = 1", "backends.cpu", 2, 1, ANY },
    { "[backends.\"a.b\"]\ncommand = [\"x\"]", "backends.a.b", 1, 11, ANY },
    { "[backends.\"\"]", "backends.", 1, 11, ANY },
    { "[backends._x]", "backends._x", 1, 11, ANY },
    /* kinds */
    { "[pool]\nid = 7", "pool.id", 2, 6, ANY },
    { "[pool]\nmodels_dirs = \"/x\"", "pool.models_dirs", 2, 15, ANY },
    { "[pool]\nmodels_dirs = [1]", "pool.models_dirs[0]", 2, 16, ANY },
    { "[workers]\nrequire_verified = \"true\"", "workers.require_verified", 2, 20, ANY },
    { "[workers]\nstop_grace_ms = \"30000\"", "workers.stop_grace_ms", 2, 17, ANY },
    { "[workers]\nstop_grace_ms = 1.5", "workers.stop_grace_ms", 2, 17, ANY },
    { "[workers]\nstop_grace_ms = 2020-01-01", "workers.stop_grace_ms", 2, 17, ANY },
    { "[workers.port_range]\nfirst = 1", "workers.port_range", 1, 1, ANY },
    { "log_level = {}", "log_level", 1, 13, ANY },
    /* texts */
    { "[pool]\nid = \"\"", "pool.id", 2, 6, ANY },
    { "[pool]\nid = \"-x\"", "pool.id", 2, 6, ANY },
    { "[pool]\nid = \"a/b\"", "pool.id", 2, 6, ANY },
    { "[pool]\nid = \"a\\u0000b\"", "pool.id", 2, 6, ANY },
    { "[pool]\nstate_dir = \"\"", "pool.state_dir", 2, 13, ANY },
    { "[pool]\nstate_dir = \"/a\\nb\"", "pool.state_dir", 2, 13, ANY },
    { "[pool]\nadvertise_host = \"a b\"", "pool.advertise_host", 2, 18, ANY },
    { "log_level = \"Info\"", "log_level", 1, 13, "error|warning|info|debug" },
    { "[workers]\non_unhealthy = \"restart\"", "workers.on_unhealthy", 2, 16, "report|stop" },
    { "[workers]\nbind_host = \"example.org\"", "workers.bind_host", 2, 13, ANY },
    { "[daemon]\nbind = \"9200\"", "daemon.bind", 2, 8, ANY },
    { "[daemon]\nbind = \":9200\"", "daemon.bind", 2, 8, ANY },
    { "[daemon]\nbind = \"127.0.0.1:65536\"", "daemon.bind", 2, 8, ANY },
    { "[daemon]\nbind = \"::1:9200\"", "daemon.bind", 2, 8, ANY },
    { "[daemon]\nbind = \"[127.0.0.1]:9200\"", "daemon.bind", 2, 8, ANY },
    { "[daemon]\nbind = \"example.org:1\"", "daemon.bind", 2, 8, ANY },
    { "[registry]\nurl = \"etcd://x\"", "registry.url", 2, 7, ANY },
    { "[registry]\nurl = \"memory:x\"", "registry.url", 2, 7, ANY },
    { "[gpu]\ninventory = \"cuda:\"", "gpu.inventory", 2, 13, ANY },
    { "[gpu]\ninventory = \"static:\"", "gpu.inventory", 2, 13, ANY },
    { "[orchestrator]\nurl = \"ftp://x\"", "orchestrator.url", 2, 7, ANY },
    { "[orchestrator]\nurl = \"http://\"", "orchestrator.url", 2, 7, ANY },
    { "[orchestrator]\nurl = \"http://u:p@h/\"", "orchestrator.url", 2, 7, "token file" },
    { "[orchestrator]\nurl = \"http://h/?q\"", "orchestrator.url", 2, 7, ANY },
    /* numbers */
    { "[workers]\nstop_grace_ms = -1", "workers.stop_grace_ms", 2, 17, ANY },
    { "[workers]\nstart_timeout_ms = 0", "workers.start_timeout_ms", 2, 20, ANY },
    { "[workers]\nstart_timeout_ms = 604800001", "workers.start_timeout_ms", 2, 20, ANY },
    { "[gpu]\nrefresh_interval_ms = 99", "gpu.refresh_interval_ms", 2, 23, ANY },
    { "[gpu]\nvram_headroom_bytes = \"2 bananas\"", "gpu.vram_headroom_bytes", 2, 23, ANY },
    { "[gpu]\nvram_headroom_bytes = \"1\\u0000\"", "gpu.vram_headroom_bytes", 2, 23, ANY },
    { "[gpu]\nvram_headroom_bytes = -1", "gpu.vram_headroom_bytes", 2, 23, ANY },
    { "[gpu]\nvram_headroom_bytes = \"2000T\"", "gpu.vram_headroom_bytes", 2, 23, ANY },
    { "[workers]\nport_range = \"8001\"", "workers.port_range", 2, 14, ANY },
    { "[workers]\nport_range = \"9-8\"", "workers.port_range", 2, 14, ANY },
    { "[workers]\nport_range = \"0-8\"", "workers.port_range", 2, 14, ANY },
    { "[workers]\nport_range = \"1-65536\"", "workers.port_range", 2, 14, ANY },
    { "[workers]\nport_range = \" 1-2\"", "workers.port_range", 2, 14, ANY },
    /* of the whole */
    { "[daemon]\nbind = \"0.0.0.0:9200\"", "daemon.bind", 2, 8, "daemon.token_file" },
    { "[daemon]\nbind = \"[::]:9200\"", "daemon.bind", 2, 8, "daemon.token_file" },
    { "[daemon]\nbind = \"[::ffff:10.0.0.1]:9200\"", "daemon.bind", 2, 8, "daemon.token_file" },
    { "[daemon]\nbind = \"0.0.0.0:9200\"\ntoken_file = \"\"", "daemon.bind", 2, 8, "daemon.token_file" },
    { "[daemon]\nsocket = \"/"
      "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456\"",
      "daemon.socket", 2, 10, ANY },
    /* backends */
    { "[backends.x]\nready.http = \"/\"", "backends.x.command", 1, 1, ANY },
    { "[backends.x]\ncommand = []\nready.http = \"/\"", "backends.x.command", 2, 11, ANY },
    { "[backends.x]\ncommand = \"x\"\nready.http = \"/\"", "backends.x.command", 2, 11, ANY },
    { "[backends.x]\ncommand = [\"\"]\nready.http = \"/\"", "backends.x.command[0]", 2, 12, ANY },
    { "[backends.x]\ncommand = [\"{model_path}\"]\nready.http = \"/\"", "backends.x.command[0]", 2, 12, ANY },
    { "[backends.x]\ncommand = [\"x\", 1]\nready.http = \"/\"", "backends.x.command[1]", 2, 17, ANY },
    { "[backends.x]\ncommand = [\"x\",\n \"a\",\n \"--m={modelpath}\"]\nready.http = \"/\"",
      "backends.x.command[2]", 4, 2, "did you mean model_path?" },
    { "[backends.x]\ncommand = [\"x\", \"{\"]\nready.http = \"/\"", "backends.x.command[1]", 2, 17, "{{" },
    { "[backends.x]\ncommand = [\"x\", \"a}\"]\nready.http = \"/\"", "backends.x.command[1]", 2, 17, "}}" },
    { "[backends.x]\ncommand = [\"x\", \"{port\"]\nready.http = \"/\"", "backends.x.command[1]", 2, 17, ANY },
    { "[backends.x]\ncommand = [\"x\", \"{port}\"]", "backends.x.ready", 1, 1, ANY },
    { "[backends.cpu]\nready.http = \"\"", "backends.cpu.ready", 1, 1, ANY },
    { "[backends.cpu]\nready.http = \"health\"", "backends.cpu.ready.http", 2, 14, ANY },
    { "[backends.cpu]\nnot_on_gpu = \"stop\"", "backends.cpu.not_on_gpu", 2, 14, "fail|warn" },
    { "[backends.cpu]\nactivity = \"ollama\"", "backends.cpu.activity", 2, 12, "none|llama-server|vllm" },
    { "[backends.cpu]\nstop_signal = \"SIGKILL\"", "backends.cpu.stop_signal", 2, 15, ANY },
    { "[backends.cpu]\nstop_signal = \"\"", "backends.cpu.stop_signal", 2, 15, ANY },
    { "[backends.cpu]\ndevice = \"tpu\"", "backends.cpu.device", 2, 10, "cpu|gpu|metal" },
    { "[backends.cuda]\ndevice = \"cpu\"\nenv = { A = \"{gpu_uuid}\" }", "backends.cuda.device", 2, 10, ANY },
    { "[backends.cpu]\ncommand = [\"x\", \"{port}{gpu_index}\"]", "backends.cpu.command", 2, 11, ANY },
    { "[backends.cpu]\nmodel_formats = [\"gguf\", \"onnx\"]", "backends.cpu.model_formats[1]", 2, 26, ANY },
    { "[backends.cpu]\nallow_args = [\"verbose\"]", "backends.cpu.allow_args[0]", 2, 15, ANY },
    { "[backends.cpu]\nallow_args = [\"-\"]", "backends.cpu.allow_args[0]", 2, 15, ANY },
    { "[backends.cpu]\nallow_args = [\"--a=b\"]", "backends.cpu.allow_args[0]", 2, 15, ANY },
    { "[backends.cpu]\nallow_env = [\"POOL_WORKER_ID\"]", "backends.cpu.allow_env[0]", 2, 14, ANY },
    { "[backends.cpu]\nallow_env = [\"1A\"]", "backends.cpu.allow_env[0]", 2, 14, ANY },
    { "[backends.cpu]\nenv = [\"A=1\"]", "backends.cpu.env", 2, 7, ANY },
    { "[backends.cpu]\nenv = { A = 1 }", "backends.cpu.env.A", 2, 13, ANY },
    { "[backends.cpu]\nenv = { A = \"{nope}\" }", "backends.cpu.env.A", 2, 13, ANY },
    { "[backends.cpu]\nenv = { \"A B\" = \"\" }", "backends.cpu.env.A B", 2, 17, ANY },
    { "[backends.cpu]\nenv = { POOL_X = \"\" }", "backends.cpu.env.POOL_X", 2, 18, ANY },
    { "[backends.cpu]\nenv = { CUDA_VISIBLE_DEVICES = \"0\" }", "backends.cpu.env.CUDA_VISIBLE_DEVICES", 2,
      32, ANY },
    { "[backends.cpu]\ncapabilities = [\"a,b\"]", "backends.cpu.capabilities[0]", 2, 17, ANY },
    { "[backends.cpu]\nextends = 1", "backends.cpu.extends", 2, 11, ANY },
    { "[backends.x]\nextends = \"cudda\"", "backends.x.extends", 2, 11, "did you mean cuda?" },
    { "[backends.x]\nextends = \"a b\"", "backends.x.extends", 2, 11, ANY },
    { "[backends.x]\nextends = \"x\"", "backends.x.extends", 2, 11, "circle" },
    { "[backends.x]\nextends = \"cpu\"\n[backends.cpu]\nextends = \"nowhere\"", "backends.cpu.extends", 4, 11,
      ANY },
    /* a fault that others inherit is said once, where it is */
    { "[backends.a]\nextends = \"b\"\n[backends.b]\nextends = \"cpu\"\nactivity = \"x\"",
      "backends.b.activity", 5, 12, ANY },
};

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

static bool is_as_expected(const struct config_sample *s, size_t i, enum pool_code code)
{
    const struct pool_detail *line = pool_error_detail(&s->err, "line");
    const struct pool_detail *column = pool_error_detail(&s->err, "column");
    const struct pool_detail *path = pool_error_detail(&s->err, "path");
    const struct pool_detail *n = pool_error_detail(&s->err, "n_problems");
    char place[160];
    snprintf(place, sizeof place, "%s:%d:%d: ", s->path, cases[i].line, cases[i].column);
    return code == POOL_INVALID_CONFIG && !s->config && s->n_problems == 1 && n && n->number == 1 && path &&
           strcmp(path->text, s->path) == 0 && line && line->number == cases[i].line && column &&
           column->number == cases[i].column && strcmp(s->err.field, cases[i].key ? cases[i].key : "") == 0 &&
           strncmp(s->err.message, place, strlen(place)) == 0 && strstr(s->err.message, cases[i].says) &&
           strcmp(s->err.message, s->problems[0]) == 0;
}

static void test_problems(void **state)
{
    struct config_sample *s = *state;
    size_t n_wrong = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum pool_code code = sample_load(s, cases[i].toml);
        if (is_as_expected(s, i, code))
            continue;
        n_wrong++;
        print_error("case %zu, expected %d:%d %s %s, got %s, %zu problems:\n%s\n", i, cases[i].line,
                    cases[i].column, cases[i].key ? cases[i].key : "", cases[i].says, pool_code_name(code),
                    s->n_problems, cases[i].toml);
        for (size_t k = 0; k < s->n_problems; k++)
            print_error("    %s\n", s->problems[k]);
    }
    assert_int_equal(n_wrong, 0);
}

static void test_all_problems_in_one_pass(void **state)
{
    struct config_sample *s = *state;
    const char *const environment[] = { "POOL_LOG_LEVEL=loud", "POOL_ID=\xff", NULL };
    const struct pool_config_override overrides[] = { { "pool.stat_dir", "/x", "--stat" },
                                                      { "daemon.bind", "nowhere", "--bind" } };
    enum pool_code code = sample_load_with(s,
                                           "unknown = 1\n[workers]\nport_range = \"1\"\n"
                                           "[backends.a]\nextends = \"b\"\n[backends.b]\nextends = \"a\"\n"
                                           "[backends.c]\nextends = \"a\"\n",
                                           environment, 2, overrides);
    assert_int_equal(code, POOL_INVALID_CONFIG);
    static const char *const expected[] = { "pool.toml:1:1: unknown:",
                                            "flag --stat: [pool].stat_dir: \"/x\":",
                                            "environment POOL_ID: [pool].id:",
                                            "flag --bind: [daemon].bind: \"nowhere\":",
                                            "pool.toml:3:14: [workers].port_range: \"1\":",
                                            "environment POOL_LOG_LEVEL: log_level: \"loud\":",
                                            "pool.toml:5:11: [backends.a].extends: \"b\":",
                                            "pool.toml:7:11: [backends.b].extends: \"a\":" };
    assert_int_equal(s->n_problems, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < s->n_problems; i++)
        assert_non_null(strstr(s->problems[i], expected[i]));
    assert_int_equal(pool_error_detail(&s->err, "n_problems")->number, s->n_problems);
}

static void test_long_chain(void **state)
{
    struct config_sample *s = *state;
    char toml[1024] = "[backends.b0]\nextends = \"cpu\"\n";
    for (int i = 1; i < 8; i++) {
        size_t n = strlen(toml);
        snprintf(toml + n, sizeof toml - n, "[backends.b%d]\nextends = \"b%d\"\n", i, i - 1);
    }
    assert_int_equal(sample_load(s, toml), POOL_OK);
    assert_string_equal(sample_backend(s->config, "b7")->ready_http, "/health");
    strcat(toml, "[backends.c]\nextends = \"b7\"\n");
    assert_int_equal(sample_load(s, toml), POOL_INVALID_CONFIG);
    assert_int_equal(s->n_problems, 1);
    assert_string_equal(s->err.field, "backends.c.extends");
}

/* Repeats a piece until there are n of it. */
static char *repeat(const char *head, const char *piece, size_t n, const char *tail)
{
    char *text = malloc(strlen(head) + n * strlen(piece) + strlen(tail) + 1);
    assert_non_null(text);
    char *end = stpcpy(text, head);
    for (size_t i = 0; i < n; i++)
        end = stpcpy(end, piece);
    stpcpy(end, tail);
    return text;
}

static void assert_limit(struct config_sample *s, const char *head, const char *piece, size_t n,
                         const char *tail, const char *field)
{
    char *text = repeat(head, piece, n, tail);
    assert_int_equal(sample_load(s, text), POOL_OK);
    free(text);
    text = repeat(head, piece, n + 1, tail);
    assert_int_equal(sample_load(s, text), POOL_INVALID_CONFIG);
    free(text);
    assert_int_equal(s->n_problems, 1);
    assert_string_equal(s->err.field, field);
}

static void test_limits(void **state)
{
    struct config_sample *s = *state;
    assert_limit(s, "[backends.cpu]\ncommand = [\"x\", \"{port}\"", ", \"\"", POOL_COMMAND_ARGUMENTS_MAX - 2,
                 "]", "backends.cpu.command");
    assert_limit(s, "[backends.cpu]\nallow_args = [", "\"-a\",", 256, "]", "backends.cpu.allow_args");
    assert_limit(s, "[pool]\nmodels_dirs = [", "\"/a\",", 256, "]", "pool.models_dirs");
    assert_limit(s, "[pool]\nstate_dir = \"/", "a", 4094, "\"\n[daemon]\nsocket = \"/s\"", "pool.state_dir");
    assert_limit(s, "[backends.cpu]\ncommand = [\"x\", \"{port}", "a", 65530, "\"]",
                 "backends.cpu.command[1]");
    assert_limit(s, "", "#", POOL_CONFIG_FILE_MAX_BYTES, "", "");
    assert_limit(s, "[pool]\nid = \"", "a", 64, "\"", "pool.id");
    assert_limit(s, "[pool]\nid = \"a\"\n[backends.", "a", 64, "]\nextends = \"cpu\"",
                 "backends.aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
}

static void test_number_of_backends(void **state)
{
    struct config_sample *s = *state;
    char *text = NULL;
    size_t n = 0;
    for (int n_backends = POOL_BACKENDS_MAX - 5; n_backends <= POOL_BACKENDS_MAX - 4; n_backends++) {
        FILE *out = open_memstream(&text, &n);
        assert_non_null(out);
        for (int i = 0; i < n_backends; i++)
            fprintf(out, "backends.b%d.extends = \"cpu\"\n", i);
        assert_int_equal(fclose(out), 0);
        enum pool_code code = sample_load(s, text);
        free(text);
        assert_int_equal(code, n_backends == POOL_BACKENDS_MAX - 5 ? POOL_OK : POOL_INVALID_CONFIG);
    }
    assert_string_equal(s->err.field, "backends");
}

static void test_warnings(void **state)
{
    struct config_sample *s = *state;
    static const struct {
        const char *toml, *says;
    } warned[] = {
        { "[daemon]\nbind = \"127.0.0.1:8500\"", "[daemon].bind" },
        { "[workers]\nport_range = \"1024-65535\"\n[daemon]\nbind = \"127.0.0.1:0\"",
          "[workers].port_range" },
        { "[workers]\nbind_host = \"0.0.0.0\"", "[workers].bind_host" },
        { "[orchestrator]\ntoken_file = \"/x\"", "[orchestrator].token_file" },
        { "[backends.x]\ncommand = [\"x\"]\nready.http = \"/\"", "[backends.x].command" },
    };
    for (size_t i = 0; i < sizeof warned / sizeof warned[0]; i++) {
        assert_int_equal(sample_load(s, warned[i].toml), POOL_OK);
        assert_int_equal(s->n_warnings, 1);
        assert_non_null(strstr(s->warnings[0], warned[i].says));
    }
    /* An address for others is fine with a token file. */
    assert_int_equal(sample_load(s, "[daemon]\nbind = \"0.0.0.0:9200\"\ntoken_file = \"/t\""), POOL_OK);
    assert_int_equal(s->n_warnings, 0);
}

static void test_files_that_can_not_be_read(void **state)
{
    struct config_sample *s = *state;
    assert_int_equal(sample_load(s, NULL), POOL_INVALID_CONFIG);
    assert_string_equal(pool_error_detail(&s->err, "path")->text, s->path);
    struct pool_config_sources sources = { .struct_size = sizeof sources, .file = "/tmp" };
    assert_int_equal(pool_config_load(&sources, &s->config, &s->err), POOL_INVALID_CONFIG);
    assert_int_equal(pool_config_load(&sources, &s->config, NULL), POOL_INVALID_CONFIG);
    assert_null(s->config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_problems, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_all_problems_in_one_pass, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_long_chain, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_limits, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_number_of_backends, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_warnings, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_files_that_can_not_be_read, open_sample, close_sample),
    };
    return cmocka_run_group_tests_name("config problems", tests, NULL, NULL);
}
