/*
 * Workers as values: names, the transition table, records and lists of them. Where records are kept
 * is the registry's business, what is done to a worker is the lifecycle's.
 */
#include "core/worker_fields.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define NAME_ROW(name, text) text,
static const char *const worker_status_names[] = { POOL_WORKER_STATUSES(NAME_ROW) };
static const char *const worker_event_names[] = { POOL_WORKER_EVENTS(NAME_ROW) };
static const char *const worker_stop_reason_names[] = { POOL_STOP_REASONS(NAME_ROW) };
static const char *const worker_port_proof_names[] = { POOL_PORT_PROOFS(NAME_ROW) };
static const char *const worker_activity_names[] = { POOL_ACTIVITIES(NAME_ROW) };
#undef NAME_ROW

#define N_OF(array) (sizeof(array) / sizeof(array)[0])

_Static_assert(N_OF(worker_status_names) == POOL_WORKER_N_STATUSES, "POOL_WORKER_N_STATUSES counts the list");
_Static_assert(N_OF(worker_event_names) == POOL_WORKER_N_EVENTS, "POOL_WORKER_N_EVENTS counts the list");

static const char *name_in(const char *const *names, size_t n_names, size_t value)
{
    return value < n_names ? names[value] : "unknown";
}

static bool find_name(const char *const *names, size_t n_names, const char *name, size_t *ret_value)
{
    for (size_t i = 0; name && i < n_names; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret_value = i;
            return true;
        }
    }
    return false;
}

const char *pool_worker_status_name(enum pool_worker_status status)
{
    return name_in(worker_status_names, N_OF(worker_status_names), (size_t)status);
}

bool pool_worker_status_from_name(const char *name, enum pool_worker_status *ret_status)
{
    size_t value;
    bool is_found = find_name(worker_status_names, N_OF(worker_status_names), name, &value);
    if (is_found)
        *ret_status = (enum pool_worker_status)value;
    return is_found;
}

const char *pool_worker_event_name(enum pool_worker_event event)
{
    return name_in(worker_event_names, N_OF(worker_event_names), (size_t)event);
}

const char *pool_stop_reason_name(enum pool_stop_reason reason)
{
    return name_in(worker_stop_reason_names, N_OF(worker_stop_reason_names), (size_t)reason);
}

bool pool_stop_reason_from_name(const char *name, enum pool_stop_reason *ret_reason)
{
    size_t value;
    bool is_found = find_name(worker_stop_reason_names, N_OF(worker_stop_reason_names), name, &value);
    if (is_found)
        *ret_reason = (enum pool_stop_reason)value;
    return is_found;
}

const char *pool_port_proof_name(enum pool_port_proof proof)
{
    return name_in(worker_port_proof_names, N_OF(worker_port_proof_names), (size_t)proof);
}

const char *pool_activity_name(enum pool_activity activity)
{
    return name_in(worker_activity_names, N_OF(worker_activity_names), (size_t)activity);
}

bool pool_activity_from_name(const char *name, enum pool_activity *ret_activity)
{
    size_t value;
    bool is_found = find_name(worker_activity_names, N_OF(worker_activity_names), name, &value);
    if (is_found)
        *ret_activity = (enum pool_activity)value;
    return is_found;
}

/*
 * What each event makes of each status. The reasons, where they do not speak for themselves:
 * - spawning: requests do not count before readiness and port are proven; until then whoever answers may be a stranger.
 * - spawning, ready, busy, idle: MAIN_EXITED leads to stopping, because what holds on must be ended.
 * - ready: REQUESTS_DONE changes nothing; ready lasts until the first request is seen.
 * - ready, busy, idle: READY_PROVEN is a proof again, by who adopted the worker; it tells nothing of requests.
 * - stopping: nothing but its end takes a worker out of it; late news of the start or of requests do not revive it.
 * - stopped: no process is left that something could happen to; only that it is gone may be noticed twice.
 */
