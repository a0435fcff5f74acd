/*
 * How devices are connected, over the fake driver: bridges, NVSwitches, none, drivers that know nothing of it or lie,
 * and what is asked when.
 */
#include "core/gpu/nvml_topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/gpu/inventories.h"
#include "fake_driver.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define GPU_0    "00000000:01:00.0" /* where the fake has them */
#define GPU_1    "00000000:02:00.0"
#define SWITCH   "00000000:C0:00.0"

static const int codes[] = { 1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,  15,   16,
                             17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 999, 4711, 30 };

static struct fake_driver driver;
static char *world_text;
static size_t n_world_text;
static FILE *world;

static int start_driver(void **state)
{
    (void)state;
    return fake_driver_start(&driver) ? 0 : -1;
}

static int end_driver(void **state)
{
    (void)state;
    fake_driver_end(&driver);
    return 0;
}

/* A world is written to the stream `world` between these two. */
static void begin_world(void)
{
    world = open_memstream(&world_text, &n_world_text);
    assert_non_null(world);
}

static void end_world(void)
{
    assert_int_equal(fclose(world), 0);
    assert_true(fake_driver_set(&driver, world_text));
    free(world_text);
}

static void set_world(const char *text)
{
    assert_true(fake_driver_set(&driver, text));
}

static void add_links(int first, int n, const char *rest)
{
    for (int i = first; i < first + n; i++)
        fprintf(world, "nvlink = %d %s\n", i, rest);
}

static struct pool_gpu_inventory *open_inventory(void)
{
    struct pool_gpu_inventory *inventory = NULL;
    assert_int_equal(pool_gpu_inventory_open(driver.url, &inventory, NULL), POOL_OK);
    return inventory;
}

static struct pool_gpu_list *refresh(struct pool_gpu_inventory *inventory)
{
    struct pool_gpu_list *list = NULL;
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_list(inventory, &list, NULL), POOL_OK);
    return list;
}

static struct pool_gpu_list *look(void)
{
    struct pool_gpu_inventory *inventory = open_inventory();
    struct pool_gpu_list *list = refresh(inventory);
    pool_gpu_inventory_close(inventory);
    return list;
}

/* What one device says of another; both must say the same. */
static const struct pool_gpu_peer *peer_of(const struct pool_gpu_list *list, size_t one, size_t other)
{
    const struct pool_gpu_peer *found[2] = { NULL, NULL };
    for (int side = 0; side < 2; side++) {
        const struct pool_gpu_info *from = list->gpus[side ? other : one];
        const struct pool_gpu_info *to = list->gpus[side ? one : other];
        for (size_t i = 0; i < from->n_peers; i++) {
            if (from->peers[i].gpu_id != to->gpu_id)
                continue;
            assert_null(found[side]);
            assert_string_equal(from->peers[i].uuid, to->uuid);
            found[side] = &from->peers[i];
        }
        assert_non_null(found[side]);
    }
    assert_int_equal(found[0]->common_ancestor, found[1]->common_ancestor);
    assert_int_equal(found[0]->nvlinks.is_present, found[1]->nvlinks.is_present);
    assert_int_equal(found[0]->nvlinks.value, found[1]->nvlinks.value);
    assert_int_equal(found[0]->is_through_nvswitch, found[1]->is_through_nvswitch);
    return found[0];
}

/* n is -1 for what is not known. */
static void assert_nvlinks(const struct pool_gpu_list *list, size_t one, size_t other, int n)
{
    const struct pool_gpu_peer *peer = peer_of(list, one, other);
    assert_int_equal(peer->nvlinks.is_present ? peer->nvlinks.value : -1, n);
}

static void assert_healthy(const struct pool_gpu_list *list)
{
    for (size_t i = 0; i < list->n_gpus; i++)
        assert_int_equal(list->gpus[i]->health, POOL_GPU_HEALTHY);
    assert_string_equal(list->reason, "");
}

