/*
 * Settling: making the registry agree with the kernel. Every row is looked at through its log's lock and its
 * process; what ended moves to the history, half-made starts are finished or undone, workers that became ready
 * are recorded. Looking takes no lock; changing does, and looks again under it.
 *
 *   log lock   main process   pid recorded   verdict
 *   held       runs           yes            alive
 *   held       ended          yes            others of its tree are left: stopping, they are named
 *   held       –              no             half-made: its process is found and recorded
 *   free       runs           yes            alive (it closed its output)
 *   free       ended          yes            gone
 *   free       –              no             half-made and never spawned: undone
 *   missing    runs           yes            alive
 *   missing    ended          yes            as with a log that is held or free: its environment tells of others
 *   missing    –              no             undone
 *
 * A worker whose stop was begun and whose grace is over is killed by whoever comes and is no daemon, which does so by itself:
 * its stopper may have been killed, interrupted, or not have waited.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/lifecycle/crash.h"
#include "core/lifecycle/explain.h"
#include "core/lifecycle/log_files.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/presence.h"
#include "core/lifecycle/release.h"
#include "core/lifecycle/spawn_token.h"
#include "core/lifecycle/start_record.h"
#include "core/lifecycle/worker_log.h"

enum verdict {
    VERDICT_KEEP,
    VERDICT_GONE,      /* no process of it is left */
    VERDICT_LEFTOVERS, /* its main process ended, others hold its log */
    VERDICT_FIND,      /* a start that was interrupted after its spawn */
    VERDICT_UNDO,      /* a start that was interrupted before its spawn */
    VERDICT_READY,     /* it answered: to be recorded */
    VERDICT_KILL,      /* the grace of its stop is over */
};

struct finding {
    enum verdict verdict;
    struct pool_process_end end;
    enum pool_port_proof proof;
};

static enum verdict alive_verdict(const struct pool_manager *manager, const struct pool_worker_info *worker)
{
    return !manager->is_daemon && stop_is_late(worker) ? VERDICT_KILL : VERDICT_KEEP;
}

static struct finding look_at(const struct pool_manager *manager, const struct pool_worker_info *worker)
{
    struct finding finding = { .verdict = VERDICT_KEEP };
    enum worker_log_state log = worker_log_of(worker, NULL, NULL);
    if (worker->process.pid == 0) {
        bool is_there = log == WORKER_LOG_HELD || worker_has_processes(manager, worker);
        finding.verdict = is_there ? VERDICT_FIND : VERDICT_UNDO;
        return finding;
    }
    CLEANUP_CLOSE int pidfd = -1;
    enum process_state state = process_open(&manager->host, &worker->process, &pidfd);
    if (state == PROCESS_RUNNING || (state == PROCESS_UNKNOWN && log != WORKER_LOG_FREE)) {
        finding.verdict = alive_verdict(manager, worker);
        return finding;
    }
    if (pidfd >= 0)
        finding.end = process_end_read(pidfd, worker->process.pid);
    /* A free lock alone does not say that all are gone: an engine that made itself a daemon has closed its output. */
    bool is_this_boot = strcmp(worker->process.boot_id, manager->host.boot_id) == 0;
    if (log == WORKER_LOG_HELD || (is_this_boot && worker_has_processes(manager, worker)))
        /* already known: nothing new to record */
        finding.verdict =
            worker->status == POOL_WORKER_STOPPING ? alive_verdict(manager, worker) : VERDICT_LEFTOVERS;
    else
        finding.verdict = VERDICT_GONE;
    return finding;
}

static struct pool_reading reading(bool is_present, int64_t value)
{
    return (struct pool_reading){ is_present, is_present ? value : 0 };
}

static void set_end(struct pool_worker_info *worker, struct pool_process_end end)
{
    if (!end.is_known)
        return;
    worker->exit_code = reading(!end.is_signal, end.value);
    worker->exit_signal = reading(end.is_signal, end.value);
}

