/*
 * Configurations as a whole: defaults, who wins, origins, where things are, and that what is shown can be read
 * back.
 */
#include "config_sample.h"

#include <pwd.h>
#include <sys/stat.h>

#define NOBODY 65534

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

static void assert_value(struct config_sample *s, const char *key, const char *value, const char *origin)
{
    struct pool_config_value found = sample_value(s->config, key);
    assert_string_equal(found.value, value);
    assert_string_equal(found.origin, origin);
    assert_string_equal(pool_config_origin(s->config, key), origin);
}

static void test_defaults(void **state)
{
    struct config_sample *s = *state;
    assert_int_equal(sample_load(s, "[pool]\nid = \"here\"\n"), POOL_OK);
    const struct pool_config *c = s->config;
    assert_string_equal(c->pool_id, "here");
    assert_string_equal(c->file, s->path);
    assert_string_equal(c->daemon_bind, "127.0.0.1:9200");
    assert_null(c->daemon_token_file);
    assert_false(c->daemon_stop_workers_on_exit);
    assert_null(c->orchestrator_url);
    assert_int_equal(c->orchestrator_heartbeat_interval_ms, 15000);
    assert_int_equal(c->port_first, 8001);
    assert_int_equal(c->port_last, 8999);
    assert_int_equal(c->start_timeout_ms, 120000);
    assert_int_equal(c->stop_grace_ms, 30000);
    assert_int_equal(c->health_interval_ms, 10000);
    assert_false(c->require_verified);
    assert_string_equal(c->workers_bind_host, "127.0.0.1");
    assert_int_equal(c->on_unhealthy, POOL_ON_UNHEALTHY_REPORT);
    assert_string_equal(c->gpu_inventory, "nvml:");
    assert_int_equal(c->gpu_refresh_interval_ms, 2000);
    assert_int_equal(c->gpu_vram_headroom_bytes, 256 << 20);
    assert_string_equal(c->gpu_lock_dir, "/run/lock/pool-core");
    assert_int_equal(c->staging_max_bytes, 0);
    assert_string_equal(c->log_level, "info");
    assert_int_equal(s->n_warnings, 0);
    assert_value(s, "workers.port_range", "\"8001-8999\"", "default");
    assert_value(s, "gpu.vram_headroom_bytes", "268435456", "default");
}

/* Each default of the table is what a configuration without that key has. */
static void test_defaults_are_those_of_the_table(void **state)
{
    struct config_sample *s = *state;
    assert_int_equal(sample_load(s, "[backends.bare]\ncommand = [\"x\", \"{port}\"]\nready.http = \"/\"\n"),
                     POOL_OK);
    for (size_t i = 0; i < pool_config_n_keys(); i++) {
        const struct pool_config_key *key = pool_config_key_at(i);
        char name[128];
        if (!key->default_value || strcmp(key->name, "registry.url") == 0)
            continue;
        if (strncmp(key->name, "backends.NAME.", 14) == 0)
            snprintf(name, sizeof name, "backends.bare.%s", key->name + 14);
        else
            snprintf(name, sizeof name, "%s", key->name);
        struct pool_config_value value = sample_value(s->config, name);
        if (strcmp(value.origin, "default") != 0)
            continue; /* the three that the backend above sets */
        if (strcmp(key->unit, "bytes") == 0 && key->default_value[0] == '"')
            assert_string_equal(value.value, "268435456");
        else
            assert_string_equal(value.value, key->default_value);
    }
}

static void test_flag_beats_variable_beats_file(void **state)
{
    struct config_sample *s = *state;
    const char *const file = "[workers]\nstop_grace_ms = 1\n";
    const char *const environment[] = { "POOL_WORKERS_STOP_GRACE_MS=2", NULL };
    const struct pool_config_override overrides[] = { { "workers.stop_grace_ms", "3", "--grace" },
                                                      { "workers.stop_grace_ms", "4", "--grace" } };
    char from_file[128];
    snprintf(from_file, sizeof from_file, "%s:2", s->path);

    assert_int_equal(sample_load(s, file), POOL_OK);
    assert_int_equal(s->config->stop_grace_ms, 1);
    assert_value(s, "workers.stop_grace_ms", "1", from_file);
    assert_int_equal(sample_load_with(s, file, environment, 0, NULL), POOL_OK);
    assert_value(s, "workers.stop_grace_ms", "2", "environment POOL_WORKERS_STOP_GRACE_MS");
    assert_int_equal(sample_load_with(s, file, environment, 2, overrides), POOL_OK);
    assert_int_equal(s->config->stop_grace_ms, 4);
    assert_value(s, "workers.stop_grace_ms", "4", "flag --grace");
}