/* GPU 0 and 1 with a bridge of four links and room for two more, GPU 2 without anything. */
static void write_pair(void)
{
    fprintf(world, "[driver]\ntopology = 0 1 40\ntopology = 0 2 50\ntopology = 1 2 10\n[gpu 0]\n");
    add_links(0, 4, "1 " GPU_1 " 0 6");
    add_links(4, 2, "0");
    fprintf(world, "[gpu 1]\n");
    add_links(0, 4, "1 " GPU_0 " 0 6");
    add_links(6, 2, "0");
    fprintf(world, "[gpu 2]\n");
}

static void a_pair_with_a_bridge(void **state)
{
    (void)state;
    begin_world();
    write_pair();
    end_world();
    struct pool_gpu_list *list = look();
    assert_int_equal(list->n_gpus, 3);
    assert_healthy(list);
    const struct pool_gpu_info *gpu = list->gpus[1];
    assert_true(gpu->are_nvlinks_known);
    assert_int_equal(gpu->n_nvlinks, 6);
    assert_int_equal(gpu->nvlinks[3].link, 3);
    assert_true(gpu->nvlinks[3].is_active);
    assert_true(gpu->nvlinks[3].version.is_present);
    assert_int_equal(gpu->nvlinks[3].version.value, 6);
    assert_int_equal(gpu->nvlinks[3].remote, POOL_NVLINK_GPU);
    assert_string_equal(gpu->nvlinks[3].remote_pci_bus_id, GPU_0);
    assert_int_equal(gpu->nvlinks[4].link, 6); /* behind a hole */
    assert_false(gpu->nvlinks[4].is_active);
    assert_false(gpu->nvlinks[4].version.is_present);
    assert_int_equal(gpu->nvlinks[4].remote, POOL_NVLINK_UNKNOWN);
    assert_string_equal(gpu->nvlinks[4].remote_pci_bus_id, "");
    assert_true(list->gpus[2]->are_nvlinks_known);
    assert_int_equal(list->gpus[2]->n_nvlinks, 0);
    assert_nvlinks(list, 0, 1, 4);
    assert_nvlinks(list, 0, 2, 0);
    assert_false(peer_of(list, 0, 1)->is_through_nvswitch);
    assert_int_equal(peer_of(list, 0, 1)->common_ancestor, POOL_GPU_ANCESTOR_NODE);
    assert_int_equal(peer_of(list, 0, 2)->common_ancestor, POOL_GPU_ANCESTOR_SYSTEM);
    assert_int_equal(peer_of(list, 1, 2)->common_ancestor, POOL_GPU_ANCESTOR_SINGLE);
    pool_gpu_list_free(list);
}

static void every_level_has_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *level, *name;
    } levels[] = {
        { "0", "internal" }, { "10", "single" }, { "20", "multiple" }, { "30", "hostbridge" },
        { "40", "node" },    { "50", "system" }, { "33", "unknown" },  { "4294967295", "unknown" },
    };
    for (size_t i = 0; i < COUNT(levels); i++) {
        begin_world();
        fprintf(world, "[driver]\ntopology = 0 1 %s\n[gpu 0]\n[gpu 1]\n", levels[i].level);
        end_world();
        struct pool_gpu_list *list = look();
        assert_string_equal(pool_gpu_ancestor_name(peer_of(list, 0, 1)->common_ancestor), levels[i].name);
        pool_gpu_list_free(list);
    }
    assert_string_equal(pool_gpu_ancestor_name((enum pool_gpu_ancestor)77), "unknown");
    assert_string_equal(pool_nvlink_remote_name(POOL_NVLINK_SWITCH), "switch");
    assert_string_equal(pool_nvlink_remote_name((enum pool_nvlink_remote)77), "unknown");
}

