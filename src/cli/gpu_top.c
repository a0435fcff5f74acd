/*
 * rbees-pool gpu top. The pool is asked by this program run again (`status --json`), beside the loop: keys are answered
 * also while a driver hangs. So are stops and logs, which are the commands that a person would type.
 */
#include "cli/gpu_top.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/child_process.h"
#include "cli/commands.h"
#include "cli/gpu_status.h"
#include "cli/screen.h"

#define OWN_PROGRAM "/proc/self/exe"
#define WORDS_MAX   16
#define PAGE        10
#define LATE_MS     5000
#define FAR         1000000
#define INTERVAL_MS 1000

struct gpu_top_arguments {
    struct pool_reading interval_ms;
    bool is_once;
};

/* A command of ours that runs beside the loop. */
struct errand {
    struct child child; /* pidfd -1: none */
    struct child_result result;
};

struct loop {
    struct cli *cli;
    struct top top;
    struct terminal terminal; /* as wide as the screen */
    struct screen screen;
    struct errand asking, stopping;
    int64_t ask_at_ns;
    bool is_over;
};

static const char *variable_of(const struct cli *cli, const char *name)
{
    size_t n = strlen(name);
    for (const char *const *variable = cli->environment; *variable; variable++) {
        if (strncmp(*variable, name, n) == 0 && (*variable)[n] == '=')
            return *variable + n + 1;
    }
    return NULL;
}

/* ---- errands ---- */

/* Our own words first, then what says which pool is meant. */
static void make_words(const struct cli *cli, const char *const *command, const char *words[WORDS_MAX])
{
    const struct cli_globals *globals = &cli->globals;
    size_t n = 0;
    words[n++] = CLI_PROGRAM_NAME;
    while (*command)
        words[n++] = *command++;
    const char *pairs[][2] = { { "--config", globals->config_file },
                               { "--state-dir", globals->state_dir },
                               { "--url", globals->url } };
    for (size_t i = 0; i < CLI_COUNT(pairs); i++) {
        if (!pairs[i][1])
            continue;
        words[n++] = pairs[i][0];
        words[n++] = pairs[i][1];
    }
    if (globals->is_local)
        words[n++] = "--local";
    words[n] = NULL;
}

static enum pool_code begin_errand(const struct cli *cli, struct errand *errand, const char *const *command,
                                   struct pool_error *err)
{
    const char *words[WORDS_MAX];
    make_words(cli, command, words);
    strbuf_reset(&errand->result.out);
    strbuf_reset(&errand->result.err);
    struct child_options options = { .program = OWN_PROGRAM, .argv = words, .environment = cli->environment };
    return child_begin(&options, &errand->child, err);
}

static bool is_under_way(const struct errand *errand)
{
    return errand->child.pidfd >= 0;
}

static bool has_ended(const struct errand *errand)
{
    struct pollfd end = { .fd = errand->child.pidfd, .events = POLLIN };
    return is_under_way(errand) && poll(&end, 1, 0) > 0;
}

static void errand_done(struct errand *errand)
{
    child_done(&errand->child);
    child_result_done(&errand->result);
}

/* What it said, an error as the code and message that it carries. */
static enum pool_code finish_errand(struct errand *errand, struct pool_error *err)
{
    struct pool_error told = POOL_ERROR_INIT;
    enum pool_code code = child_take_end(&errand->child, &errand->result, err);
    child_done(&errand->child);
    if (code != POOL_OK || (!errand->result.is_signal && errand->result.value == 0))
        return code;
    const struct strbuf *out = &errand->result.out;
    if (pool_error_decode(strbuf_text(out), out->n, &told, NULL) != POOL_OK)
        return pool_error_set(err, POOL_INTERNAL, "asking the pool ended with %s %d",
                              errand->result.is_signal ? "signal" : "status", errand->result.value);
    *err = told;
    return told.code;
}

/* ---- messages ---- */

static void say(struct top *top, bool is_bad, const char *text)
{
    snprintf(top->message, sizeof top->message, "%.200s", text);
    top->is_message_bad = is_bad;
}

static void say_error(struct top *top, const struct pool_error *error)
{
    char text[POOL_ERROR_MESSAGE_MAX + 64];
    snprintf(text, sizeof text, "%s: %s", pool_code_name(error->code), error->message);
    say(top, true, text);
}

/* ---- asking ---- */

static void take_answer(struct loop *loop)
{
    struct top *top = &loop->top;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_status_response *status = NULL;
    enum pool_code code = finish_errand(&loop->asking, &error);
    if (code == POOL_OK)
        code = pool_status_response_decode(strbuf_text(&loop->asking.result.out), loop->asking.result.out.n,
                                           &status, &error);
    loop->ask_at_ns = clock_boottime_ns() + top->interval_ms * NS_PER_MS;
    if (code != POOL_OK) {
        say_error(top, &error);
        return;
    }
    if (top->is_message_bad)
        say(top, false, "");
    pool_status_response_free(top->status);
    top->status = status;
    top->taken_boottime_ns = clock_boottime_ns();
    top_arrange(top);
}

