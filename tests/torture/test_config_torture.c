/*
 * Loading a configuration with each allocation failing once: nothing is left behind, and the reason is said.
 */
#include "config_sample.h"
#include "torture.h"

static const char rich_file[] =
    "[pool]\nid = \"here\"\nstate_dir = \"state\"\nmodels_dirs = [\"~/m\", \"/n\"]\n"
    "catalogs = [\"c.toml\"]\n"
    "[daemon]\nbind = \"0.0.0.0:9200\"\ntoken_file = \"tokens\"\n"
    "[orchestrator]\nurl = \"http://o/\"\n"
    "[gpu]\ninventory = \"static:g.toml\"\n"
    "[backends.cpu]\ncommand = [\"./x\", \"{port}\"]\nenv = { A = \"{gpu_uuid}\" }\n"
    "device = \"gpu\"\n"
    "[backends.child]\nextends = \"cuda\"\nenv = { B = \"1\", LLAMA_ARG_FIT = \"on\" }\n";

static const char faulty_file[] = "nothing = 1\n[workers]\nport_range = 7\n[backends.x]\nextends = \"y\"\n"
                                  "[pool]\nmodels_dirs = [\"/a\", 1]\n";

struct scenario {
    struct config_sample sample;
    enum pool_code expected;
};

static enum pool_code run(void *ctx)
{
    struct scenario *scenario = ctx;
    struct config_sample *s = &scenario->sample;
    const char *const environment[] = { "HOME=/home/me", "POOL_MODELS_DIRS=/a:~/b", "POOL_NONSENSE=1", NULL };
    const struct pool_config_override flag = { "log_level", "debug", "--log-level" };
    enum pool_code code = sample_load_with(s, NULL, environment, 1, &flag);
    if (code == POOL_OK) {
        assert_int_equal(scenario->expected, POOL_OK);
        assert_int_equal(pool_config_n_values(s->config) > 0, 1);
    } else if (code == POOL_INSUFFICIENT_MEMORY) {
        assert_null(s->config);
        assert_int_equal(s->err.code, POOL_INSUFFICIENT_MEMORY);
        assert_int_equal(s->err.sys_errno, 12); /* ENOMEM */
    } else {
        assert_int_equal(code, scenario->expected);
    }
    pool_config_free(s->config);
    s->config = NULL;
    return code == scenario->expected ? POOL_OK : code;
}

static void torture_load(const char *name, const char *file, enum pool_code expected)
{
    struct scenario scenario = { .expected = expected };
    sample_open(&scenario.sample);
    sample_write(&scenario.sample, file, strlen(file));
    torture_scenario(name, run, &scenario);
    sample_close(&scenario.sample);
}

static void test_good_file(void **state)
{
    (void)state;
    torture_load("a rich file", rich_file, POOL_OK);
}

static void test_faulty_file(void **state)
{
    (void)state;
    torture_load("a faulty file", faulty_file, POOL_INVALID_CONFIG);
    torture_load("no TOML", "[x", POOL_INVALID_CONFIG);
}

static enum pool_code look_up(void *ctx)
{
    struct config_sample *s = ctx;
    const struct pool_backend *backend = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = pool_config_backend(s->config, "nobody", &backend, &err);
    assert_null(backend);
    return code == POOL_BACKEND_NOT_FOUND ? POOL_OK : code;
}

static void test_look_up(void **state)
{
    (void)state;
    struct config_sample s;
    sample_open(&s);
    assert_int_equal(sample_load(&s, ""), POOL_OK);
    torture_scenario("an unknown backend", look_up, &s);
    sample_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_file),
        cmocka_unit_test(test_faulty_file),
        cmocka_unit_test(test_look_up),
    };
    return cmocka_run_group_tests_name("config torture", tests, NULL, NULL);
}