static void nvswitches_connect_all_with_all(void **state)
{
    (void)state;
    begin_world();
    for (int i = 0; i < 4; i++) {
        fprintf(world, "[gpu %d]\n", i);
        add_links(0, 16, "1 " SWITCH " 2 6");
        add_links(16, 2, i == 3 ? "0" : "1 00000000:C1:00.0 2 6"); /* two of the last one's are down */
    }
    fprintf(world, "[gpu 4]\n"); /* not on the switches */
    end_world();
    struct pool_gpu_list *list = look();
    assert_int_equal(list->gpus[0]->n_nvlinks, 18);
    assert_int_equal(list->gpus[0]->nvlinks[17].remote, POOL_NVLINK_SWITCH);
    assert_int_equal(list->gpus[0]->n_peers, 4);
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = i + 1; k < 4; k++) {
            assert_nvlinks(list, i, k, k == 3 ? 16 : 18);
            assert_true(peer_of(list, i, k)->is_through_nvswitch);
        }
        assert_nvlinks(list, i, 4, 0);
        assert_false(peer_of(list, i, 4)->is_through_nvswitch);
    }
    pool_gpu_list_free(list);
}

/* Nobody tells where direct links lead, or to whom. */
static void what_is_not_told_is_not_none(void **state)
{
    (void)state;
    set_world("[driver]\nreturn.nvmlDeviceGetNvLinkRemotePciInfo_v2 = 13\n"
              "[gpu 0]\nnvlink = 0 1\n[gpu 1]\nnvlink = 0 1\n[gpu 2]\nnvlink = 0 0\n");
    struct pool_gpu_list *list = look();
    assert_true(list->gpus[0]->are_nvlinks_known);
    assert_nvlinks(list, 0, 1, -1);
    assert_nvlinks(list, 0, 2, 0);
    pool_gpu_list_free(list);
    set_world("[gpu 0]\nreturn.nvmlDeviceGetPciInfo_v3 = 999\nreturn.nvmlDeviceGetNvLinkState = 999\n"
              "[gpu 1]\nnvlink = 0 1 " GPU_0 "\n[gpu 2]\n");
    list = look();
    assert_nvlinks(list, 0, 1, -1);
    assert_nvlinks(list, 0, 2, 0);
    assert_nvlinks(list, 1, 2, 0);
    pool_gpu_list_free(list);
    /* NVSwitches of a library that does not know the word. */
    set_world("[driver]\nreturn.nvmlDeviceGetNvLinkRemoteDeviceType = 13\n"
              "[gpu 0]\nnvlink = 0 1 " SWITCH "\n[gpu 1]\nnvlink = 0 1 " SWITCH "\n");
    list = look();
    assert_int_equal(list->gpus[0]->nvlinks[0].remote, POOL_NVLINK_UNKNOWN);
    assert_nvlinks(list, 0, 1, -1);
    pool_gpu_list_free(list);
}

static void one_device_has_no_peer(void **state)
{
    (void)state;
    set_world("[gpu 0]\nnvlink = 0 1 " SWITCH " 2\n");
    struct pool_gpu_list *list = look();
    assert_int_equal(list->gpus[0]->n_nvlinks, 1);
    assert_int_equal(list->gpus[0]->n_peers, 0);
    pool_gpu_list_free(list);
    set_world("[driver]\n");
    list = look();
    assert_int_equal(list->n_gpus, 0);
    pool_gpu_list_free(list);
}

static bool is_lost(int code)
{
    return code == 15 || code == 16;
}

