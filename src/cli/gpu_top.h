/*
 * The live view: what it knows (struct top), and how that looks (gpu_top_view.c, which does no input and output but its
 * FILE). The loop, the keys and the programs that it runs are gpu_top.c's.
 */
#ifndef CLI_GPU_TOP_H
#define CLI_GPU_TOP_H

#include <pool/api.h>

#include "cli/program.h"

/* How workers are ordered. X(name, text) */
#define TOP_SORTS(X)    \
    X(VRAM, "memory")   \
    X(AGE, "age")       \
    X(GPU, "gpu")       \
    X(STATUS, "status") \
    X(ID, "id")

enum top_sort {
#define SORT(name, text) TOP_SORT_##name,
    TOP_SORTS(SORT)
#undef SORT
        TOP_N_SORTS
};

enum top_mode { TOP_WATCHING, TOP_HELP, TOP_ASKING };

struct top {
    struct pool_status_response *status; /* NULL: none came yet; its workers in the order of the view */
    int64_t taken_boottime_ns;           /* when it came */
    int64_t interval_ms;
    enum top_mode mode;
    enum top_sort sort;
    bool is_late;                             /* no answer for longer than there should be */
    char selected[POOL_WORKER_ID_MAX + 1];    /* the worker that keys are about; "": the first one */
    char asked_about[POOL_WORKER_ID_MAX + 1]; /* of TOP_ASKING */
    size_t first_shown;                       /* of the workers that do not all fit; set by the view */
    char message[256];                        /* the last line, "" for the keys */
    bool is_message_bad;
};

/* Puts the workers in order and makes the selection one of them. */
void top_arrange(struct top *top);
/* The selected worker; NULL: there is none. */
const struct pool_worker_info *top_selected(const struct top *top);
void top_move_selection(struct top *top, int by);
/* Its place in the list; 0 when there is none. */
size_t top_index_of_selected(const struct top *top);
/* What a worker holds, or was promised where that is more. */
int64_t top_bytes_of(const struct pool_worker_info *worker);

/**
 * Writes the view: at most `rows` lines, made to fit into the columns of the terminal.
 * @param rows 0: as many as there are
 * false: memory ran out
 */
bool top_print(struct top *top, const struct terminal *terminal, int rows, FILE *file);

#endif
