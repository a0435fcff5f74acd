/*
 * Processes: identity (pid, start time, boot, pid namespace), liveness through pidfds, the last words of one that
 * ended, and what /proc shows of a process tree. A bare pid is never acted upon.
 */
#ifndef LIFECYCLE_PROCESS_H
#define LIFECYCLE_PROCESS_H

#include <pool/lifecycle.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The fields of /proc/PID/stat that we use; proc(5). */
struct process_stat {
    int64_t pid;
    char state; /* 'Z' for a zombie */
    int64_t ppid;
    int64_t process_group;
    int64_t session;
    int64_t start_time_ticks;
    bool is_exit_code_known; /* the kernel shows it only to who may trace the process */
    int exit_status;         /* a wait status word */
};

/* Parses a stat line of n bytes. The name in it may hold spaces and parentheses. false when it is none. */
bool process_stat_parse(const char *line, size_t n, struct process_stat *ret_stat);
/* Reads /proc/PID/stat. 0 or an errno. */
int process_stat_read(int64_t pid, struct process_stat *ret_stat);

/* This boot and this pid namespace; they do not change while a process lives. */
struct host_identity {
    char boot_id[37];
    uint64_t pid_namespace;
};
/* 0 or an errno. */
int host_identity_read(struct host_identity *ret_host);

/* Fills the identity of a process that is ours to hold (an unreaped child, or one whose pidfd is open). */
int process_identify(const struct host_identity *host, int64_t pid, int pidfd,
                     struct pool_process_identity *ret_identity);

enum process_state {
    PROCESS_RUNNING,
    PROCESS_ENDED,   /* not there, another one has its pid, or a zombie */
    PROCESS_UNKNOWN, /* of another pid namespace: it can not be told from here */
};

/*
 * Opens the process of an identity and says whether it runs. *ret_pidfd is set when it runs or is a zombie, -1
 * otherwise; the caller closes it.
 */
enum process_state process_open(const struct host_identity *host,
                                const struct pool_process_identity *identity, int *ret_pidfd);
/* Whether a pidfd is readable: its process has ended. */
bool pidfd_has_ended(int pidfd);
/* Waits for the end, at most timeout_ms, or until cancel_fd (may be -1) is readable. */
enum pidfd_wait { PIDFD_ENDED, PIDFD_TIMEOUT, PIDFD_CANCELLED };
enum pidfd_wait pidfd_wait(int pidfd, int cancel_fd, int64_t timeout_ms);

/* From a wait status word. */
struct pool_process_end process_end_of_status(int status);
/*
 * The end of an ended process: reaps it when it is our child, else asks the kernel (PIDFD_GET_INFO, from 6.15),
 * else the zombie's line in /proc. Not known when nobody can tell.
 */
struct pool_process_end process_end_read(int pidfd, int64_t pid);

/*
 * Starts a program: a session of its own, default signals, an empty mask, standard input from /dev/null, output and
 * errors to out_fd, and no other descriptor. Returns when the program runs. 0 or an errno (also that of the exec).
 */
int process_spawn(char *const *argv, char *const *environment, int out_fd, pid_t *ret_pid);
/* The same with one more descriptor, which the program has as 3 and need not know of; kept_fd -1: none. */
int process_spawn_keeping(char *const *argv, char *const *environment, int out_fd, int kept_fd,
                          pid_t *ret_pid);

/* 0 or an errno. */
int pidfd_signal(int pidfd, int signal_number);

/* The processes of a worker, as far as /proc shows them. */
struct process_set {
    size_t n;
    size_t capacity;
    pid_t *pids;
};
void process_set_done(struct process_set *set);
bool process_set_add(struct process_set *set, pid_t pid);
bool process_set_has(const struct process_set *set, pid_t pid);

/* What makes a process one of a worker's; any of it is enough, what is 0 or NULL is not asked. */
struct process_tree_query {
    pid_t root; /* it, its descendants and its session; only for a main process that is proven to be there */
    dev_t log_device;
    ino_t log_inode;      /* holds the lock on this file: it has the open file that the worker inherited */
    const char *state_id; /* all three in its environment as it was at its exec */
    const char *worker_id;
    int64_t start_id; /* created_boottime_ns of the start */
    int64_t
        not_before_ticks; /* what was started before can not belong to it, and is not looked at; 0: nobody knows */
};
/* Adds every process of this host that matches. A process that is closed to us does not. 0 or an errno. */
/* Whether the ids of a query are in a process's environment. */
bool process_has_ids(pid_t pid, const struct process_tree_query *query);
int process_tree_find(const struct process_tree_query *query, struct process_set *set);
/* Whether one process belongs to a tree: itself, by session or by its parents. No scan. */
bool process_is_in_tree(pid_t pid, pid_t root);
/*
 * Whether a process holds the lock on a file: not whoever has the file open (a reader of the log is a stranger), but who
 * shares the open file that is locked. *ret_is_known false: its descriptors are closed to us.
 */
bool process_has_lock(pid_t pid, dev_t device, ino_t inode, bool *ret_is_known);
/* Whether a process holds the socket with this inode. */
bool process_has_socket(pid_t pid, uint64_t socket_inode);
/* A variable of a process's environment as it was at its exec; owned by the caller, NULL when it can not be told. */
char *process_environment_value(pid_t pid, const char *name);

#endif