/* Of GPU 0, with one function that answers so: what of the pair is still known. */
static void check_code(const char *function, int code)
{
    begin_world();
    fprintf(world, "[driver]\ntopology = 0 1 20\n[gpu 0]\nreturn.%s = %d\n", function, code);
    add_links(0, 2, "1 " GPU_1 " 0 6");
    fprintf(world, "[gpu 1]\n");
    add_links(0, 2, "1 " GPU_0 " 0 6");
    end_world();
    bool is_state = strcmp(function, "nvmlDeviceGetNvLinkState") == 0;
    bool is_address = strcmp(function, "nvmlDeviceGetNvLinkRemotePciInfo_v2") == 0;
    bool is_pair = strcmp(function, "nvmlDeviceGetTopologyCommonAncestor") == 0;
    bool is_none = is_state && (code == 2 || code == 3); /* a board without NVLink says so */
    struct pool_gpu_list *list = look();
    assert_int_equal(list->n_gpus, 2);
    assert_healthy(list);
    const struct pool_gpu_info *gpu = list->gpus[0];
    bool is_told = is_none || !is_state;
    is_told = is_told && (is_pair || !is_lost(code)); /* what is lost under way is not half told */
    assert_int_equal(gpu->are_nvlinks_known, is_told);
    assert_int_equal(gpu->n_nvlinks, is_told && !is_state ? 2 : 0);
    assert_true(list->gpus[1]->are_nvlinks_known);
    /* Who does not know where his links lead is believed to have those that the other tells of. */
    assert_nvlinks(list, 0, 1, is_none ? 0 : 2);
    bool has_ancestor = !is_pair && (is_told || !is_lost(code));
    assert_int_equal(peer_of(list, 0, 1)->common_ancestor,
                     has_ancestor ? POOL_GPU_ANCESTOR_MULTIPLE : POOL_GPU_ANCESTOR_UNKNOWN);
    for (size_t i = 0; i < gpu->n_nvlinks; i++) {
        assert_int_equal(gpu->nvlinks[i].version.is_present,
                         strcmp(function, "nvmlDeviceGetNvLinkVersion") != 0);
        assert_int_equal(gpu->nvlinks[i].remote, POOL_NVLINK_GPU); /* told, or found by its address */
        assert_string_equal(gpu->nvlinks[i].remote_pci_bus_id, is_address ? "" : GPU_1);
    }
    pool_gpu_list_free(list);
}

static void every_answer_of_every_function(void **state)
{
    (void)state;
    static const char *const functions[] = {
        "nvmlDeviceGetNvLinkState",
        "nvmlDeviceGetNvLinkVersion",
        "nvmlDeviceGetNvLinkRemotePciInfo_v2",
        "nvmlDeviceGetNvLinkRemoteDeviceType",
        "nvmlDeviceGetTopologyCommonAncestor",
    };
    for (size_t f = 0; f < COUNT(functions); f++) {
        for (size_t c = 0; c < COUNT(codes); c++)
            check_code(functions[f], codes[c]);
    }
}

static void a_driver_that_lies(void **state)
{
    (void)state;
    begin_world();
    fprintf(world, "[gpu 0]\n");
    add_links(0, 4, "1 " GPU_1 " 0 0");           /* of these the other knows two */
    add_links(4, 1, "1 " GPU_0 " 0 4000");        /* to itself */
    add_links(5, 1, "1 00000000:77:00.0 0 none"); /* a GPU that is not listed */
    add_links(6, 1, "1 " GPU_1 " 77");            /* a kind of device that there is not */
    add_links(7, 1, "7 " GPU_1);                  /* neither active nor not */
    add_links(8, 40, "1 none 255");               /* more links than there are */
    fprintf(world, "[gpu 1]\n");
    add_links(0, 2, "1 " GPU_0);
    add_links(2, 1, "1 " SWITCH " 2"); /* alone on its switch */
    end_world();
    struct pool_gpu_list *list = look();
    assert_healthy(list);
    const struct pool_gpu_info *gpu = list->gpus[0];
    assert_true(gpu->are_nvlinks_known);
    assert_int_equal(gpu->n_nvlinks, POOL_NVLINKS_MAX - 1);
    assert_false(gpu->nvlinks[0].version.is_present);
    assert_false(gpu->nvlinks[4].version.is_present);
    assert_string_equal(gpu->nvlinks[5].remote_pci_bus_id, "00000000:77:00.0");
    assert_int_equal(gpu->nvlinks[5].remote, POOL_NVLINK_GPU);
    assert_int_equal(gpu->nvlinks[6].remote, POOL_NVLINK_GPU); /* by its address */
    assert_int_equal(gpu->nvlinks[7].link, 8);
    assert_int_equal(gpu->nvlinks[7].remote, POOL_NVLINK_UNKNOWN);
    assert_int_equal(gpu->nvlinks[POOL_NVLINKS_MAX - 2].link, POOL_NVLINKS_MAX - 1);
    assert_nvlinks(list, 0, 1, 2);
    assert_false(peer_of(list, 0, 1)->is_through_nvswitch);
    pool_gpu_list_free(list);
}