#define TO(status) POOL_WORKER_##status
#define REFUSED    POOL_WORKER_N_STATUSES
static const unsigned char transitions[POOL_WORKER_N_STATUSES][POOL_WORKER_N_EVENTS] = {
    [POOL_WORKER_SPAWNING] = {
        [POOL_EVENT_READY_PROVEN] = TO(READY),
        [POOL_EVENT_REQUEST_SEEN] = TO(SPAWNING),
        [POOL_EVENT_REQUESTS_DONE] = TO(SPAWNING),
        [POOL_EVENT_STOP_REQUESTED] = TO(STOPPING),
        [POOL_EVENT_GONE] = TO(STOPPED),
        [POOL_EVENT_MAIN_EXITED] = TO(STOPPING),
    },
    [POOL_WORKER_READY] = {
        [POOL_EVENT_READY_PROVEN] = TO(READY),
        [POOL_EVENT_REQUEST_SEEN] = TO(BUSY),
        [POOL_EVENT_REQUESTS_DONE] = TO(READY),
        [POOL_EVENT_STOP_REQUESTED] = TO(STOPPING),
        [POOL_EVENT_GONE] = TO(STOPPED),
        [POOL_EVENT_MAIN_EXITED] = TO(STOPPING),
    },
    [POOL_WORKER_BUSY] = {
        [POOL_EVENT_READY_PROVEN] = TO(BUSY),
        [POOL_EVENT_REQUEST_SEEN] = TO(BUSY),
        [POOL_EVENT_REQUESTS_DONE] = TO(IDLE),
        [POOL_EVENT_STOP_REQUESTED] = TO(STOPPING),
        [POOL_EVENT_GONE] = TO(STOPPED),
        [POOL_EVENT_MAIN_EXITED] = TO(STOPPING),
    },
    [POOL_WORKER_IDLE] = {
        [POOL_EVENT_READY_PROVEN] = TO(IDLE),
        [POOL_EVENT_REQUEST_SEEN] = TO(BUSY),
        [POOL_EVENT_REQUESTS_DONE] = TO(IDLE),
        [POOL_EVENT_STOP_REQUESTED] = TO(STOPPING),
        [POOL_EVENT_GONE] = TO(STOPPED),
        [POOL_EVENT_MAIN_EXITED] = TO(STOPPING),
    },
    [POOL_WORKER_STOPPING] = {
        [POOL_EVENT_READY_PROVEN] = TO(STOPPING),
        [POOL_EVENT_REQUEST_SEEN] = TO(STOPPING),
        [POOL_EVENT_REQUESTS_DONE] = TO(STOPPING),
        [POOL_EVENT_STOP_REQUESTED] = TO(STOPPING),
        [POOL_EVENT_GONE] = TO(STOPPED),
        [POOL_EVENT_MAIN_EXITED] = TO(STOPPING),
    },
    [POOL_WORKER_STOPPED] = {
        [POOL_EVENT_READY_PROVEN] = REFUSED,
        [POOL_EVENT_REQUEST_SEEN] = REFUSED,
        [POOL_EVENT_REQUESTS_DONE] = REFUSED,
        [POOL_EVENT_STOP_REQUESTED] = REFUSED,
        [POOL_EVENT_GONE] = TO(STOPPED),
        [POOL_EVENT_MAIN_EXITED] = REFUSED,
    },
};

enum pool_code pool_worker_transition(enum pool_worker_status status, enum pool_worker_event event,
                                      enum pool_worker_status *ret_next, struct pool_error *err)
{
    if ((size_t)status >= POOL_WORKER_N_STATUSES || (size_t)event >= POOL_WORKER_N_EVENTS)
        return pool_error_set(err, POOL_INVALID_REQUEST, "no such status or event of a worker");
    unsigned char next = transitions[status][event];
    if (next == REFUSED) {
        pool_error_set(err, POOL_CONFLICT, "%s can not happen to a worker that is %s",
                       pool_worker_event_name(event), pool_worker_status_name(status));
        pool_error_add_text(err, "status", pool_worker_status_name(status));
        if (err)
            err->is_retriable = false; /* a stopped worker stays so */
        return POOL_CONFLICT;
    }
    *ret_next = (enum pool_worker_status)next;
    return POOL_OK;
}

