/*
 * pool-gpu-probe: its words (gpu_probe_protocol.c), and the real program over the fake driver: what it prints, what
 * it obeys, and that it ends with who started it, whatever the driver does.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pool/api.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "fake_driver.h"
#include "managerd/gpu_probe_protocol.h"

#define COUNT(a)    (sizeof(a) / sizeof((a)[0]))
#define DEADLINE_MS 60000
#define HANG        "hang.nvmlDeviceGetCount_v2 = forever\n"

extern char **environ;

static struct fake_driver driver;
static char program_path[4096];

/* ---- the words ---- */

static void reads_commands(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool is_good;
        enum probe_command_kind kind;
        int64_t interval_ms;
    } cases[] = {
        { "now", true, PROBE_COMMAND_NOW, 0 },
        { "interval 10", true, PROBE_COMMAND_INTERVAL, 10 },
        { "interval 3600000", true, PROBE_COMMAND_INTERVAL, 3600000 },
        { "interval 9", false, 0, 0 },
        { "interval 3600001", false, 0, 0 },
        { "interval -1", false, 0, 0 },
        { "interval 99999999999999999999", false, 0, 0 },
        { "interval ", false, 0, 0 },
        { "interval 20 ", false, 0, 0 },
        { "interval", false, 0, 0 },
        { "now ", false, 0, 0 },
        { "", false, 0, 0 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct probe_command command = { .interval_ms = 77 };
        assert_int_equal(probe_command_parse(cases[i].line, &command), cases[i].is_good);
        if (!cases[i].is_good) {
            assert_int_equal(command.interval_ms, 77);
            continue;
        }
        assert_int_equal(command.kind, cases[i].kind);
        assert_int_equal(command.interval_ms, cases[i].interval_ms);
        char text[PROBE_COMMAND_MAX_BYTES];
        size_t n = probe_command_format(&command, text);
        assert_int_equal(n, strlen(cases[i].line) + 1);
        assert_memory_equal(text, cases[i].line, n - 1);
        assert_int_equal(text[n - 1], '\n');
    }
}

static void reads_answers(void **state)
{
    (void)state;
    static const char good[] = "{\"gpus\":[{\"gpu_id\":3,\"uuid\":\"GPU-1\",\"later_field\":{}}],"
                               "\"source\":\"nvml\",\"reason\":\"\",\"taken_boottime_ns\":17}";
    struct probe_answer answer;
    assert_int_equal(probe_answer_decode(good, strlen(good), &answer, NULL), POOL_OK);
    assert_int_equal(answer.kind, PROBE_ANSWER_SNAPSHOT);
    assert_int_equal(answer.list->n_gpus, 1);
    assert_string_equal(answer.list->gpus[0]->uuid, "GPU-1");
    assert_int_equal(answer.list->taken_boottime_ns, 17);
    pool_gpu_list_free(answer.list);

    static const char failed[] =
        "{\"error\":{\"code\":\"INVALID_CONFIG\",\"message\":\"no\",\"retriable\":false,"
        "\"details\":{}}}";
    assert_int_equal(probe_answer_decode(failed, strlen(failed), &answer, NULL), POOL_OK);
    assert_int_equal(answer.kind, PROBE_ANSWER_ERROR);
    assert_int_equal(answer.error.code, POOL_INVALID_CONFIG);
}