static void take_stop(struct loop *loop)
{
    struct pool_error error = POOL_ERROR_INIT;
    char text[160];
    if (finish_errand(&loop->stopping, &error) == POOL_OK) {
        snprintf(text, sizeof text, "stopped worker %s", loop->top.asked_about);
        say(&loop->top, false, text);
    } else {
        say_error(&loop->top, &error);
    }
    loop->ask_at_ns = 0;
}

static void run_errands(struct loop *loop)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (is_under_way(&loop->asking)) {
        child_take_output(&loop->asking.child, &loop->asking.result);
        if (has_ended(&loop->asking))
            take_answer(loop);
    }
    if (is_under_way(&loop->stopping)) {
        child_take_output(&loop->stopping.child, &loop->stopping.result);
        if (has_ended(&loop->stopping))
            take_stop(loop);
    }
    if (!is_under_way(&loop->asking) && clock_boottime_ns() >= loop->ask_at_ns) {
        static const char *const words[] = { "status", "--json", NULL };
        if (begin_errand(loop->cli, &loop->asking, words, &error) != POOL_OK) {
            say_error(&loop->top, &error);
            loop->ask_at_ns = clock_boottime_ns() + loop->top.interval_ms * NS_PER_MS;
        }
    }
    loop->top.is_late =
        loop->top.status && is_under_way(&loop->asking) &&
        clock_boottime_ns() - loop->top.taken_boottime_ns > (LATE_MS + loop->top.interval_ms) * NS_PER_MS;
}

/* ---- keys ---- */

static void stop_asked(struct loop *loop)
{
    struct pool_error error = POOL_ERROR_INIT;
    char text[160];
    const char *words[] = { "worker", "stop", "--json", loop->top.asked_about, NULL };
    if (is_under_way(&loop->stopping)) {
        say(&loop->top, true, "another one is being stopped");
        return;
    }
    snprintf(text, sizeof text, "stopping worker %s", loop->top.asked_about);
    say(&loop->top, false, text);
    if (begin_errand(loop->cli, &loop->stopping, words, &error) != POOL_OK)
        say_error(&loop->top, &error);
}

/* The log has the terminal until it ends, by itself or by Ctrl-C. */
static void follow_log(struct loop *loop, const char *worker_id)
{
    const char *words[WORDS_MAX];
    const char *command[] = { "worker", "logs", worker_id, "--follow", "--tail", "200", NULL };
    CLEANUP(child_result_done) struct child_result result = CHILD_RESULT_INIT;
    struct pool_error error = POOL_ERROR_INIT;
    make_words(loop->cli, command, words);
    struct child_options options = { .program = OWN_PROGRAM,
                                     .argv = words,
                                     .environment = loop->cli->environment,
                                     .is_interactive = true,
                                     .is_shown = true };
    screen_suspend(&loop->screen);
    enum pool_code code = child_run(&options, &result, &error);
    screen_resume(&loop->screen);
    if (code != POOL_OK)
        say_error(&loop->top, &error);
    else
        say(&loop->top, false, "");
    loop->ask_at_ns = 0;
}

static void ask_to_stop(struct top *top)
{
    const struct pool_worker_info *worker = top_selected(top);
    if (!worker)
        return;
    snprintf(top->asked_about, sizeof top->asked_about, "%s", worker->worker_id);
    top->mode = TOP_ASKING;
}

static void take_command_key(struct loop *loop, uint32_t key)
{
    struct top *top = &loop->top;
    const struct pool_worker_info *worker = top_selected(top);
    switch (key) {
    case 'q':
    case 'Q': loop->is_over = true; break;
    case 'h':
    case '?': top->mode = TOP_HELP; break;
    case 's':
        top->sort = (enum top_sort)((top->sort + 1) % TOP_N_SORTS);
        top_arrange(top);
        break;
    case 'x': ask_to_stop(top); break;
    case 'l':
        if (worker)
            follow_log(loop, worker->worker_id);
        break;
    case 'k':
    case SCREEN_KEY_UP: top_move_selection(top, -1); break;
    case 'j':
    case SCREEN_KEY_DOWN: top_move_selection(top, 1); break;
    case SCREEN_KEY_PAGE_UP: top_move_selection(top, -PAGE); break;
    case SCREEN_KEY_PAGE_DOWN: top_move_selection(top, PAGE); break;
    case SCREEN_KEY_HOME: top_move_selection(top, -FAR); break;
    case SCREEN_KEY_END: top_move_selection(top, FAR); break;
    default: break;
    }
}

static void take_key(struct loop *loop, uint32_t key)
{
    struct top *top = &loop->top;
    if (key == SCREEN_KEY_QUIT) {
        loop->is_over = true;
    } else if (key == SCREEN_KEY_NONE || key == SCREEN_KEY_RESIZED) {
        return;
    } else if (top->mode == TOP_HELP) {
        top->mode = TOP_WATCHING;
    } else if (top->mode == TOP_ASKING) {
        top->mode = TOP_WATCHING;
        if (key == 'y' || key == 'Y')
            stop_asked(loop);
    } else {
        take_command_key(loop, key);
    }
}