/* What loses is not judged: a flag repairs a bad file for one call. */
static void test_only_the_winner_is_judged(void **state)
{
    struct config_sample *s = *state;
    const struct pool_config_override repair = { "workers.port_range", "9000-9001", "--ports" };
    const char *const file = "[workers]\nport_range = \"nonsense\"\n";
    assert_int_equal(sample_load_with(s, file, NULL, 1, &repair), POOL_OK);
    assert_int_equal(s->config->port_last, 9001);
    assert_int_equal(sample_load(s, file), POOL_INVALID_CONFIG);
}

/* Every key takes a value from its variable, by the rule that the manual states. */
static void test_variables(void **state)
{
    struct config_sample *s = *state;
    static const struct {
        const char *variable, *key, *value;
    } cases[] = {
        { "POOL_ID=a.b-c", "pool.id", "\"a.b-c\"" },
        { "POOL_STATE_DIR=/s//x/./y/", "pool.state_dir", "\"/s/x/y\"" },
        { "POOL_MODELS_DIRS=/a:/b", "pool.models_dirs", "[\"/a\", \"/b\"]" },
        { "POOL_CATALOGS=/c.toml", "pool.catalogs", "[\"/c.toml\"]" },
        { "POOL_ADVERTISE_HOST=fd00::1", "pool.advertise_host", "\"fd00::1\"" },
        { "POOL_DAEMON_BIND=[::1]:0", "daemon.bind", "\"[::1]:0\"" },
        { "POOL_DAEMON_SOCKET=/d.sock", "daemon.socket", "\"/d.sock\"" },
        { "POOL_DAEMON_TOKEN_FILE=/t", "daemon.token_file", "\"/t\"" },
        { "POOL_DAEMON_STOP_WORKERS_ON_EXIT=1", "daemon.stop_workers_on_exit", "true" },
        { "POOL_REGISTRY_URL=memory:", "registry.url", "\"memory:\"" },
        { "POOL_ORCHESTRATOR_URL=https://o.example:1/base/", "orchestrator.url",
          "\"https://o.example:1/base\"" },
        { "POOL_ORCHESTRATOR_TOKEN_FILE=/o", "orchestrator.token_file", "\"/o\"" },
        { "POOL_ORCHESTRATOR_HEARTBEAT_INTERVAL_MS=100", "orchestrator.heartbeat_interval_ms", "100" },
        { "POOL_WORKERS_PORT_RANGE=7000-7000", "workers.port_range", "\"7000-7000\"" },
        { "POOL_WORKERS_START_TIMEOUT_MS=604800000", "workers.start_timeout_ms", "604800000" },
        { "POOL_WORKERS_STOP_GRACE_MS=0", "workers.stop_grace_ms", "0" },
        { "POOL_WORKERS_HEALTH_INTERVAL_MS=500", "workers.health_interval_ms", "500" },
        { "POOL_WORKERS_REQUIRE_VERIFIED=true", "workers.require_verified", "true" },
        { "POOL_WORKERS_BIND_HOST=127.0.0.2", "workers.bind_host", "\"127.0.0.2\"" },
        { "POOL_WORKERS_ON_UNHEALTHY=stop", "workers.on_unhealthy", "\"stop\"" },
        { "POOL_GPU_INVENTORY=static:/g.toml", "gpu.inventory", "\"static:/g.toml\"" },
        { "POOL_GPU_REFRESH_INTERVAL_MS=3600000", "gpu.refresh_interval_ms", "3600000" },
        { "POOL_GPU_VRAM_HEADROOM_BYTES=1 GiB", "gpu.vram_headroom_bytes", "1073741824" },
        { "POOL_GPU_LOCK_DIR=/run/lock/other", "gpu.lock_dir", "\"/run/lock/other\"" },
        { "POOL_STAGING_MAX_BYTES=17", "staging.max_bytes", "17" },
        { "POOL_LOG_LEVEL=debug", "log_level", "\"debug\"" },
        { "POOL_MODELS_QUOTA_BYTES=2 TiB", "pool.models_quota_bytes", "2199023255552" },
        { "POOL_WORKERS_QUEUE_TIMEOUT_MS=18", "workers.queue_timeout_ms", "18" },
    };
    size_t n_cases = sizeof cases / sizeof cases[0];
    const char *environment[sizeof cases / sizeof cases[0] + 1] = { NULL };
    for (size_t i = 0; i < n_cases; i++)
        environment[i] = cases[i].variable;
    assert_int_equal(sample_load_with(s, "", environment, 0, NULL), POOL_OK);
    assert_int_equal(s->n_warnings, 0);
    for (size_t i = 0; i < n_cases; i++) {
        char origin[128];
        snprintf(origin, sizeof origin, "environment %.*s", (int)strcspn(cases[i].variable, "="),
                 cases[i].variable);
        assert_value(s, cases[i].key, cases[i].value, origin);
    }
    size_t n_with_variable = 0;
    for (size_t i = 0; i < pool_config_n_keys(); i++) {
        const struct pool_config_key *key = pool_config_key_at(i);
        if (!key->environment)
            continue;
        n_with_variable++;
        char rule[128] = "POOL_";
        size_t n = 5;
        const char *from = strncmp(key->name, "pool.", 5) == 0 ? key->name + 5 : key->name;
        for (; *from; from++)
            rule[n++] = *from == '.' ? '_' : *from >= 'a' && *from <= 'z' ? (char)(*from - 'a' + 'A') : *from;
        rule[n] = '\0';
        assert_string_equal(key->environment, rule);
    }
    assert_int_equal(n_with_variable, n_cases);
    assert_null(pool_config_key_at(pool_config_n_keys()));
}

