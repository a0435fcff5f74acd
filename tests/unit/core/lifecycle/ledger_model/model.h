/*
 * The ledger against a model of it: what the parts share. The world of the model is the truth (truth.h); what the driver says of
 * it may be a lie (driver.c); what the ledger has to make of what it is told are a few sums (sums.c), and what it does is compared
 * with them (checks.c). What happens is in steps.c, ends.c and queue.c.
 */
#ifndef LEDGER_MODEL_H
#define LEDGER_MODEL_H

#include "manager_ground.h"

#include <inttypes.h>

#define MODEL_WORKERS_MAX 20
#define MODEL_HEADROOM    (64 * GROUND_MIB)
#define MODEL_WAYS        3 /* of starting a worker: what it takes is learned for each, and for each product */

/* Two plain devices, one in MIG mode, and the two instances of that. In the order in which NVML lists them. */
enum { DEVICE_A, DEVICE_B, DEVICE_MIG, DEVICE_M0, DEVICE_M1, N_DEVICES };
#define N_PLAIN 2

/*
 * What a driver may do to what it tells of a device, and what the ledger promises then. `told` is what it says, and everywhere the
 * sums hold to the byte with what is told: a start is made when its need is at most told free - promised and, as told, not taken
 * - headroom. What the truth may suffer by that is never more than the lie: the excess of told over true free bytes, and of told
 * over true bytes of the workers (checks.c, check_not_overcommitted).
 */
enum lie {
    LIE_NONE,
    LIE_FREE_LOW,  /* less free than there is: starts are refused, none is made that should not be */
    LIE_FREE_HIGH, /* more, in figures that fit together: it is believed, and short by the lie at most */
    LIE_FIGURES,   /* figures that contradict each other: nothing is started there */
    LIE_STALE, /* everything as it was some time ago: who was started since has all of his reserve to come */
    LIE_BYTES_UNSAID, /* processes without their bytes: nothing taken before ready, then the drop in free memory or the reserve */
    LIE_BYTES_ABSURD, /* more bytes than the device has: as unsaid */
    LIE_BYTES_HIGH,   /* more than they hold: it is believed */
    LIE_BYTES_LOW,    /* less than they hold: that much is kept free for nothing */
    LIE_ONE_MISSING,  /* a process is not listed: all of its reserve is to come */
    LIE_NO_LIST,      /* no list of processes: as unsaid */
    LIE_LOST,         /* the device is lost: nothing is started there, its promises stand until it is back */
    LIE_NO_MEMORY,    /* an error in place of its memory: nothing is started there */
    N_LIES
};
/* Of the whole driver. */
enum fault { FAULT_NONE, FAULT_NO_COUNT, FAULT_NO_DRIVER, FAULT_SLOW, N_FAULTS };

struct holding {
    int64_t pid, bytes;
};
#define HOLDINGS_MAX 96

struct device {
    const char *uuid, *section;
    int64_t total_bytes, reserved_bytes; /* reserved: by the driver for itself */
    int product;                         /* same product, same learned use */
    bool is_placeable, is_mig;
    size_t n_holdings; /* the truth */
    struct holding holdings[HOLDINGS_MAX];
    int64_t foreign_bytes;
    enum lie lie;
    int64_t lie_bytes;
    size_t n_stale;
    struct holding stale[HOLDINGS_MAX];
};

/* A device as the library is told of it, after NVML's reader has judged it. */
struct view {
    bool is_there, is_usable, is_listed; /* is_listed: there is a list of processes */
    int64_t total_bytes, free_bytes, used_bytes;
    size_t n_entries;
    struct holding entries[HOLDINGS_MAX]; /* bytes < 0: not said */
};

struct worker {
    bool is_there, is_ready, is_queued, is_ending, is_split;
    bool may_go; /* has the label that a displacing request names */
    char id[32];
    int64_t pid, created_ns, free_before_bytes, queue_position;
    int way;
    int64_t reserved_bytes, peak_bytes, observed_bytes; /* as recorded; -1: none yet */
    int64_t share_bytes[N_DEVICES];
    struct asked {
        int64_t bytes; /* < 0: not said */
        int device;    /* < 0: any */
        int weights[2];
        bool is_displacing;
        bool has_displaced;
    } asked;
};

/* Of an ended worker, until the library's own note of it goes. */
struct release {
    int device;
    int64_t pid, held_bytes, ended_ns;
};
#define RELEASES_KEPT_MAX 200