static void an_instance_has_none_of_its_device(void **state)
{
    (void)state;
    set_world("[gpu 0]\nmig = on\nnvlink = 0 1 " GPU_1
              "\n[mig 0.0]\nuuid = MIG-a\n[gpu 1]\nnvlink = 0 1 " GPU_0 "\n");
    struct pool_gpu_list *list = look();
    assert_int_equal(list->n_gpus, 3);
    assert_true(list->gpus[1]->is_mig_instance);
    assert_true(list->gpus[1]->are_nvlinks_known);
    assert_int_equal(list->gpus[1]->n_nvlinks, 0);
    assert_int_equal(list->gpus[1]->n_peers, 0);
    assert_nvlinks(list, 0, 2, 1);
    assert_int_equal(list->gpus[2]->n_peers, 1);
    pool_gpu_list_free(list);
}

static void of_many_the_first_are_asked(void **state)
{
    (void)state;
    begin_world();
    for (int i = 0; i < NVML_TOPOLOGY_DEVICES_MAX + 2; i++)
        fprintf(world, "[gpu %d]\n", i);
    end_world();
    struct pool_gpu_list *list = look();
    assert_int_equal(list->n_gpus, NVML_TOPOLOGY_DEVICES_MAX + 2);
    assert_int_equal(list->gpus[0]->n_peers, POOL_GPU_PEERS_MAX);
    assert_int_equal(list->gpus[NVML_TOPOLOGY_DEVICES_MAX - 1]->n_peers, POOL_GPU_PEERS_MAX);
    assert_int_equal(peer_of(list, 5, NVML_TOPOLOGY_DEVICES_MAX - 1)->common_ancestor,
                     POOL_GPU_ANCESTOR_HOSTBRIDGE);
    assert_int_equal(list->gpus[NVML_TOPOLOGY_DEVICES_MAX]->n_peers, 0);
    assert_false(list->gpus[NVML_TOPOLOGY_DEVICES_MAX]->are_nvlinks_known);
    pool_gpu_list_free(list);
}

/* ---- what is asked when ---- */

/* Refreshes a world in which GPU 0 and 1 have n links, and looks how many are told. */
static void assert_told(struct pool_gpu_inventory *inventory, const char *extra_0, const char *more, int n,
                        int n_told)
{
    begin_world();
    fprintf(world, "[gpu 0]\n%s", extra_0);
    add_links(0, n, "1 " GPU_1);
    fprintf(world, "[gpu 1]\n");
    add_links(0, n, "1 " GPU_0);
    fputs(more, world);
    end_world();
    struct pool_gpu_list *list = refresh(inventory);
    size_t other = list->n_gpus > 1 && list->gpus[1]->is_mig_instance ? 2 : 1;
    assert_nvlinks(list, 0, other, n_told);
    pool_gpu_list_free(list);
}