static void test_strange_variables_warn(void **state)
{
    struct config_sample *s = *state;
    const char *const environment[] = { "POOL_WORKERS_PORT_RANG=1-2",
                                        "POOL_SERVICE_HOST=10.0.0.1",
                                        "POOL_CONFIG=/x",
                                        "POOL_URL=http://x",
                                        "POOL_LOG_LEVEL=",
                                        "PATH=/bin",
                                        "HOME=/h",
                                        NULL };
    assert_int_equal(sample_load_with(s, "", environment, 0, NULL), POOL_OK);
    assert_int_equal(s->n_warnings, 2);
    assert_non_null(strstr(s->warnings[0], "did you mean POOL_WORKERS_PORT_RANGE?"));
    assert_non_null(strstr(s->warnings[1], "POOL_SERVICE_HOST"));
    assert_string_equal(s->config->log_level, "info");
}

static void test_paths(void **state)
{
    struct config_sample *s = *state;
    char expected[256];
    char working_dir[200];
    assert_non_null(getcwd(working_dir, sizeof working_dir));
    const char *const environment[] = { "HOME=/home/me", "POOL_DAEMON_SOCKET=run/s", NULL };
    assert_int_equal(
        sample_load_with(s,
                         "[pool]\nstate_dir = \"state\"\nmodels_dirs = [\"~/m\", \"../x\", \"/a\"]\n"
                         "[gpu]\ninventory = \"static:gpus.toml\"\n",
                         environment, 0, NULL),
        POOL_OK);
    snprintf(expected, sizeof expected, "%s/state", s->dir);
    assert_string_equal(s->config->state_dir, expected);
    assert_true(s->config->is_state_dir_explicit);
    assert_int_equal(s->config->n_models_dirs, 3);
    assert_string_equal(s->config->models_dirs[0], "/home/me/m");
    snprintf(expected, sizeof expected, "%s/../x", s->dir);
    assert_string_equal(s->config->models_dirs[1], expected);
    assert_string_equal(s->config->models_dirs[2], "/a");
    snprintf(expected, sizeof expected, "static:%s/gpus.toml", s->dir);
    assert_string_equal(s->config->gpu_inventory, expected);
    snprintf(expected, sizeof expected, "%s%srun/s", working_dir, strcmp(working_dir, "/") == 0 ? "" : "/");
    assert_string_equal(s->config->daemon_socket, expected);
}