/* MODE_DAEMON queues nothing. */
enum mode { MODE_COMMAND, MODE_DAEMON, MODE_QUEUE, N_MODES };

/* Everything that can happen, and is counted; how many steps have to go by before it must have. */
// clang-format off
#define MODEL_EVENTS(X) \
    X(STARTED, 600) X(STARTED_ON_ANY, 600) X(STARTED_SPLIT, 20000) X(STARTED_ON_MIG, 600) \
    X(STARTED_BY_ESTIMATE, 600) X(STARTED_BY_MEASURE, 3000) X(REFUSED_FULL, 600) \
    X(REFUSED_BAD_DEVICE, 3000) X(REFUSED_ABSENT_DEVICE, 20000) X(REFUSED_MIG_PARENT, 3000) \
    X(REFUSED_MIG_SPLIT, 20000) X(LOADED, 600) X(GREW, 600) X(SHRANK, 3000) X(OVERGREW, 3000) \
    X(READY, 600) X(MEASURED, 600) X(RESERVE_FELL, 3000) X(STOPPED, 600) X(CRASHED, 600) \
    X(KEPT_BY_DRIVER, 600) X(GIVEN_BACK_LATE, 3000) X(RELEASES_LOOKED_AT, 3000) X(FOREIGN_TOOK, 3000) \
    X(FOREIGN_GAVE, 3000) X(OPENED_AS_COMMAND, 3000) X(OPENED_AS_DAEMON, 3000) X(OPENED_AS_QUEUE, 3000) \
    X(LIED, 600) X(LIE_ENDED, 3000) X(FAULT, 600) X(LOOKED_AT_LEDGERS, 600) X(QUEUED_FOR_MEMORY, 3000) \
    X(QUEUED_BEHIND, 3000) X(TURN_CAME, 3000) X(TURN_WAITS, 3000) X(TURN_IN_VAIN, 20000) \
    X(DISPLACED, 3000) X(DISPLACED_SEVERAL, 20000) X(DISPLACED_TOO_LITTLE, 3000) \
    X(DISPLACED_ENDED, 3000) X(QUEUE_DROPPED, 3000) X(CHECKED_EMPTY, 600)
// clang-format on
enum event {
#define X(name, steps) EVENT_##name,
    MODEL_EVENTS(X)
#undef X
        N_EVENTS
};

struct model {
    struct ground *ground;
    char config_path[1200], url[1200];
    uint64_t random;
    struct device devices[N_DEVICES];
    enum fault fault;
    bool is_dirty; /* the driver does not show the world as it is now */
    unsigned n_written;
    struct pool_manager *manager;
    struct pool_gpu_inventory *inventory;
    enum mode mode;
    struct worker workers[MODEL_WORKERS_MAX];
    int64_t estimate_bytes[MODEL_WAYS];
    int64_t learned_bytes[MODEL_WAYS][N_DEVICES]; /* by product; 0: nothing yet */
    size_t n_dead;
    struct dead {
        int64_t pid, step;
    } dead[64]; /* whose memory the driver has not given back */
    size_t n_releases;
    struct release releases[RELEASES_KEPT_MAX];
    int64_t step, n_ids;
    int64_t n_events[N_EVENTS], n_lies[N_LIES], n_faults[N_FAULTS];
};

/* ---- chance (chance.c) ---- */

int64_t random_below(struct model *model, int64_t n);
uint64_t model_seed(void); /* of this run; printed */
int64_t model_steps(void);
/* Prints what happened, and fails when something never did in that many steps. */
void model_report(const struct model *model, int64_t n_steps);
#define COUNT(model, event) ((model)->n_events[EVENT_##event]++)

/* ---- the truth and the driver (driver.c) ---- */

void driver_start(struct model *model, struct ground *ground);
void driver_end(struct model *model);
/* Changes what a process really holds, by what is free at most; how much that is. */
int64_t hold(struct model *model, int device, int64_t pid, int64_t bytes);
int64_t held(const struct model *model, int device, int64_t pid);
/* What somebody else holds from now on. */
int64_t foreign_take(struct model *model, int device, int64_t bytes);
int64_t true_free(const struct model *model, int device);
void lie(struct model *model, int device, enum lie lie, int64_t bytes);
void tell_the_truth(struct model *model);
bool is_honest(const struct model *model);
/* Makes the driver show the world as it is now; before each call of the library. */
void driver_show(struct model *model);
/* What the library is told of a device now. */
void driver_view(const struct model *model, int device, struct view *ret_view);