static void reads_events_as_it_says_them(void **state)
{
    (void)state;
    static const struct pool_gpu_event events[] = {
        { .uuid = "GPU-1", .kind = POOL_GPU_EVENT_XID, .data = 79 },
        { .uuid = "", .kind = POOL_GPU_EVENT_OTHER, .data = -1 },
        { .uuid = "GPU-2", .kind = POOL_GPU_EVENT_ECC_UNCORRECTED, .gpu_instance_id = { true, 3 } },
    };
    for (size_t i = 0; i < COUNT(events); i++) {
        struct probe_answer answer;
        CLEANUP_FREE char *line = probe_event_encode(&events[i]);
        assert_non_null(line);
        assert_null(strchr(line, '\n'));
        assert_int_equal(probe_answer_decode(line, strlen(line), &answer, NULL), POOL_OK);
        assert_int_equal(answer.kind, PROBE_ANSWER_EVENT);
        assert_string_equal(answer.event.uuid, events[i].uuid);
        assert_int_equal(answer.event.kind, events[i].kind);
        assert_int_equal(answer.event.data, events[i].data);
        assert_int_equal(answer.event.gpu_instance_id.is_present, events[i].gpu_instance_id.is_present);
        assert_int_equal(answer.event.gpu_instance_id.value, events[i].gpu_instance_id.value);
    }
    static const char later[] =
        "{\"gpu_event\":{\"uuid\":\"GPU-1\",\"kind\":\"of later\",\"data\":1,\"more\":[]}}";
    struct probe_answer answer;
    assert_int_equal(probe_answer_decode(later, strlen(later), &answer, NULL), POOL_OK);
    assert_int_equal(answer.event.kind, POOL_GPU_EVENT_OTHER);
}

static void refuses_nonsense(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "hello",
        "{}",
        "[]",
        "{\"gpus\":[]}",
        "{\"gpus\":[],\"source\":\"nvml\"}",
        "{\"gpus\":[],\"source\":\"nvml\",\"taken_boottime_ns\":-5}",
        "{\"gpus\":[],\"taken_boottime_ns\":17}",
        "{\"gpus\":[{\"uuid\":1}],\"source\":\"nvml\",\"taken_boottime_ns\":17}",
        "{\"gpus\":7,\"source\":\"nvml\",\"taken_boottime_ns\":17}",
        "{\"gpus\":[],\"source\":\"nvml\",\"taken_boottime_ns\":17",
        "{\"error\":{}}",
        "{\"error\":7}",
        "{\"gpu_event\":7}",
        "{\"gpu_event\":{}}",
        "{\"gpu_event\":{\"uuid\":\"GPU-1\",\"kind\":\"xid\"}}",
        "{\"gpu_event\":{\"uuid\":\"GPU-1\",\"kind\":\"xid\",\"data\":1.5}}",
        "{\"gpu_event\":{\"uuid\":1,\"kind\":\"xid\",\"data\":1}}",
        "{\"gpu_event\":{\"uuid\":\"GPU-1\",\"kind\":7,\"data\":1}}",
        "{\"gpu_event\":{\"uuid\":\"GPU-1\",\"kind\":\"xid\",\"data\":1,\"gpu_instance_id\":\"x\"}}",
        "{\"gpu_event\":{\"uuid\":\"GPU-1\",\"kind\":\"xid\",\"data\":1",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct probe_answer answer = { .list = NULL };
        assert_int_not_equal(probe_answer_decode(cases[i], strlen(cases[i]), &answer, NULL), POOL_OK);
        assert_null(answer.list);
    }
}

static void refuses_more_gpus_than_there_can_be(void **state)
{
    (void)state;
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(1 << 20);
    strbuf_add_text(&text, "{\"gpus\":[");
    for (int i = 0; i <= POOL_GPUS_MAX; i++)
        strbuf_printf(&text, "%s{\"uuid\":\"GPU-%d\"}", i ? "," : "", i);
    strbuf_add_text(&text, "],\"source\":\"nvml\",\"taken_boottime_ns\":17}");
    struct probe_answer answer;
    assert_int_equal(probe_answer_decode(strbuf_text(&text), text.n, &answer, NULL), POOL_INVALID_REQUEST);
}

struct collected {
    char text[256];
    int n_lines;
    int n_wanted; /* false from then on */
};

static bool collect(void *ctx, const char *line, size_t n)
{
    struct collected *collected = ctx;
    assert_int_equal(strlen(line), n);
    strcat(collected->text, line);
    strcat(collected->text, "|");
    return ++collected->n_lines != collected->n_wanted;
}

static void cuts_lines_out_of_pieces(void **state)
{
    (void)state;
    static const char text[] = "one\n\nthree\nno end";
    for (size_t n_piece = 1; n_piece < sizeof text; n_piece++) {
        struct probe_lines lines = PROBE_LINES_INIT(6);
        struct collected collected = { .n_wanted = 0 };
        for (size_t i = 0; i < sizeof text - 1; i += n_piece) {
            size_t n = sizeof text - 1 - i < n_piece ? sizeof text - 1 - i : n_piece;
            assert_int_equal(probe_lines_feed(&lines, text + i, n, collect, &collected), PROBE_LINES_FED);
        }
        assert_string_equal(collected.text, "one||three|");
        probe_lines_done(&lines);
    }
}