enum pool_code settle_gone(struct pool_manager *manager, struct pool_worker_info *worker,
                           enum pool_stop_reason reason, struct pool_process_end end, struct pool_error *err)
{
    enum pool_worker_status next;
    enum pool_code code = pool_worker_transition(worker->status, POOL_EVENT_GONE, &next, err);
    if (code != POOL_OK)
        return code;
    worker->status = next;
    if (worker->stop_reason == POOL_STOP_NONE)
        worker->stop_reason = reason;
    set_end(worker, end);
    free(worker->stop_phase);
    worker->stop_phase = NULL;
    worker->stopped_wall_ms = clock_wall_ms();
    CLEANUP(free_explanation) struct pool_explanation *explanation = explain_gone(manager, worker);
    /* Before the row goes: who is killed between the two leaves both for the next one to settle. */
    bool is_noted = crash_note(manager, worker, explanation ? explanation->record_id : NULL);
    promise_remove(manager, worker);
    CLEANUP_FREE char *leaving = NULL; /* not known: the next sweep finds its log */
    (void)!pool_worker_registry_first_to_leave(manager->registry, &leaving, NULL);
    code = pool_worker_registry_unregister(manager->registry, worker, err);
    if (code == POOL_INSUFFICIENT_DISK && is_noted) {
        crash_take_back(manager, worker);
        code = pool_worker_registry_unregister(manager->registry, worker, err);
    }
    if (code != POOL_OK)
        return code;
    cgroup_remove(&manager->cgroups, worker);
    start_record_remove(worker);
    explain_keep(manager, take_ptr(&explanation));
    release_begin(manager, worker);
    log_files_follow(manager, leaving);
    return POOL_OK;
}

bool is_same_start(const struct pool_worker_info *a, const struct pool_worker_info *b)
{
    return strcmp(a->worker_id, b->worker_id) == 0 && a->created_boottime_ns == b->created_boottime_ns &&
           a->created_wall_ms == b->created_wall_ms;
}

int worker_processes_find(const struct pool_manager *manager, const struct pool_worker_info *worker,
                          struct process_set *set)
{
    struct process_tree_query query = { .state_id = manager->state.state_id,
                                        .worker_id = worker->worker_id,
                                        .start_id = worker->created_boottime_ns };
    CLEANUP_CLOSE int pidfd = -1;
    process_open(&manager->host, &worker->process, &pidfd);
    if (strcmp(worker->process.boot_id, manager->host.boot_id) == 0)
        query.not_before_ticks = worker->process.start_time_ticks;
    if (pidfd >= 0) /* running or a zombie: its pid can not be anybody else's */
        query.root = (pid_t)worker->process.pid;
    /* Where the lock is free nobody has it, and nobody can get it any more: no need to look into every descriptor. */
    if (worker_log_of(worker, &query.log_device, &query.log_inode) != WORKER_LOG_HELD)
        query.log_inode = 0;
    int failure = process_tree_find(&query, set);
    return !failure && !cgroup_find(&manager->cgroups, worker, set) ? ENOMEM : failure;
}

bool worker_has_processes(const struct pool_manager *manager, const struct pool_worker_info *worker)
{
    CLEANUP(process_set_done) struct process_set set = { 0 };
    return worker_processes_find(manager, worker, &set) != 0 || set.n > 0;
}

static bool set_text(char **field, const char *text)
{
    char *copy = strdup(text);
    if (copy) {
        free(*field);
        *field = copy;
    }
    return copy;
}

static enum pool_code record_leftovers(struct pool_manager *manager, struct pool_worker_info *worker,
                                       struct pool_process_end end, struct pool_error *err)
{
    CLEANUP(process_set_done) struct process_set set = { 0 };
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(512);
    worker_processes_find(manager, worker, &set);
    strbuf_add_text(&text, "main process ended, left over:");
    for (size_t i = 0; i < set.n && i < 16; i++)
        strbuf_printf(&text, " %d", set.pids[i]);
    enum pool_code code =
        pool_worker_transition(worker->status, POOL_EVENT_MAIN_EXITED, &worker->status, err);
    if (code != POOL_OK)
        return code;
    worker->is_healthy = false;
    if (worker->stop_reason == POOL_STOP_NONE)
        worker->stop_reason = POOL_STOP_LOST;
    set_end(worker, end);
    if (!set_text(&worker->health_reason, strbuf_text(&text)))
        return pool_error_no_memory(err);
    return pool_worker_registry_update(manager->registry, worker, err);
}

