/*
 * The messages to the orchestrator; see heartbeat_body.h.
 */
#include "managerd/heartbeat_body.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

/* An object that is being filled; the first failure (there is no memory) stays. */
struct object {
    json_t *json;
    bool has_failed;
};

/* Takes the value over. */
static void put(struct object *object, const char *name, json_t *value)
{
    if (json_object_set_new(object->json, name, value) != 0)
        object->has_failed = true;
}

static void put_integer(struct object *object, const char *name, int64_t value)
{
    put(object, name, json_integer(value));
}

static void put_integer_if(struct object *object, const char *name, bool is_known, int64_t value)
{
    put(object, name, is_known ? json_integer(value) : json_null());
}

static void put_text(struct object *object, const char *name, const char *text)
{
    bool is_said = text && text[0] && utf8_is_valid(text);
    put(object, name, is_said ? json_string(text) : json_null());
}

static void put_time(struct object *object, const char *name, int64_t wall_ms)
{
    char text[RFC3339_MAX];
    clock_format_rfc3339(wall_ms, text);
    put_text(object, name, text);
}

static struct object start_object(void)
{
    struct object object = { .json = json_object() };
    object.has_failed = !object.json;
    return object;
}

/* Hands the object over; NULL when something of it is missing. */
static json_t *end_object(struct object *object)
{
    if (object->has_failed) {
        json_decref(object->json);
        return NULL;
    }
    return object->json;
}

static json_t *make_gpu(const struct pool_gpu_info *gpu, const struct heartbeat_facts *facts)
{
    const struct pool_ledger *ledger = NULL;
    for (size_t i = 0; i < facts->n_ledgers && !ledger; i++) {
        if (strcmp(facts->ledgers[i].device, gpu->uuid) == 0)
            ledger = &facts->ledgers[i];
    }
    struct object object = start_object();
    put_integer(&object, "id", gpu->gpu_id);
    put_text(&object, "uuid", gpu->uuid);
    put_text(&object, "device_name", gpu->name);
    put_integer_if(&object, "total_vram_bytes", gpu->is_vram_known, gpu->vram_total_bytes);
    put_integer_if(&object, "free_vram_bytes", gpu->is_vram_known, gpu->vram_free_bytes);
    put_integer_if(&object, "allocated_vram_bytes", ledger, ledger ? ledger->allocated_bytes : 0);
    put(&object, "healthy", json_boolean(gpu->health == POOL_GPU_HEALTHY));
    return end_object(&object);
}

/* "a,b" as ["a", "b"]. */
static json_t *make_words(const char *text)
{
    json_t *words = json_array();
    bool has_failed = !words;
    for (const char *word = text ? text : ""; *word && !has_failed;) {
        size_t n = strcspn(word, ",");
        if (n > 0)
            has_failed = json_array_append_new(words, json_stringn(word, n)) != 0;
        word += n + (word[n] == ',');
    }
    if (has_failed) {
        json_decref(words);
        return NULL;
    }
    return words;
}

/* What it holds of its device, as far as that is seen; else what it was promised. A worker on the CPU holds none. */
static int64_t vram_bytes_of(const struct pool_worker_info *worker)
{
    if (!worker->gpu_uuid)
        return 0;
    return worker->observed_bytes.is_present ? worker->observed_bytes.value : worker->reserved_bytes;
}

static json_t *make_worker(const struct pool_worker_info *worker)
{
    struct object object = start_object();
    put_text(&object, "id", worker->worker_id);
    put_text(&object, "status", pool_worker_status_name(worker->status));
    put_text(&object, "model_ref", worker->model_ref);
    put_integer(&object, "vram_bytes", vram_bytes_of(worker));
    put_text(&object, "gpu_id", worker->gpu_uuid);
    put_text(&object, "uri", worker->uri);
    put_text(&object, "backend", worker->backend);
    put(&object, "capabilities", make_words(worker->capabilities));
    put_text(&object, "protocol", worker->protocol);
    return end_object(&object);
}

static json_t *make_gpus(const struct heartbeat_facts *facts)
{
    json_t *gpus = json_array();
    for (size_t i = 0; gpus && facts->gpus && i < facts->gpus->n_gpus; i++) {
        if (json_array_append_new(gpus, make_gpu(facts->gpus->gpus[i], facts)) != 0) {
            json_decref(gpus);
            return NULL;
        }
    }
    return gpus;
}

static json_t *make_workers(const struct heartbeat_facts *facts)
{
    json_t *workers = json_array();
    for (size_t i = 0; workers && facts->workers && i < facts->workers->n_workers; i++) {
        if (json_array_append_new(workers, make_worker(facts->workers->workers[i])) != 0) {
            json_decref(workers);
            return NULL;
        }
    }
    return workers;
}

static char *print_object(struct object *object)
{
    CLEANUP_JSON json_t *json = end_object(object);
    return json ? json_print(json) : NULL;
}

static struct object start_message(const struct heartbeat_sender *sender)
{
    struct object object = start_object();
    put_text(&object, "pool_id", sender->pool_id);
    put_time(&object, "timestamp", sender->wall_ms);
    put_text(&object, "epoch", sender->epoch);
    return object;
}

char *heartbeat_body_register(const struct heartbeat_sender *sender, const struct heartbeat_facts *facts)
{
    struct object object = start_message(sender);
    put_integer(&object, "sequence", sender->sequence);
    put_text(&object, "endpoint", sender->endpoint);
    put(&object, "gpus", make_gpus(facts));
    return print_object(&object);
}

char *heartbeat_body_beat(const struct heartbeat_sender *sender, const struct heartbeat_facts *facts)
{
    struct object object = start_message(sender);
    put_integer(&object, "sequence", sender->sequence);
    put(&object, "gpus", make_gpus(facts));
    put(&object, "workers", make_workers(facts));
    return print_object(&object);
}

char *heartbeat_body_failure(const struct heartbeat_sender *sender, const struct heartbeat_failure *failure)
{
    struct object object = start_message(sender);
    put_text(&object, "worker_id", failure->worker_id);
    put_text(&object, "reason", pool_stop_reason_name(failure->reason));
    put_integer_if(&object, "exit_code", failure->exit_code.is_present, failure->exit_code.value);
    put_integer_if(&object, "signal", failure->exit_signal.is_present, failure->exit_signal.value);
    put_integer(&object, "vram_released_bytes", failure->vram_released_bytes);
    return print_object(&object);
}