static void stops_at_a_line_that_is_too_long(void **state)
{
    (void)state;
    struct probe_lines lines = PROBE_LINES_INIT(5);
    struct collected collected = { .n_wanted = 0 };
    assert_int_equal(probe_lines_feed(&lines, "12345\n", 6, collect, &collected), PROBE_LINES_FED);
    assert_int_equal(probe_lines_feed(&lines, "12345", 5, collect, &collected), PROBE_LINES_FED);
    assert_int_equal(probe_lines_feed(&lines, "6\n", 2, collect, &collected), PROBE_LINES_TOO_LONG);
    assert_string_equal(collected.text, "12345|");
    probe_lines_done(&lines);
}

static void stops_when_told_to(void **state)
{
    (void)state;
    struct probe_lines lines = PROBE_LINES_INIT(5);
    struct collected collected = { .n_wanted = 2 };
    assert_int_equal(probe_lines_feed(&lines, "1\n2\n3\n", 6, collect, &collected), PROBE_LINES_STOPPED);
    assert_string_equal(collected.text, "1|2|");
    probe_lines_done(&lines);
}

/* ---- the program ---- */

struct program {
    pid_t pid;
    int pidfd;
    int in, out; /* ours */
    struct probe_lines lines;
    char *line; /* the last one */
};