/*
 * A start whose starter died between spawn and record. Its process is the one that leads a session, has our ids in
 * its environment and holds the log. Right after vfork it can not be told yet (its memory is still the starter's), so
 * it is looked for again for a moment; should it not be found, the row stays and the next command looks again.
 */
#define FIND_TRIES    20
#define FIND_PAUSE_NS (10 * NS_PER_MS)

static bool is_main_process(const struct process_tree_query *ids, pid_t pid)
{
    struct process_stat stat;
    return process_stat_read(pid, &stat) == 0 && stat.session == pid && process_has_ids(pid, ids);
}

static enum pool_code find_process(struct pool_manager *manager, struct pool_worker_info *worker,
                                   struct pool_error *err)
{
    struct process_tree_query query = { .state_id = manager->state.state_id,
                                        .worker_id = worker->worker_id,
                                        .start_id = worker->created_boottime_ns };
    for (int try = 0; try < FIND_TRIES; try++) {
        CLEANUP(process_set_done) struct process_set set = { 0 };
        enum worker_log_state log = worker_log_of(worker, &query.log_device, &query.log_inode);
        if (log == WORKER_LOG_MISSING)
            query.log_inode = 0;
        if (process_tree_find(&query, &set) == ENOMEM)
            return pool_error_no_memory(err);
        if (set.n == 0 && log != WORKER_LOG_HELD)
            return settle_gone(manager, worker, POOL_STOP_START_FAILED, (struct pool_process_end){ 0 }, err);
        for (size_t i = 0; i < set.n; i++) {
            if (!is_main_process(&query, set.pids[i]))
                continue;
            CLEANUP_CLOSE int pidfd = pidfd_open(set.pids[i], 0);
            if (pidfd < 0 || !is_main_process(&query, set.pids[i]) ||
                process_identify(&manager->host, set.pids[i], pidfd, &worker->process) != 0)
                continue;
            promise_update(manager, worker);
            return pool_worker_registry_update(manager->registry, worker, err);
        }
        clock_pause_ns(FIND_PAUSE_NS);
    }
    return POOL_OK;
}

static enum pool_code kill_late(struct pool_manager *manager, struct pool_worker_info *worker,
                                struct pool_error *err)
{
    stop_kill(manager, worker);
    if (worker->stop_phase && strcmp(worker->stop_phase, "kill") == 0)
        return POOL_OK;
    if (!set_text(&worker->stop_phase, "kill"))
        return pool_error_no_memory(err);
    return pool_worker_registry_update(manager->registry, worker, err);
}

/* Applies a finding to a row that was read under the lock. */
static enum pool_code apply(struct pool_manager *manager, struct pool_worker_info *worker,
                            struct finding finding, struct pool_error *err)
{
    switch (finding.verdict) {
    case VERDICT_KEEP: return POOL_OK;
    case VERDICT_GONE: return settle_gone(manager, worker, POOL_STOP_LOST, finding.end, err);
    case VERDICT_UNDO: return settle_gone(manager, worker, POOL_STOP_START_FAILED, finding.end, err);
    case VERDICT_LEFTOVERS: return record_leftovers(manager, worker, finding.end, err);
    case VERDICT_KILL: return kill_late(manager, worker, err);
    case VERDICT_FIND: return find_process(manager, worker, err);
    case VERDICT_READY: {
        enum pool_code code =
            pool_worker_transition(worker->status, POOL_EVENT_READY_PROVEN, &worker->status, err);
        if (code != POOL_OK)
            return code;
        ready_set(worker, finding.proof);
        promise_update(manager, worker);
        return pool_worker_registry_update(manager->registry, worker, err);
    }
    }
    return POOL_OK;
}

enum pool_code settle_locked(struct pool_manager *manager, struct pool_worker_list **ret_list,
                             struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *list = NULL;
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &list, err);
    bool is_changed = false;
    /* A daemon sees every end itself, and how it came about; it settles once, at its start. */
    for (size_t i = 0; code == POOL_OK && !manager->is_daemon && i < list->n_workers; i++) {
        struct finding finding = look_at(manager, list->workers[i]);
        is_changed = is_changed || finding.verdict != VERDICT_KEEP;
        code = apply(manager, list->workers[i], finding, err);
    }
    if (code == POOL_OK && is_changed) {
        pool_worker_list_free(take_ptr(&list));
        code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &list, err);
    }
    if (code != POOL_OK)
        return code;
    *ret_list = take_ptr(&list);
    return POOL_OK;
}