/* ---- drawing ---- */

static bool draw(struct loop *loop)
{
    CLEANUP_FREE char *text = NULL;
    size_t n = 0;
    loop->terminal.columns =
        loop->screen.columns > SCREEN_COLUMNS_MIN ? loop->screen.columns : SCREEN_COLUMNS_MIN;
    int rows = loop->screen.rows > SCREEN_ROWS_MIN ? loop->screen.rows : SCREEN_ROWS_MIN;
    FILE *file = open_memstream(&text, &n);
    if (!file)
        return false;
    bool is_printed = top_print(&loop->top, &loop->terminal, rows, file);
    if (fclose(file) != 0 || !is_printed)
        return false;
    return screen_draw(&loop->screen, text);
}

static size_t find_descriptors(const struct loop *loop, int fds[SCREEN_FDS_MAX])
{
    const int all[] = {
        loop->asking.child.pidfd,   loop->asking.child.out_fd,   loop->asking.child.err_fd,
        loop->stopping.child.pidfd, loop->stopping.child.out_fd, loop->stopping.child.err_fd
    };
    size_t n = 0;
    for (size_t i = 0; i < CLI_COUNT(all); i++) {
        if (all[i] >= 0)
            fds[n++] = all[i];
    }
    return n;
}

static int64_t next_moment(const struct loop *loop)
{
    int64_t second_ns = clock_boottime_ns() + NS_PER_SEC; /* ages grow */
    return !is_under_way(&loop->asking) && loop->ask_at_ns < second_ns ? loop->ask_at_ns : second_ns;
}

static enum pool_code watch(struct loop *loop, struct pool_error *err)
{
    enum pool_code code = screen_open(&loop->screen, variable_of(loop->cli, "TERM"), err);
    while (code == POOL_OK && !loop->is_over) {
        int fds[SCREEN_FDS_MAX];
        run_errands(loop);
        if (!draw(loop))
            break; /* nobody looks any more */
        size_t n = find_descriptors(loop, fds);
        take_key(loop, screen_wait(&loop->screen, fds, n, next_moment(loop)));
    }
    screen_close(&loop->screen);
    return code;
}

/* ---- the command ---- */

static enum pool_code print_once(struct cli *cli, struct top *top, struct pool_error *err)
{
    struct terminal terminal = cli->terminal;
    enum pool_code code = get_status(cli, &top->status, err);
    if (code != POOL_OK)
        return code;
    if (terminal.columns == 0)
        terminal.columns = 80;
    top_arrange(top);
    top->selected[0] = '\0';
    return top_print(top, &terminal, 0, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code run_top(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct gpu_top_arguments *arguments = data;
    struct loop loop = { .cli = cli,
                         .terminal = cli->terminal,
                         .screen = SCREEN_INIT,
                         .asking = { CHILD_INIT, CHILD_RESULT_INIT },
                         .stopping = { CHILD_INIT, CHILD_RESULT_INIT } };
    loop.top.interval_ms = arguments->interval_ms.is_present ? arguments->interval_ms.value : INTERVAL_MS;
    if (cli->globals.is_json) {
        pool_error_set(err, POOL_INVALID_REQUEST, "a live view has no JSON; 'status --json' is for programs");
        pool_error_set_field(err, "json");
        return POOL_INVALID_REQUEST;
    }
    enum pool_code code = arguments->is_once ? print_once(cli, &loop.top, err) : watch(&loop, err);
    errand_done(&loop.asking);
    errand_done(&loop.stopping);
    pool_status_response_free(loop.top.status);
    return code;
}

#define AT(field) .offset = offsetof(struct gpu_top_arguments, field)

static const struct cli_option options[] = {
    { .name = "interval",
      .letter = 'd',
      .value = CLI_INTEGER,
      .unit = "MS",
      AT(interval_ms),
      .min = 100,
      .max = 3600000,
      .default_text = "1000",
      .summary = "Time between two looks" },
    { .name = "once", .letter = '1', AT(is_once), .summary = "Print it a single time, for any output" },
};
static const char *const examples[] = { "rbees-pool gpu top", "rbees-pool gpu top --once" };

const struct cli_command gpu_top_command = {
    .path = "gpu top",
    .summary = "Watch the GPUs and the workers",
    .description = "Shows the memory of each GPU and of the host as a bar: observed (held by our workers), "
                   "promised (theirs, not "
                   "taken yet), foreign (held by others) and free; and the workers. Keys: Up and Down choose "
                   "a worker, s sorts, x "
                   "stops it after asking, l follows its log until Ctrl-C, h explains, q quits. It needs a "
                   "terminal of 80 columns "
                   "to be pleasant, no colours; a driver that hangs does not hang it.",
    CLI_OPTIONS(options),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct gpu_top_arguments),
    .run = run_top,
};