static void test_state_dir_moves_registry_and_socket(void **state)
{
    struct config_sample *s = *state;
    const struct pool_config_override flag = { "pool.state_dir", "/x/state", "--state-dir" };
    assert_int_equal(sample_load_with(s, "", NULL, 1, &flag), POOL_OK);
    assert_string_equal(s->config->registry_url, "sqlite:/x/state/pool.db");
    assert_string_equal(s->config->daemon_socket, "/x/state/daemon.sock");
    assert_true(s->config->is_state_dir_explicit);
    assert_int_equal(
        sample_load_with(s, "registry.url = \"sqlite:own.db\"\ndaemon.socket = \"/own\"", NULL, 1, &flag),
        POOL_OK);
    char expected[256];
    snprintf(expected, sizeof expected, "sqlite:%s/own.db", s->dir);
    assert_string_equal(s->config->registry_url, expected);
    assert_string_equal(s->config->daemon_socket, "/own");
}

static void test_service_layout(void **state)
{
    struct config_sample *s = *state;
    if (geteuid() != 0)
        skip();
    const char *const environment[] = { "HOME=/root", "XDG_STATE_HOME=/elsewhere", NULL };
    assert_int_equal(sample_load_with(s, "", environment, 0, NULL), POOL_OK);
    assert_string_equal(s->config->state_dir, "/var/lib/pool-core");
    assert_false(s->config->is_state_dir_explicit);
    assert_string_equal(s->config->daemon_socket, "/run/pool-core/daemon.sock");
    assert_string_equal(s->config->registry_url, "sqlite:/var/lib/pool-core/pool.db");
    assert_string_equal(s->config->models_dirs[0], "/var/lib/pool-core/models");
}

static enum pool_code load_as_user(struct config_sample *s, const char *const *environment)
{
    bool was_root = geteuid() == 0;
    assert_int_equal(chmod(s->dir, 0755), 0);
    if (was_root)
        assert_int_equal(seteuid(NOBODY), 0);
    enum pool_code code = sample_load_with(s, NULL, environment, 0, NULL);
    if (was_root)
        assert_int_equal(seteuid(0), 0);
    return code;
}

static void test_user_layout(void **state)
{
    struct config_sample *s = *state;
    if (geteuid() != 0) {
        const struct passwd *user = getpwuid(geteuid());
        if (user && strcmp(user->pw_name, "pool") == 0)
            skip();
    }
    sample_write(s, "", 0);
    const char *const xdg[] = { "HOME=/h/", "XDG_STATE_HOME=/xs", "XDG_DATA_HOME=/xd", "XDG_RUNTIME_DIR=/xr",
                                NULL };
    assert_int_equal(load_as_user(s, xdg), POOL_OK);
    assert_int_equal(strncmp(s->config->state_dir, "/xs/pool-core/", 14), 0);
    assert_true(strlen(s->config->state_dir) > 14);
    assert_null(strchr(s->config->state_dir + 14, '/'));
    assert_string_equal(s->config->models_dirs[0], "/xd/pool-core/models");
    assert_string_equal(s->config->daemon_socket, "/xr/pool-core/daemon.sock");

    /* A relative XDG variable counts for nothing, by that specification. */
    const char *const home_only[] = { "HOME=/h/", "XDG_STATE_HOME=relative", NULL };
    assert_int_equal(load_as_user(s, home_only), POOL_OK);
    assert_int_equal(strncmp(s->config->state_dir, "/h/.local/state/pool-core/", 26), 0);
    assert_string_equal(s->config->models_dirs[0], "/h/.local/share/pool-core/models");
    char expected[256];
    snprintf(expected, sizeof expected, "%s/daemon.sock", s->config->state_dir);
    assert_string_equal(s->config->daemon_socket, expected);
}