/* ---- the sums (sums.c) ---- */

/* The ledger of a device as it has to be. skip: a queued worker whose turn is tried, and those behind it do not count (may be NULL). */
struct sums {
    bool is_there, is_usable;
    int64_t total, free, used, held_back, observed, pending, allocated, releasing, foreign, available,
        n_workers;
    int64_t ending; /* what comes free by the end of those who are being ended, and was promised to them */
    int64_t room_after; /* free - promised - headroom when what is released is free; may be negative */
};
void sums_of(const struct model *model, int device, const struct worker *skip, struct sums *ret_sums);
/* What a worker has taken of a device as it is told; *ret_is_measured (may be NULL): the driver says so. */
int64_t observed_of(const struct model *model, const struct worker *worker, int device,
                    const struct view *view, bool *ret_is_measured);
/* What a start needs on a device. */
int64_t need_on(const struct model *model, const struct worker *worker, int device);
int64_t learned_reserve_of(int64_t peak_bytes);
/* The parts of a split. */
void split_parts(const struct asked *asked, int64_t ret_bytes[N_PLAIN]);

/* What has to come of a start. */
struct outcome {
    enum pool_code code;
    int device;                  /* that it goes to, or that refuses it; -1: none */
    bool is_queued, is_for_room; /* it waits; its plan counts on memory that comes free */
    const char *reason;          /* of waiting */
    int64_t missing_bytes;       /* > 0: those who may be displaced have to give it back */
    int64_t displaceable_bytes;
    int64_t n_displaced;
};
void expect_start(const struct model *model, const struct worker *asked, const struct worker *self,
                  struct outcome *ret_outcome);

/* Whether the request of the model's displacing starts names it, and it can be stopped for that. */
bool may_be_displaced(const struct worker *worker, int device);
int64_t gives_back(const struct model *model, const struct worker *worker, int device);

/* ---- checks (checks.c) ---- */

void check_explained(struct model *model, const char *id, enum pool_explain_kind kind);
/* self: as of expect_start. */
void check_refusal(struct model *model, const struct worker *asked, const struct worker *self,
                   const struct outcome *expected, const struct pool_error *err);
/* Reads the record of a worker. */
void take_record(struct model *model, struct worker *worker);
/* It has what it needs, where it has to be, and that is explained. */
void check_admitted(struct model *model, const struct worker *worker, const struct outcome *expected);
/* What the driver says that a worker holds on all of its devices; false: it does not say, or it is nothing. */
bool measured_of(const struct model *model, const struct worker *worker, int64_t *ret_bytes);
/* A worker was seen to hold so much: what is learned by that, and what follows for its own reserve. */
void note_measured(struct model *model, struct worker *worker, int64_t bytes);
void check_row(const struct worker *worker, const struct pool_worker_info *row);
/* After a command has asked the driver: what it has measured, and reserves that fell. */
void check_measured(struct model *model);
/*
 * Right after something was admitted on a device: by the truth all promises can be kept, but for what was a lie; those of
 * one that waits for room, when that has been made. position: of one that waited and was started; who is behind it counts on room
 * that is not made before his own turn.
 */
void check_not_overcommitted(struct model *model, int device, const struct outcome *outcome,
                             int64_t position);
void check_ledgers(struct model *model);
void check_nothing_leaked(struct model *model);

/* ---- what happens (steps.c, ends.c, queue.c) ---- */

void steps_do(struct model *model);
void step_reopen(struct model *model, enum mode mode);
void step_end(struct model *model, struct worker *worker, bool is_crash);
void step_give_back(struct model *model, size_t at);
void give_all_back(struct model *model);
/* Nothing is kept for so long that the library would stop waiting for it. */
void bound_releases(struct model *model);
void step_start(struct model *model);
void step_displace(struct model *model);
void step_turn(struct model *model);
/* Ends all, and sees that nothing is left. */
void end_everything(struct model *model);
void worker_become_ready(struct model *model, struct worker *worker);
struct worker *worker_pick(struct model *model, bool (*is_fit)(const struct worker *worker));
struct worker *worker_new(struct model *model);
/* Starts what `asked` asks for, and checks what came of it. */
void start_and_check(struct model *model, struct worker *asked);
void release_note(struct model *model, const struct worker *worker);
void look_at_releases(struct model *model);

#endif
