/*
 * What `dev doctor` looks at. A check looks at one thing of the machine and reports findings: one line each, and how to
 * mend what is not well. Checks change nothing and never end the command: what can not be found out is a finding too.
 */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include "base/json.h"
#include "base/string_list.h"
#include "cli/program.h"

/* X(name, text) */
#define FINDING_LEVELS(X)                                                        \
    X(GOOD, "ok")                                                                \
    X(NOTE, "note")       /* nothing is wrong; something can not be done here */ \
    X(WARNING, "warning") /* works, and will not always, or not well */          \
    X(FAILED, "failed")   /* does not work */

enum finding_level {
#define LEVEL(name, text) FINDING_##name,
    FINDING_LEVELS(LEVEL)
#undef LEVEL
};

struct finding {
    enum finding_level level;
    enum pool_code code; /* of one that failed: what commands would end with */
    const char *check;   /* static */
    const char *fix;     /* static; NULL: there is nothing to do */
};

struct doctor {
    struct cli *cli;
    const struct pool_config *config; /* NULL: it is not valid */
    size_t n_findings;
    struct finding *findings;
    struct string_list texts; /* one a finding */
    char gpu_locks_fix[512];  /* of a finding, which borrows it */
};

typedef void doctor_check(struct doctor *doctor);

void doctor_good(struct doctor *doctor, const char *check, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_note(struct doctor *doctor, const char *check, const char *fix, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void doctor_warn(struct doctor *doctor, const char *check, const char *fix, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void doctor_fail(struct doctor *doctor, const char *check, enum pool_code code, const char *fix,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

/* In doctor_pool.c */
doctor_check doctor_check_config;
doctor_check doctor_check_state;
doctor_check doctor_check_daemon;
doctor_check doctor_check_gpu_locks;
/* In doctor_programs.c */
doctor_check doctor_check_driver;
doctor_check doctor_check_engines;
doctor_check doctor_check_tools;
/* In doctor_machine.c */
doctor_check doctor_check_disk;
doctor_check doctor_check_ports;
doctor_check doctor_check_limits;
doctor_check doctor_check_cgroups;
doctor_check doctor_check_clock;

#endif