/* The default file and the catalog beside it, found through XDG_CONFIG_HOME. */
static void test_default_file_and_catalog(void **state)
{
    struct config_sample *s = *state;
    if (geteuid() != 0)
        skip(); /* needs to become an ordinary user whose name is known not to be "pool" */
    char dir[128], file[160], catalog[160], variable[160];
    snprintf(dir, sizeof dir, "%s/pool-core", s->dir);
    snprintf(file, sizeof file, "%s/pool.toml", dir);
    snprintf(catalog, sizeof catalog, "%s/catalog.toml", dir);
    snprintf(variable, sizeof variable, "XDG_CONFIG_HOME=%s", s->dir);
    const char *const environment[] = { "HOME=/h", variable, NULL };
    struct pool_config_sources sources = { .struct_size = sizeof sources, .environment = environment };
    struct pool_config *config = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(chmod(s->dir, 0755), 0);

    assert_int_equal(seteuid(NOBODY), 0);
    enum pool_code code = pool_config_load(&sources, &config, &err);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(code, POOL_OK);
    assert_null(config->file);
    assert_int_equal(config->n_catalogs, 0);
    pool_config_free(config);

    assert_int_equal(mkdir(dir, 0755), 0);
    FILE *out = fopen(file, "we");
    assert_non_null(out);
    assert_true(fputs("log_level = \"error\"\n", out) >= 0);
    assert_int_equal(fclose(out), 0);
    out = fopen(catalog, "we");
    assert_non_null(out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(seteuid(NOBODY), 0);
    code = pool_config_load(&sources, &config, &err);
    assert_int_equal(seteuid(0), 0);
    unlink(file);
    unlink(catalog);
    rmdir(dir);
    assert_int_equal(code, POOL_OK);
    assert_string_equal(config->file, file);
    assert_string_equal(config->log_level, "error");
    assert_int_equal(config->n_catalogs, 1);
    assert_string_equal(config->catalogs[0], catalog);
    pool_config_free(config);
}

static void test_file_named_by_variable(void **state)
{
    struct config_sample *s = *state;
    char variable[160];
    sample_write(s, "log_level = \"warning\"", 21);
    snprintf(variable, sizeof variable, "POOL_CONFIG=%s", s->path);
    const char *const environment[] = { variable, NULL };
    struct pool_config_sources sources = { .struct_size = sizeof sources, .environment = environment };
    struct pool_config *config = NULL;
    assert_int_equal(pool_config_load(&sources, &config, NULL), POOL_OK);
    assert_string_equal(config->log_level, "warning");
    pool_config_free(config);

    assert_int_equal(unlink(s->path), 0);
    struct pool_error err = POOL_ERROR_INIT;
    config = NULL;
    assert_int_equal(pool_config_load(&sources, &config, &err), POOL_INVALID_CONFIG);
    assert_null(config);
    assert_string_equal(pool_error_detail(&err, "path")->text, s->path);
    assert_null(pool_error_detail(&err, "line"));
}

/* `config show` is a configuration file that says the same. */
static void test_what_is_shown_can_be_read_back(void **state)
{
    struct config_sample *s = *state;
    assert_int_equal(sample_load(s,
                                 "[pool]\nid = \"x\"\nstate_dir = \"/s \\\" \\\\ \u00e4\"\nmodels_dirs = []\n"
                                 "[backends.mine]\nextends = \"vllm\"\nenv = { A = \"1\\n\", B = \"{{}}\" }\n"
                                 "[backends.cuda]\ncommand = [\"bin/llama\", \"\", \"{port}\\t\"]\n"),
                     POOL_OK);
    char *text = sample_as_file(s->config);
    struct pool_config *first = s->config;
    s->config = NULL;
    assert_int_equal(sample_load(s, text), POOL_OK);
    assert_int_equal(pool_config_n_values(first), pool_config_n_values(s->config));
    for (size_t i = 0; i < pool_config_n_values(first); i++) {
        assert_string_equal(pool_config_value_at(first, i).key, pool_config_value_at(s->config, i).key);
        assert_string_equal(pool_config_value_at(first, i).value, pool_config_value_at(s->config, i).value);
    }
    pool_config_free(first);
    free(text);
    assert_null(pool_config_value_at(s->config, pool_config_n_values(s->config)).key);
    assert_null(pool_config_origin(s->config, "no.such_key"));
}

static void test_sources_say_their_size(void **state)
{
    struct config_sample *s = *state;
    struct pool_config_sources sources = { .struct_size = sizeof sources - 1, .file = s->path };
    assert_int_equal(pool_config_load(&sources, &s->config, NULL), POOL_INVALID_REQUEST);
    pool_config_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_defaults_are_those_of_the_table, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_flag_beats_variable_beats_file, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_only_the_winner_is_judged, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_variables, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_strange_variables_warn, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_paths, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_state_dir_moves_registry_and_socket, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_service_layout, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_user_layout, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_default_file_and_catalog, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_file_named_by_variable, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_what_is_shown_can_be_read_back, open_sample, close_sample),
        cmocka_unit_test_setup_teardown(test_sources_say_their_size, open_sample, close_sample),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