/* Descriptors without FD_CLOEXEC go along, as those of somebody who forgot them would. */
static struct program start(const char *const *arguments)
{
    struct program program = { .lines = PROBE_LINES_INIT(PROBE_ANSWER_MAX_BYTES) };
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    char *argv[8] = { program_path };
    for (size_t i = 0; arguments[i]; i++)
        argv[i + 1] = (char *)(uintptr_t)arguments[i];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    assert_int_equal(posix_spawn(&program.pid, program_path, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    program.in = in[1];
    program.out = out[0];
    program.pidfd = pidfd_open(program.pid, 0);
    assert_true(program.pidfd >= 0);
    return program;
}

static bool keep_line(void *ctx, const char *line, size_t n)
{
    (void)n;
    struct program *program = ctx;
    free(program->line);
    program->line = strdup(line);
    assert_non_null(program->line);
    return true;
}

/* The next line; false at the end of the output. Fails the test when neither comes. */
static bool read_line(struct program *program)
{
    free(program->line);
    program->line = NULL;
    int64_t deadline_ns = clock_boottime_ns() + DEADLINE_MS * NS_PER_MS;
    while (!program->line) {
        int64_t left_ms = (deadline_ns - clock_boottime_ns()) / NS_PER_MS;
        struct pollfd fd = { .fd = program->out, .events = POLLIN };
        assert_true(left_ms > 0 && poll(&fd, 1, (int)left_ms) == 1);
        char c; /* one byte at a time: a second line stays where it is */
        ssize_t n = read(program->out, &c, 1);
        assert_true(n >= 0);
        if (n == 0)
            return false;
        assert_int_equal(probe_lines_feed(&program->lines, &c, 1, keep_line, program), PROBE_LINES_FED);
    }
    return true;
}

static struct probe_answer read_answer(struct program *program)
{
    struct probe_answer answer = { .list = NULL };
    assert_true(read_line(program));
    assert_int_equal(probe_answer_decode(program->line, strlen(program->line), &answer, NULL), POOL_OK);
    return answer;
}

static struct pool_gpu_list *read_snapshot(struct program *program)
{
    struct probe_answer answer = read_answer(program);
    assert_int_equal(answer.kind, PROBE_ANSWER_SNAPSHOT);
    return answer.list;
}

static void tell(struct program *program, const char *words)
{
    assert_int_equal(write(program->in, words, strlen(words)), strlen(words));
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Waits for its end by itself; its exit code, or minus the signal. */
static int await_end(struct program *program)
{
    struct pollfd fd = { .fd = program->pidfd, .events = POLLIN };
    int n = poll(&fd, 1, DEADLINE_MS);
    if (n != 1)
        pidfd_send_signal(program->pidfd, SIGKILL, NULL, 0);
    siginfo_t info;
    assert_int_equal(waitid(P_PIDFD, (id_t)program->pidfd, &info, WEXITED), 0);
    assert_int_equal(n, 1);
    close_end(&program->in);
    close_end(&program->out);
    close_end(&program->pidfd);
    free(program->line);
    probe_lines_done(&program->lines);
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

static void prints_once(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n[gpu 0]\n[gpu 1]\nname = Second\nprocess = 77 1GiB\nused = 1GiB\n");
    struct program program = start((const char *[]){ "--inventory", driver.url, "--once", NULL });
    struct pool_gpu_list *list = read_snapshot(&program);
    assert_int_equal(list->n_gpus, 2);
    assert_string_equal(list->source, "nvml");
    assert_string_equal(list->gpus[1]->name, "Second");
    assert_int_equal(list->gpus[1]->n_processes, 1);
    assert_int_equal(list->gpus[1]->processes[0].used_vram_bytes.value, INT64_C(1) << 30);
    assert_true(list->taken_boottime_ns > 0 && list->taken_boottime_ns <= clock_boottime_ns());
    pool_gpu_list_free(list);
    assert_false(read_line(&program));
    assert_int_equal(await_end(&program), 0);
}

static void tells_of_an_inventory_that_can_not_be_opened(void **state)
{
    (void)state;
    struct program program = start((const char *[]){ "--inventory", "static:/nowhere.toml", NULL });
    struct probe_answer answer = read_answer(&program);
    assert_int_equal(answer.kind, PROBE_ANSWER_ERROR);
    assert_int_equal(answer.error.code, POOL_INVALID_CONFIG);
    assert_false(read_line(&program));
    assert_int_equal(await_end(&program), pool_code_exit_status(POOL_INVALID_CONFIG));
}

static void refuses_options(void **state)
{
    (void)state;
    static const char *const cases[][4] = {
        { NULL },
        { "--once", NULL },
        { "--inventory", "nvml:", "--interval=9", NULL },
        { "--inventory", "nvml:", "--interval=x", NULL },
        { "--inventory", "nvml:", "--what", NULL },
        { "--inventory", "nvml:", "more", NULL },
    };
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int errors = dup(STDERR_FILENO);
    dup2(null, STDERR_FILENO);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct program program = start(cases[i]);
        assert_false(read_line(&program));
        assert_int_equal(await_end(&program), pool_code_exit_status(POOL_INVALID_REQUEST));
    }
    dup2(errors, STDERR_FILENO);
    close(errors);
    close(null);
}

static void keeps_its_interval(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n[gpu 0]\n");
    struct program program = start((const char *[]){ "--inventory", driver.url, "--interval", "100", NULL });
    int64_t taken_ns = 0;
    for (int i = 0; i < 4; i++) {
        struct pool_gpu_list *list = read_snapshot(&program);
        if (i > 0)
            assert_true(list->taken_boottime_ns - taken_ns >= 99 * NS_PER_MS);
        taken_ns = list->taken_boottime_ns;
        pool_gpu_list_free(list);
    }
    close_end(&program.in);
    assert_int_equal(await_end(&program), 0);
}

static void obeys_commands(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n[gpu 0]\nused = 1GiB\n");
    struct program program =
        start((const char *[]){ "--inventory", driver.url, "--interval", "3600000", NULL });
    pool_gpu_list_free(read_snapshot(&program));
    fake_driver_set(&driver, "[driver]\n[gpu 0]\nused = 2GiB\n");
    tell(&program, "a command of tomorrow\nnow\n");
    struct pool_gpu_list *list = read_snapshot(&program);
    assert_int_equal(list->gpus[0]->vram_used_bytes, INT64_C(2) << 30);
    pool_gpu_list_free(list);
    tell(&program, "interval 20\n");
    for (int i = 0; i < 5; i++)
        pool_gpu_list_free(read_snapshot(&program));
    close_end(&program.in);
    assert_int_equal(await_end(&program), 0);
}

static void tells_of_an_inventory_that_becomes_unreadable(void **state)
{
    (void)state;
    static const char good[] = "[[gpus]]\nuuid = \"GPU-0\"\nname = \"A\"\nvram_total_bytes = \"1GiB\"\n";
    char path[128], url[160];
    snprintf(path, sizeof path, "%s/gpus.toml", driver.folder);
    snprintf(url, sizeof url, "static:%s", path);
    assert_true(fake_driver_write(path, good));
    struct program program = start((const char *[]){ "--inventory", url, "--interval", "3600000", NULL });
    struct probe_answer answer = read_answer(&program);
    if (answer.kind == PROBE_ANSWER_ERROR)
        fail_msg("%s", answer.error.message);
    pool_gpu_list_free(answer.list);
    assert_true(fake_driver_write(path, "[[["));
    tell(&program, "now\n");
    answer = read_answer(&program);
    assert_int_equal(answer.kind, PROBE_ANSWER_ERROR);
    assert_true(fake_driver_write(path, good));
    tell(&program, "now\n");
    pool_gpu_list_free(read_snapshot(&program));
    close_end(&program.in);
    assert_int_equal(await_end(&program), 0);
    unlink(path);
}

static void ends_when_its_owner_leaves_a_hung_driver(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n[gpu 0]\n");
    struct program program = start((const char *[]){ "--inventory", driver.url, "--interval", "20", NULL });
    pool_gpu_list_free(read_snapshot(&program));
    fake_driver_set(&driver, "[driver]\n" HANG "[gpu 0]\n");
    close_end(&program.in);
    assert_int_equal(await_end(&program), 0);
}

static void ends_when_nobody_reads_and_the_driver_hangs(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n" HANG "[gpu 0]\n");
    for (int is_once = 0; is_once <= 1; is_once++) {
        struct program program =
            start((const char *[]){ "--inventory", driver.url, is_once ? "--once" : NULL, NULL });
        close_end(&program.out);
        assert_int_equal(await_end(&program), 0);
    }
}

static void keeps_no_descriptor(void **state)
{
    (void)state;
    fake_driver_set(&driver, "[driver]\n[gpu 0]\n");
    int kept[2] = { open(driver.folder, O_RDONLY), socket(AF_INET, SOCK_STREAM, 0) };
    struct program program = start((const char *[]){ "--inventory", driver.url, NULL });
    pool_gpu_list_free(read_snapshot(&program));
    for (size_t i = 0; i < COUNT(kept); i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)program.pid, kept[i]);
        char target[256];
        assert_int_equal(readlink(path, target, sizeof target), -1);
        assert_int_equal(errno, ENOENT);
        close(kept[i]);
    }
    close_end(&program.in);
    assert_int_equal(await_end(&program), 0);
}

static int set_up(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    const char *build = getenv("POOL_BUILD_DIR");
    if (!build)
        return -1;
    snprintf(program_path, sizeof program_path, "%s/bin/pool-gpu-probe", build);
    return fake_driver_start(&driver) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    fake_driver_end(&driver);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_commands),
        cmocka_unit_test(reads_answers),
        cmocka_unit_test(reads_events_as_it_says_them),
        cmocka_unit_test(refuses_nonsense),
        cmocka_unit_test(refuses_more_gpus_than_there_can_be),
        cmocka_unit_test(cuts_lines_out_of_pieces),
        cmocka_unit_test(stops_at_a_line_that_is_too_long),
        cmocka_unit_test(stops_when_told_to),
        cmocka_unit_test(prints_once),
        cmocka_unit_test(tells_of_an_inventory_that_can_not_be_opened),
        cmocka_unit_test(refuses_options),
        cmocka_unit_test(keeps_its_interval),
        cmocka_unit_test(obeys_commands),
        cmocka_unit_test(tells_of_an_inventory_that_becomes_unreadable),
        cmocka_unit_test(ends_when_its_owner_leaves_a_hung_driver),
        cmocka_unit_test(ends_when_nobody_reads_and_the_driver_hangs),
        cmocka_unit_test(keeps_no_descriptor),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