static void wires_are_asked_for_once(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    assert_told(inventory, "", "", 4, 4);
    for (int i = 0; i < 3; i++)
        assert_told(inventory, "", "", 2, 4);      /* not asked again */
    assert_told(inventory, "", "[gpu 2]\n", 3, 3); /* one came: indices may have moved */
    assert_told(inventory, "", "[gpu 2]\n", 2, 3);
    assert_told(inventory, "", "", 5, 5);                                  /* it went */
    assert_told(inventory, "uuid = GPU-exchanged\nmig = off\n", "", 6, 5); /* the other keeps what it said */
    assert_told(inventory, "uuid = GPU-exchanged\nmig = on\n", "", 2, 2);
    assert_told(inventory, "uuid = GPU-exchanged\nmig = on\n", "", 1, 2);
    pool_gpu_inventory_close(inventory);
}

static void a_lost_device_keeps_its_wires(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    assert_told(inventory, "", "", 4, 4);
    assert_told(inventory, "lost = yes\n", "", 2, 4);
    assert_told(inventory, "", "", 2, 4); /* the same board with the same wires */
    pool_gpu_inventory_close(inventory);

    inventory = open_inventory(); /* lost from the beginning: asked when it is there */
    assert_told(inventory, "return.nvmlDeviceGetTemperature = 15\n", "", 3, 3); /* as the other end says */
    assert_told(inventory, "", "", 2, 2);
    assert_told(inventory, "", "", 1, 2);
    pool_gpu_inventory_close(inventory);
}

static void a_driver_that_starts_anew_is_asked_anew(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    assert_told(inventory, "", "", 4, 4);
    set_world("[driver]\nreturn.nvmlDeviceGetCount_v2 = 999\n[gpu 0]\n[gpu 1]\n");
    pool_gpu_list_free(refresh(inventory));
    assert_told(inventory, "", "", 2, 2);
    pool_gpu_inventory_close(inventory);
}

/* One refresh at a moment of our choice. */
static int64_t links_at(void *self, int64_t boottime_ns)
{
    struct pool_gpu_list *list = calloc(1, sizeof *list);
    assert_non_null(list);
    list->taken_boottime_ns = boottime_ns;
    assert_int_equal(gpu_nvml_ops.refresh(self, list, NULL), POOL_OK);
    assert_int_equal(list->gpus[0]->n_peers, 1);
    int64_t n = list->gpus[0]->peers[0].nvlinks.value;
    pool_gpu_list_free(list);
    return n;
}

static void links_that_come_up_later_are_seen(void **state)
{
    (void)state;
    void *self = calloc(1, gpu_nvml_ops.private_bytes);
    assert_non_null(self);
    assert_int_equal(gpu_nvml_ops.open(self, driver.library_path, NULL), POOL_OK);
    set_world("[gpu 0]\nnvlink = 0 0\n[gpu 1]\nnvlink = 0 0\n");
    assert_int_equal(links_at(self, 1000), 0);
    set_world("[gpu 0]\nnvlink = 0 1 " SWITCH " 2\n[gpu 1]\nnvlink = 0 1 " SWITCH " 2\n");
    assert_int_equal(links_at(self, 1000 + NVML_TOPOLOGY_AGE_NS - 1), 0);
    assert_int_equal(links_at(self, 1000 + NVML_TOPOLOGY_AGE_NS), 1);
    set_world("[gpu 0]\nnvlink = 0 0\n[gpu 1]\nnvlink = 0 0\n");
    assert_int_equal(links_at(self, 1000 + 2 * NVML_TOPOLOGY_AGE_NS - 1), 1);
    gpu_nvml_ops.close(self);
    free(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start_driver, end_driver)
        TEST(a_pair_with_a_bridge),
        TEST(every_level_has_its_name),
        TEST(nvswitches_connect_all_with_all),
        TEST(what_is_not_told_is_not_none),
        TEST(one_device_has_no_peer),
        TEST(every_answer_of_every_function),
        TEST(a_driver_that_lies),
        TEST(an_instance_has_none_of_its_device),
        TEST(of_many_the_first_are_asked),
        TEST(wires_are_asked_for_once),
        TEST(a_lost_device_keeps_its_wires),
        TEST(a_driver_that_starts_anew_is_asked_anew),
        TEST(links_that_come_up_later_are_seen),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