#define FIELD_TEXT(a, b)     .min = 0
#define FIELD_CHARS(a, b)    .min = 0
#define FIELD_UNSIGNED(a, b) .min = 0
#define FIELD_BOOL(a, b)     .min = 0
#define FIELD_READING(a, b)  .min = 0
#define FIELD_INTEGER(a, b)  .min = (a), .max = (b)
#define FIELD_CHOICE(a, b)   .choices = (a), .n_choices = (b)
#define FIELD_ROW(kind_, name_, member_, a, b)                    \
    { .name = #name_,                                             \
      .kind = WORKER_FIELD_##kind_,                               \
      .offset = offsetof(struct pool_worker_info, member_),       \
      .n_bytes = sizeof(((struct pool_worker_info *)0)->member_), \
      FIELD_##kind_(a, b) },
const struct worker_field worker_fields[WORKER_N_FIELDS] = { WORKER_FIELDS(FIELD_ROW) };

#define OFFSET_TEXT(member) offsetof(struct pool_worker_info, member),
#define OFFSET_CHARS(member)
#define OFFSET_INTEGER(member)
#define OFFSET_UNSIGNED(member)
#define OFFSET_BOOL(member)
#define OFFSET_CHOICE(member)
#define OFFSET_READING(member)
#define OFFSET_ROW(kind, name, member, a, b) OFFSET_##kind(member)
const size_t worker_text_offsets[WORKER_N_TEXTS] = { WORKER_FIELDS(OFFSET_ROW) };

/* Choices are read and written as unsigned int; gcc and clang make every enum of ours one. */
_Static_assert(sizeof(enum pool_worker_status) == sizeof(unsigned) &&
                   sizeof(enum pool_stop_reason) == sizeof(unsigned) &&
                   sizeof(enum pool_port_proof) == sizeof(unsigned) &&
                   sizeof(enum pool_activity) == sizeof(unsigned),
               "enums are unsigned");

struct pool_worker_info *pool_worker_info_new(void)
{
    struct pool_worker_info *worker = calloc(1, sizeof *worker);
    if (!worker)
        return NULL;
    worker->status = POOL_WORKER_SPAWNING;
    worker->gpu_id = -1;
    worker->is_healthy = true;
    return worker;
}

static void free_labels(struct pool_label *labels, size_t n_labels)
{
    for (size_t i = 0; i < n_labels; i++) {
        free(labels[i].name);
        free(labels[i].value);
    }
    free(labels);
}

void pool_worker_info_free(struct pool_worker_info *worker)
{
    if (!worker)
        return;
    for (size_t i = 0; i < WORKER_N_TEXTS; i++)
        free(*worker_text(worker, i));
    free_labels(worker->labels, worker->n_labels);
    free(worker);
}

static bool copy_labels(struct pool_worker_info *copy, const struct pool_worker_info *worker)
{
    if (worker->n_labels == 0)
        return true;
    copy->labels = calloc(worker->n_labels, sizeof *copy->labels);
    if (!copy->labels)
        return false;
    copy->n_labels = worker->n_labels;
    for (size_t i = 0; i < worker->n_labels; i++) {
        copy->labels[i].name = strdup(worker->labels[i].name);
        copy->labels[i].value = strdup(worker->labels[i].value);
        if (!copy->labels[i].name || !copy->labels[i].value)
            return false;
    }
    return true;
}

struct pool_worker_info *pool_worker_info_copy(const struct pool_worker_info *worker)
{
    struct pool_worker_info *copy = malloc(sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *worker;
    copy->labels = NULL;
    copy->n_labels = 0;
    bool is_whole = true;
    for (size_t i = 0; i < WORKER_N_TEXTS; i++) {
        char **text = worker_text(copy, i);
        if (*text) {
            *text = is_whole ? strdup(*text) : NULL;
            is_whole = is_whole && *text;
        }
    }
    if (!is_whole || !copy_labels(copy, worker)) {
        pool_worker_info_free(copy);
        return NULL;
    }
    return copy;
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* An alphanumeric character, then those and the ones in `others`; at most n_max of them. */
static bool is_word(const char *text, size_t n_max, const char *others)
{
    if (!text || !is_alphanumeric(text[0]))
        return false;
    size_t n = 1;
    for (; text[n] != '\0'; n++) {
        if (n == n_max || !(is_alphanumeric(text[n]) || strchr(others, text[n])))
            return false;
    }
    return true;
}

bool pool_worker_id_is_valid(const char *id)
{
    return is_word(id, POOL_WORKER_ID_MAX, "._-");
}

/*
 * Length of the UTF-8 sequence at s, 0 for none: not overlong, no surrogate, up to U+10FFFF.
 * Source: RFC 3629, section 4.
 */
static size_t utf8_sequence(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    size_t n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    }
    return n;
}

static bool is_label_value(const char *value)
{
    if (!value || strnlen(value, POOL_LABEL_VALUE_MAX + 1) > POOL_LABEL_VALUE_MAX)
        return false;
    for (const unsigned char *s = (const unsigned char *)value; *s != '\0';) {
        size_t n = *s < 0x20 || *s == 0x7f ? 0 : utf8_sequence(s);
        if (n == 0)
            return false;
        s += n;
    }
    return true;
}

static enum pool_code check_label(const char *name, const char *value, struct pool_error *err)
{
    enum pool_code code = POOL_OK;
    if (!is_word(name, POOL_LABEL_NAME_MAX, "._/-"))
        code = pool_error_set(
            err, POOL_INVALID_REQUEST,
            "a label's name is 1 to %d letters, digits and . _ / -, the first a letter or digit",
            POOL_LABEL_NAME_MAX);
    else if (!is_label_value(value))
        code = pool_error_set(err, POOL_INVALID_REQUEST,
                              "a label's value is at most %d bytes of UTF-8 without control characters",
                              POOL_LABEL_VALUE_MAX);
    if (code != POOL_OK)
        pool_error_set_field(err, "labels.%.*s", POOL_LABEL_NAME_MAX, name ? name : "");
    return code;
}

static struct pool_label *find_label(const struct pool_worker_info *worker, const char *name)
{
    for (size_t i = 0; name && i < worker->n_labels; i++) {
        if (strcmp(worker->labels[i].name, name) == 0)
            return &worker->labels[i];
    }
    return NULL;
}

enum pool_code pool_worker_info_set_label(struct pool_worker_info *worker, const char *name,
                                          const char *value, struct pool_error *err)
{
    enum pool_code code = check_label(name, value, err);
    if (code != POOL_OK)
        return code;
    CLEANUP_FREE char *new_value = strdup(value);
    if (!new_value)
        return pool_error_no_memory(err);
    struct pool_label *label = find_label(worker, name);
    if (label) {
        free(label->value);
        label->value = take_ptr(&new_value);
        return POOL_OK;
    }
    if (worker->n_labels >= POOL_LABELS_MAX) {
        pool_error_set(err, POOL_INVALID_REQUEST, "a worker has at most %d labels", POOL_LABELS_MAX);
        pool_error_set_field(err, "labels.%s", name);
        return POOL_INVALID_REQUEST;
    }
    CLEANUP_FREE char *new_name = strdup(name);
    if (!new_name)
        return pool_error_no_memory(err);
    struct pool_label *labels = reallocarray(worker->labels, worker->n_labels + 1, sizeof *labels);
    if (!labels)
        return pool_error_no_memory(err);
    worker->labels = labels;
    labels[worker->n_labels].name = take_ptr(&new_name);
    labels[worker->n_labels].value = take_ptr(&new_value);
    worker->n_labels++;
    return POOL_OK;
}

const char *pool_worker_info_label(const struct pool_worker_info *worker, const char *name)
{
    const struct pool_label *label = find_label(worker, name);
    return label ? label->value : NULL;
}

static enum pool_code check_labels(const struct pool_worker_info *worker, struct pool_error *err)
{
    if (worker->n_labels > POOL_LABELS_MAX || (worker->n_labels > 0 && !worker->labels)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "a worker has at most %d labels", POOL_LABELS_MAX);
        pool_error_set_field(err, "labels");
        return POOL_INVALID_REQUEST;
    }
    for (size_t i = 0; i < worker->n_labels; i++) {
        enum pool_code code = check_label(worker->labels[i].name, worker->labels[i].value, err);
        if (code != POOL_OK)
            return code;
        if (find_label(worker, worker->labels[i].name) != &worker->labels[i]) {
            pool_error_set(err, POOL_INVALID_REQUEST, "a label is there twice");
            pool_error_set_field(err, "labels.%s", worker->labels[i].name);
            return POOL_INVALID_REQUEST;
        }
    }
    return POOL_OK;
}

static bool is_field_fine(const struct pool_worker_info *worker, const struct worker_field *field)
{
    const void *member = (const char *)worker + field->offset;
    switch (field->kind) {
    case WORKER_FIELD_TEXT: {
        const char *text = *(const char *const *)member;
        return !text || strnlen(text, POOL_WORKER_TEXT_MAX + 1) <= POOL_WORKER_TEXT_MAX;
    }
    case WORKER_FIELD_CHARS: return memchr(member, '\0', field->n_bytes) != NULL;
    case WORKER_FIELD_INTEGER: {
        int64_t value = *(const int64_t *)member;
        return value >= field->min && value <= field->max;
    }
    case WORKER_FIELD_CHOICE: return *(const unsigned *)member < field->n_choices;
    case WORKER_FIELD_UNSIGNED:
    case WORKER_FIELD_BOOL:
    case WORKER_FIELD_READING: return true;
    }
    return false;
}

enum pool_code worker_info_check(const struct pool_worker_info *worker, struct pool_error *err)
{
    if (!pool_worker_id_is_valid(worker->worker_id)) {
        pool_error_set(err, POOL_INVALID_REQUEST,
                       "a worker's id is 1 to %d letters, digits and . _ -, "
                       "the first a letter or digit",
                       POOL_WORKER_ID_MAX);
        pool_error_set_field(err, "worker_id");
        return POOL_INVALID_REQUEST;
    }
    for (size_t i = 0; i < WORKER_N_FIELDS; i++) {
        if (!is_field_fine(worker, &worker_fields[i])) {
            pool_error_set(err, POOL_INVALID_REQUEST, "%s of worker %s is out of range",
                           worker_fields[i].name, worker->worker_id);
            pool_error_set_field(err, "%s", worker_fields[i].name);
            return POOL_INVALID_REQUEST;
        }
    }
    return check_labels(worker, err);
}

void pool_worker_list_free(struct pool_worker_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->n_workers; i++)
        pool_worker_info_free(list->workers[i]);
    free(list->workers);
    free(list);
}

bool worker_list_append(struct pool_worker_list *list, struct pool_worker_info *worker)
{
    size_t n = list->n_workers;
    /* Full at each power of two, so that the capacity need not be kept. */
    if ((n & (n - 1)) == 0) {
        struct pool_worker_info **workers = reallocarray(list->workers, n == 0 ? 1 : 2 * n, sizeof(void *));
        if (!workers)
            return false;
        list->workers = workers;
    }
    list->workers[list->n_workers++] = worker;
    return true;
}
