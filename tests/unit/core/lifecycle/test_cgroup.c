/*
 * Control groups: what the kernel's files say, and that nothing happens where no group was delegated. The real thing is in
 * tests/system/test_daemon_cgroups.py, which needs a v2 hierarchy it may write to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <limits.h>
#include <unistd.h>

#include "core/lifecycle/cgroup.h"
#include "scratch_tree.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void finds_our_own_group(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *path; /* NULL: none */
    } cases[] = {
        { "0::/system.slice/pool.service\n", "/system.slice/pool.service" },
        { "0::/\n", "/" },
        { "9:name=systemd:/x\n1:cpu:/\n0::/y z\n", "/y z" },
        { "0::/last", "/last" },
        { "9:name=systemd:/x\n", NULL },
        { "0::/../outside\n", NULL },
        { "0::/gone (deleted)\n", NULL },
        { "10::/ten\n", NULL },
        { "0:", NULL },
        { "", NULL },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char path[64] = "";
        assert_int_equal(cgroup_own_path_parse(cases[i].text, path, sizeof path), cases[i].path != NULL);
        if (cases[i].path)
            assert_string_equal(path, cases[i].path);
    }
    char small[4];
    assert_false(cgroup_own_path_parse("0::/long", small, sizeof small));
}

#define V1 "36 35 98:0 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n"

static void finds_where_v2_is_mounted(void **state)
{
    (void)state;
    static const struct {
        const char *text, *mount_point, *root;
    } cases[] = {
        { "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup", "/" },
        { V1 "31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified", "/" },
        { "30 23 0:26 /docker/abc /sys/fs/cgroup ro shared:4 master:5 - cgroup2 none rw\n", "/sys/fs/cgroup",
          "/docker/abc" },
        { "30 23 0:26 / /a\\040b rw - cgroup2 x rw\n", "/a b", "/" },
        { V1, NULL, NULL },
        { "30 23 0:26 / /x rw - cgroup2x x rw\n", NULL, NULL },
        { "30 23 0:26 / /x rw cgroup2\n", NULL, NULL },
        { "30 23 0:26\n", NULL, NULL },
        { "\n\n -", NULL, NULL },
        { "", NULL, NULL },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char mount_point[64] = "", root[64] = "";
        assert_int_equal(
            cgroup_mount_parse(cases[i].text, mount_point, sizeof mount_point, root, sizeof root),
            cases[i].root != NULL);
        if (cases[i].root) {
            assert_string_equal(mount_point, cases[i].mount_point);
            assert_string_equal(root, cases[i].root);
        }
    }
    char small[4], root[64];
    assert_false(cgroup_mount_parse(cases[0].text, small, sizeof small, root, sizeof root));
}

static void does_nothing_without_a_group(void **state)
{
    (void)state;
    const struct cgroups none = CGROUPS_INIT;
    struct process_set set = { 0 };
    struct pool_worker_list live = { 0 };
    char id[] = "w";
    struct pool_worker_info worker = { .worker_id = id, .created_boottime_ns = 7 };
    cgroup_enter(&none, &worker, getpid());
    cgroup_kill(&none, &worker);
    assert_true(cgroup_find(&none, &worker, &set));
    assert_int_equal(set.n, 0);
    struct cgroup_facts facts = cgroup_facts_read(&none, &worker);
    assert_false(facts.n_oom_kills.is_present);
    assert_false(facts.peak_memory_bytes.is_present);
    cgroups_sweep(&none, &live);
    cgroup_remove(&none, &worker);
}

/* A folder with the files that the kernel would show. */
static void reads_what_was_counted(void **state)
{
    (void)state;
    struct scratch_tree tree;
    char path[1200];
    char id[] = "w";
    struct pool_worker_info worker = { .worker_id = id, .created_boottime_ns = 0x7b };
    scratch_tree_make(&tree);
    SCRATCH_PATH(&tree, "worker-w.7b", path);
    assert_int_equal(mkdir(path, 0700), 0);
    scratch_tree_write_text(&tree, "worker-w.7b/memory.events",
                            "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n");
    scratch_tree_write_text(&tree, "worker-w.7b/memory.peak", "104857600\n");
    scratch_tree_write_text(&tree, "worker-w.7b/memory.max", "max\n");
    const struct cgroups cgroups = { .root_fd = open(tree.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
    assert_true(cgroups.root_fd >= 0);
    struct cgroup_facts facts = cgroup_facts_read(&cgroups, &worker);
    assert_true(facts.n_ooms.is_present && facts.n_oom_kills.is_present &&
                facts.peak_memory_bytes.is_present);
    assert_int_equal(facts.n_ooms.value, 3);
    assert_int_equal(facts.n_oom_kills.value, 2);
    assert_int_equal(facts.peak_memory_bytes.value, 104857600);
    assert_false(facts.limit_bytes.is_present); /* none of its own */
    scratch_tree_write_text(&tree, "worker-w.7b/memory.max", "33554432\n");
    scratch_tree_write_text(&tree, "worker-w.7b/memory.events", "oom_kills 5\noom -1\n");
    facts = cgroup_facts_read(&cgroups, &worker);
    assert_int_equal(facts.limit_bytes.value, 33554432);
    assert_false(facts.n_ooms.is_present || facts.n_oom_kills.is_present);
    close(cgroups.root_fd);
    scratch_tree_remove(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_our_own_group),
        cmocka_unit_test(finds_where_v2_is_mounted),
        cmocka_unit_test(does_nothing_without_a_group),
        cmocka_unit_test(reads_what_was_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
