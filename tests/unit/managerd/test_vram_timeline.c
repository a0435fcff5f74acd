/*
 * A timeline that is thinned out: what stays whatever comes, and how far apart what stays may be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "managerd/vram_timeline.h"

static struct vram_timeline_sample at(int64_t second, int64_t observed, int64_t free_bytes)
{
    return (struct vram_timeline_sample){ .at_ns = 1 + second * NS_PER_SEC,
                                          .observed_bytes = { observed >= 0, observed },
                                          .free_bytes = { free_bytes >= 0, free_bytes } };
}

static bool has(const struct vram_timeline *timeline, int64_t second)
{
    for (size_t i = 0; i < timeline->n; i++) {
        if (timeline->samples[i].at_ns == 1 + second * NS_PER_SEC)
            return true;
    }
    return false;
}

static void check_order(const struct vram_timeline *timeline)
{
    assert_in_range(timeline->n, 1, VRAM_TIMELINE_MAX);
    for (size_t i = 1; i < timeline->n; i++)
        assert_true(timeline->samples[i - 1].at_ns < timeline->samples[i].at_ns);
}

static void test_few_stay_all(void **state)
{
    (void)state;
    struct vram_timeline timeline = { 0 };
    for (int64_t i = 0; i < VRAM_TIMELINE_MAX; i++)
        vram_timeline_add(&timeline, &(struct vram_timeline_sample){ .at_ns = i + 1 });
    assert_int_equal(timeline.n, VRAM_TIMELINE_MAX);
    for (size_t i = 0; i < timeline.n; i++)
        assert_int_equal(timeline.samples[i].at_ns, i + 1);
}

static void test_a_clock_that_stands_adds_nothing(void **state)
{
    (void)state;
    struct vram_timeline timeline = { 0 };
    struct vram_timeline_sample first = at(5, 1, 1), same = at(5, 2, 2), earlier = at(4, 3, 3);
    vram_timeline_add(&timeline, &first);
    vram_timeline_add(&timeline, &same);
    vram_timeline_add(&timeline, &earlier);
    assert_int_equal(timeline.n, 1);
    assert_int_equal(timeline.samples[0].observed_bytes.value, 1);
}

/* Looked at on the way, for it may end at any moment. */
static void check_life(const struct vram_timeline *timeline, int64_t end, int64_t peak, int64_t low)
{
    check_order(timeline);
    for (int64_t i = 0; i < VRAM_TIMELINE_FIRST; i++)
        assert_true(has(timeline, i));
    assert_true(has(timeline, end));
    assert_true(peak > end || has(timeline, peak));
    assert_true(low > end || has(timeline, low));
    for (size_t i = 1; i < timeline->n; i++) {
        int64_t left = (timeline->samples[i - 1].at_ns - 1) / NS_PER_SEC;
        int64_t right = (timeline->samples[i].at_ns - 1) / NS_PER_SEC;
        int64_t from_end = end - right, distance = left < from_end ? left : from_end;
        if (right - left > 2 + distance) /* dense at both ends */
            fail_msg("at %lld: a hole from %lld to %lld", (long long)end, (long long)left, (long long)right);
    }
}

static void test_a_long_life(void **state)
{
    (void)state;
    enum { DAY = 24 * 3600, PEAK = 31234, LOW = 60001 };
    struct vram_timeline timeline = { 0 };
    size_t n_last_minute = 0, n_last_ten = 0;
    for (int64_t i = 0; i < DAY; i++) {
        struct vram_timeline_sample sample =
            at(i, i == PEAK ? 1000 : 500 + i % 7, i == LOW ? 1 : 200 + i % 11);
        vram_timeline_add(&timeline, &sample);
        if (i > VRAM_TIMELINE_MAX && (i % 997 == 0 || i + 1 == DAY))
            check_life(&timeline, i, PEAK, LOW);
    }
    assert_int_equal(timeline.n, VRAM_TIMELINE_MAX);
    for (size_t i = 0; i < timeline.n; i++) {
        int64_t age = DAY - 1 - (timeline.samples[i].at_ns - 1) / NS_PER_SEC;
        n_last_minute += age <= 60;
        n_last_ten += age <= 600;
    }
    assert_in_range(n_last_minute, 10, VRAM_TIMELINE_MAX);
    assert_in_range(n_last_ten, 20, VRAM_TIMELINE_MAX);
}

static void test_nothing_is_told(void **state)
{
    (void)state;
    struct vram_timeline timeline = { 0 };
    for (int64_t i = 0; i < 10000; i++) {
        struct vram_timeline_sample sample = at(i, -1, -1);
        vram_timeline_add(&timeline, &sample);
    }
    check_order(&timeline);
    assert_true(has(&timeline, 0) && has(&timeline, 9999));
}

/* The peak is the newest of all, again and again. */
static void test_what_only_grows(void **state)
{
    (void)state;
    struct vram_timeline timeline = { 0 };
    for (int64_t i = 0; i < 5000; i++) {
        struct vram_timeline_sample sample = at(i, i, 5000 - i);
        vram_timeline_add(&timeline, &sample);
        assert_int_equal(timeline.samples[timeline.n - 1].observed_bytes.value, i);
    }
    check_life(&timeline, 4999, 4999, 4999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_stay_all),    cmocka_unit_test(test_a_clock_that_stands_adds_nothing),
        cmocka_unit_test(test_a_long_life),     cmocka_unit_test(test_nothing_is_told),
        cmocka_unit_test(test_what_only_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