/* ---- for commands that look ---- */

static bool is_startable(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_SPAWNING && worker->process.pid != 0 && worker->ready_path &&
           !spawn_token_is_awaited(worker);
}

static enum pool_code probe_spawning(struct pool_manager *manager, const struct pool_worker_list *list,
                                     struct finding *findings, struct pool_error *err)
{
    size_t n = list->n_workers;
    CLEANUP_FREE size_t *at = calloc(n + 1, sizeof *at);
    CLEANUP_FREE bool *is_ready = calloc(n + 1, sizeof *is_ready);
    CLEANUP_FREE enum pool_port_proof *proofs = calloc(n + 1, sizeof *proofs);
    CLEANUP_FREE struct pool_worker_info **starting = calloc(n + 1, sizeof(struct pool_worker_info *));
    if (!at || !is_ready || !proofs || !starting)
        return pool_error_no_memory(err);
    struct pool_worker_list subset = { .workers = starting };
    for (size_t i = 0; i < n; i++) {
        if (findings[i].verdict == VERDICT_KEEP && is_startable(list->workers[i])) {
            at[subset.n_workers] = i;
            starting[subset.n_workers++] = list->workers[i];
        }
    }
    if (subset.n_workers == 0)
        return POOL_OK;
    ready_probe_all(&subset, POOL_SETTLE_PROBE_MAX_MS, is_ready, proofs);
    presence_sift(manager, &subset, is_ready);
    for (size_t i = 0; i < subset.n_workers; i++) {
        if (is_ready[i])
            findings[at[i]] = (struct finding){ .verdict = VERDICT_READY, .proof = proofs[i] };
    }
    return POOL_OK;
}

/* Under the lock: the row as it is now gets what was found, unless it changed since (then it is looked at anew). */
static enum pool_code apply_one(struct pool_manager *manager, const struct pool_worker_info *seen,
                                struct finding finding, struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = pool_worker_registry_get(manager->registry, seen->worker_id, &worker, err);
    if (code == POOL_WORKER_NOT_FOUND)
        return POOL_OK;
    if (code != POOL_OK || worker->status == POOL_WORKER_STOPPED || !is_same_start(worker, seen))
        return code;
    if (worker->revision != seen->revision || finding.verdict != VERDICT_READY) {
        struct pool_process_end end = finding.end;
        finding = look_at(manager, worker);
        /* The first look reaped it when it was our child; nobody can be asked for its end any more. */
        if (!finding.end.is_known && worker->process.pid == seen->process.pid &&
            worker->process.start_time_ticks == seen->process.start_time_ticks)
            finding.end = end;
    }
    return apply(manager, worker, finding, err);
}

enum pool_code settle(struct pool_manager *manager, bool is_probing, struct pool_worker_list **list,
                      struct pool_error *err)
{
    size_t n = (*list)->n_workers;
    CLEANUP_FREE struct finding *findings = calloc(n + 1, sizeof *findings);
    if (!findings)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < n; i++)
        findings[i] = look_at(manager, (*list)->workers[i]);
    enum pool_code code = is_probing ? probe_spawning(manager, *list, findings, err) : POOL_OK;
    bool is_changed = false;
    for (size_t i = 0; i < n; i++)
        is_changed = is_changed || findings[i].verdict != VERDICT_KEEP;
    if (code != POOL_OK || !is_changed)
        return code;
    code = manager_lock(manager, err);
    for (size_t i = 0; code == POOL_OK && i < n; i++) {
        if (findings[i].verdict != VERDICT_KEEP)
            code = apply_one(manager, (*list)->workers[i], findings[i], err);
    }
    state_dir_unlock(&manager->state);
    if (code == POOL_INSUFFICIENT_DISK) {
        /* What was found can not be recorded now; the next command finds it again. To look is still possible. */
        manager_add_notice(manager, "the disk is full: what happened to workers could not be recorded");
        return POOL_OK;
    }
    if (code != POOL_OK)
        return code;
    struct pool_worker_list *settled;
    code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &settled, err);
    if (code != POOL_OK)
        return code;
    pool_worker_list_free(*list);
    *list = settled;
    return POOL_OK;
}
