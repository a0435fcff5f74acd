/*
 * An inventory from a TOML file: for dry runs, for tests, and for hosts whose driver tells nothing. The format is
 * docs/static-gpus.md. The file is read again at each refresh, so that changing it changes the machine.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "base/strbuf.h"
#include "base/toml.h"
#include "core/gpu/inventories.h"

#define FILE_BYTES_MAX (1 << 20) /* room for 256 devices and thousands of processes */

struct static_inventory {
    char path[PATH_MAX];
};

enum field_kind {
    FIELD_TEXT,    /* char[max + 1] */
    FIELD_BOOL,    /* bool */
    FIELD_SIZE,    /* int64_t: bytes, a number or a text as "24 GiB" */
    FIELD_READING, /* struct pool_reading of an integer */
    FIELD_FLAG,    /* struct pool_reading of a boolean */
    FIELD_AMOUNT,  /* struct pool_reading of bytes */
    FIELD_NUMBER,  /* int64_t */
    FIELD_OTHER,   /* read elsewhere */
};

struct field {
    const char *key;
    enum field_kind kind;
    size_t offset;
    int64_t min, max;
    bool is_required;
};

#define INFO(member)           offsetof(struct pool_gpu_info, member)
#define PROCESS(member)        offsetof(struct pool_gpu_process, member)
#define TEXT_MAX(type, member) ((int64_t)sizeof((struct type *)0)->member - 1)
#define BYTES_MAX              (INT64_C(1) << 50)

/* clang-format off */
static const struct field root_fields[] = {
    { "driver_version", FIELD_TEXT, INFO(driver_version), 0, TEXT_MAX(pool_gpu_info, driver_version), false },
    { "cuda_version", FIELD_READING, INFO(cuda_version), 0, INT32_MAX, false },
    { "gpus", FIELD_OTHER, 0, 0, 0, false },
    { NULL, FIELD_OTHER, 0, 0, 0, false },
};

/* Of a device and of a MIG instance alike. */
#define FIELDS_OF_BOTH                                                                                  \
    { "uuid", FIELD_TEXT, INFO(uuid), 1, TEXT_MAX(pool_gpu_info, uuid), true },                         \
    { "name", FIELD_TEXT, INFO(name), 0, TEXT_MAX(pool_gpu_info, name), false },                        \
    { "vram_total_bytes", FIELD_SIZE, INFO(vram_total_bytes), 1, BYTES_MAX, true },                     \
    { "vram_used_bytes", FIELD_SIZE, INFO(vram_used_bytes), 0, BYTES_MAX, false },                      \
    { "vram_reserved_bytes", FIELD_AMOUNT, INFO(vram_reserved_bytes), 0, BYTES_MAX, false },            \
    { "unhealthy", FIELD_TEXT, INFO(health_reason), 1, TEXT_MAX(pool_gpu_info, health_reason), false }, \
    { "are_processes_known", FIELD_BOOL, INFO(are_processes_known), 0, 1, false },                      \
    { "processes", FIELD_OTHER, 0, 0, 0, false }

static const struct field device_fields[] = {
    FIELDS_OF_BOTH,
    { "pci_bus_id", FIELD_TEXT, INFO(pci_bus_id), 0, TEXT_MAX(pool_gpu_info, pci_bus_id), false },
    { "compute_capability_major", FIELD_READING, INFO(compute_capability_major), 0, 1000, false },
    { "compute_capability_minor", FIELD_READING, INFO(compute_capability_minor), 0, 1000, false },
    { "temperature_celsius", FIELD_READING, INFO(temperature_celsius), -273, 1000, false },
    { "power_usage_mw", FIELD_READING, INFO(power_usage_mw), 0, INT32_MAX, false },
    { "power_limit_mw", FIELD_READING, INFO(power_limit_mw), 0, INT32_MAX, false },
    { "utilization_percent", FIELD_READING, INFO(utilization_percent), 0, 100, false },
    { "memory_utilization_percent", FIELD_READING, INFO(memory_utilization_percent), 0, 100, false },
    { "ecc_enabled", FIELD_FLAG, INFO(ecc_enabled), 0, 1, false },
    { "ecc_corrected_errors", FIELD_READING, INFO(ecc_corrected_errors), 0, INT64_MAX, false },
    { "ecc_uncorrected_errors", FIELD_READING, INFO(ecc_uncorrected_errors), 0, INT64_MAX, false },
    { "mig_enabled", FIELD_FLAG, INFO(mig_enabled), 0, 1, false },
    { "persistence_enabled", FIELD_FLAG, INFO(persistence_enabled), 0, 1, false },
    { "minor_number", FIELD_READING, INFO(minor_number), 0, INT32_MAX, false },
    { "numa_node", FIELD_READING, INFO(numa_node), 0, INT32_MAX, false },
    { "instances", FIELD_OTHER, 0, 0, 0, false },
    { NULL, FIELD_OTHER, 0, 0, 0, false },
};

static const struct field instance_fields[] = {
    FIELDS_OF_BOTH,
    { NULL, FIELD_OTHER, 0, 0, 0, false },
};

static const struct field process_fields[] = {
    { "pid", FIELD_NUMBER, PROCESS(pid), 0, 4194304, true },
    { "used_vram_bytes", FIELD_AMOUNT, PROCESS(used_vram_bytes), 0, BYTES_MAX, false },
    { "gpu_instance_id", FIELD_READING, PROCESS(gpu_instance_id), 0, UINT32_MAX - 1, false },
    { "is_graphics", FIELD_BOOL, PROCESS(is_graphics), 0, 1, false },
    { NULL, FIELD_OTHER, 0, 0, 0, false },
};
/* clang-format on */

struct reader {
    const char *path;
    struct pool_gpu_list *list;
    struct pool_error *err;
};

/* "/etc/gpus.toml:3:8: gpus[0].uuid: why". `where` is the path of the table, `key` is NULL for the table itself. */
static enum pool_code refuse(const struct reader *r, uint32_t line, uint32_t column, const char *where,
                             const char *key, const char *format, ...) POOL_PRINTF(6, 7);

static enum pool_code refuse(const struct reader *r, uint32_t line, uint32_t column, const char *where,
                             const char *key, const char *format, ...)
{
    char field[POOL_ERROR_FIELD_MAX];
    bool has_dot = where[0] != '\0' && key;
    snprintf(field, sizeof field, "%s%s%.64s", where, has_dot ? "." : "", key ? key : "");
    char why[256];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    enum pool_code code = pool_error_set(r->err, POOL_INVALID_CONFIG, "%s:%u:%u: %s%s%s", r->path, line,
                                         column, field, field[0] ? ": " : "", why);
    pool_error_set_field(r->err, "%s", field);
    return code;
}

static enum pool_code check_table(const struct reader *r, const struct toml_node *table, const char *where,
                                  const struct field *fields)
{
    if (table->kind != TOML_TABLE)
        return refuse(r, table->line, table->column, where, NULL, "must be a table, not %s",
                      toml_kind_name(table->kind));
    for (size_t i = 0; i < table->n_children; i++) {
        const struct toml_node *child = &table->children[i];
        const struct field *field = fields;
        while (field->key && strcmp(field->key, child->key) != 0)
            field++;
        if (!field->key)
            return refuse(r, child->key_line, child->key_column, where, child->key, "unknown key");
    }
    for (const struct field *field = fields; field->key; field++) {
        if (field->is_required && !toml_child(table, field->key))
            return refuse(r, table->line, table->column, where, field->key, "is missing");
    }
    return POOL_OK;
}

static enum pool_code read_text(const struct reader *r, const struct toml_node *node, const char *where,
                                const struct field *field, char *text)
{
    if (node->kind != TOML_STRING)
        return refuse(r, node->line, node->column, where, node->key, "must be a string, not %s",
                      toml_kind_name(node->kind));
    if (node->n_text < (size_t)field->min || node->n_text > (size_t)field->max)
        return refuse(r, node->line, node->column, where, node->key, "must have %lld to %lld bytes, not %zu",
                      (long long)field->min, (long long)field->max, node->n_text);
    for (size_t i = 0; i < node->n_text; i++) {
        if ((unsigned char)node->text[i] < ' ' || node->text[i] == 0x7f)
            return refuse(r, node->line, node->column, where, node->key, "has a control character in it");
    }
    memcpy(text, node->text, node->n_text);
    text[node->n_text] = '\0';
    return POOL_OK;
}

static enum pool_code read_bool(const struct reader *r, const struct toml_node *node, const char *where,
                                bool *ret_value)
{
    if (node->kind != TOML_BOOL)
        return refuse(r, node->line, node->column, where, node->key, "must be true or false, not %s",
                      toml_kind_name(node->kind));
    *ret_value = node->boolean;
    return POOL_OK;
}

static enum pool_code read_integer(const struct reader *r, const struct toml_node *node, const char *where,
                                   const struct field *field, int64_t *ret_value)
{
    int64_t value = node->integer;
    bool is_bytes = field->kind == FIELD_SIZE || field->kind == FIELD_AMOUNT;
    if (is_bytes && node->kind == TOML_STRING) {
        if (node->n_text != strlen(node->text) || !parse_bytes(node->text, &value))
            return refuse(r, node->line, node->column, where, node->key,
                          "is no number of bytes (an integer, or a text as \"24 GiB\")");
    } else if (node->kind != TOML_INTEGER) {
        return refuse(r, node->line, node->column, where, node->key, "must be an integer, not %s",
                      toml_kind_name(node->kind));
    }
    if (value < field->min || value > field->max)
        return refuse(r, node->line, node->column, where, node->key, "must be from %lld to %lld",
                      (long long)field->min, (long long)field->max);
    *ret_value = value;
    return POOL_OK;
}

static enum pool_code read_field(const struct reader *r, const struct toml_node *node, const char *where,
                                 const struct field *field, void *object)
{
    char *at = (char *)object + field->offset;
    int64_t number = 0;
    bool flag = false;
    enum pool_code code = POOL_OK;
    switch (field->kind) {
    case FIELD_TEXT: return read_text(r, node, where, field, at);
    case FIELD_BOOL:
    case FIELD_FLAG:
        code = read_bool(r, node, where, &flag);
        number = flag;
        break;
    case FIELD_SIZE:
    case FIELD_NUMBER:
    case FIELD_READING:
    case FIELD_AMOUNT: code = read_integer(r, node, where, field, &number); break;
    case FIELD_OTHER: return POOL_OK;
    }
    if (code != POOL_OK)
        return code;
    if (field->kind == FIELD_BOOL)
        *(bool *)at = flag;
    else if (field->kind == FIELD_SIZE || field->kind == FIELD_NUMBER)
        memcpy(at, &number, sizeof number);
    else
        memcpy(at, &(struct pool_reading){ true, number }, sizeof(struct pool_reading));
    return POOL_OK;
}

static enum pool_code read_table(const struct reader *r, const struct toml_node *table, const char *where,
                                 const struct field *fields, void *object)
{
    enum pool_code code = check_table(r, table, where, fields);
    for (const struct field *field = fields; code == POOL_OK && field->key; field++) {
        const struct toml_node *node = toml_child(table, field->key);
        if (node)
            code = read_field(r, node, where, field, object);
    }
    return code;
}

/* The child that is an array of tables, or NULL. */
static enum pool_code find_array(const struct reader *r, const struct toml_node *table, const char *where,
                                 const char *key, const struct toml_node **ret_array)
{
    const struct toml_node *array = toml_child(table, key);
    if (array && array->kind != TOML_ARRAY)
        return refuse(r, array->line, array->column, where, key, "must be an array of tables, not %s",
                      toml_kind_name(array->kind));
    *ret_array = array;
    return POOL_OK;
}

static enum pool_code read_processes(const struct reader *r, const struct toml_node *table, const char *where,
                                     struct pool_gpu_info *info)
{
    const struct toml_node *array = NULL;
    enum pool_code code = find_array(r, table, where, "processes", &array);
    if (code != POOL_OK || !array)
        return code;
    if (!info->are_processes_known)
        return refuse(r, array->line, array->column, where, "processes",
                      "must be absent when they are not known");
    for (size_t i = 0; i < array->n_children; i++) {
        char place[96];
        snprintf(place, sizeof place, "%s.processes[%zu]", where, i);
        struct pool_gpu_process process = { .pid = 0 };
        code = read_table(r, &array->children[i], place, process_fields, &process);
        if (code != POOL_OK)
            return code;
        if (!gpu_info_add_process(info, &process))
            return pool_error_no_memory(r->err);
    }
    return POOL_OK;
}

static enum pool_code check_uuid(const struct reader *r, const struct toml_node *table, const char *where,
                                 const struct pool_gpu_info *info)
{
    const char *prefix = info->is_mig_instance ? "MIG-" : "GPU-";
    const struct toml_node *node = toml_child(table, "uuid");
    if (strncmp(info->uuid, prefix, strlen(prefix)) != 0 || !gpu_uuid_is_usable(info->uuid))
        return refuse(r, node->line, node->column, where, "uuid",
                      "must be \"%s\" and letters, digits, '-', '_', '.', '/' or ':'", prefix);
    const struct pool_gpu_info *first = pool_gpu_list_find(r->list, info->uuid);
    if (first != info)
        return refuse(r, node->line, node->column, where, "uuid", "is that of GPU %u already", first->gpu_id);
    return POOL_OK;
}

/* The part that a device and a MIG instance have in common. */
static enum pool_code read_info(const struct reader *r, const struct toml_node *table, const char *where,
                                const struct field *fields, struct pool_gpu_info *info)
{
    snprintf(info->name, sizeof info->name, "static GPU");
    info->are_processes_known = true;
    info->is_placeable = true;
    enum pool_code code = read_table(r, table, where, fields, info);
    if (code == POOL_OK)
        code = check_uuid(r, table, where, info);
    if (code != POOL_OK)
        return code;
    int64_t taken_bytes = info->vram_used_bytes + info->vram_reserved_bytes.value;
    if (taken_bytes > info->vram_total_bytes)
        return refuse(r, table->line, table->column, where, "vram_total_bytes",
                      "is less than what is used and reserved");
    info->vram_free_bytes = info->vram_total_bytes - taken_bytes;
    info->is_vram_known = true;
    if (info->health_reason[0] != '\0')
        info->health = POOL_GPU_UNHEALTHY;
    return read_processes(r, table, where, info);
}

static enum pool_code append(const struct reader *r, const struct toml_node *table, const char *where,
                             struct pool_gpu_info **ret_info)
{
    if (r->list->n_gpus == POOL_GPUS_MAX) {
        refuse(r, table->line, table->column, where, NULL, "there may be %d devices, instances included",
               POOL_GPUS_MAX);
        return POOL_INVALID_CONFIG;
    }
    struct pool_gpu_info *info = pool_gpu_list_append(r->list);
    if (!info)
        return pool_error_no_memory(r->err);
    *ret_info = info;
    return POOL_OK;
}

static enum pool_code read_instances(const struct reader *r, const struct toml_node *table, const char *where,
                                     struct pool_gpu_info *parent)
{
    const struct toml_node *array = NULL;
    enum pool_code code = find_array(r, table, where, "instances", &array);
    if (code != POOL_OK || !array)
        return code;
    if (parent->mig_enabled.is_present && parent->mig_enabled.value == 0)
        return refuse(r, array->line, array->column, where, "instances", "need mig_enabled = true");
    parent->mig_enabled = (struct pool_reading){ true, 1 };
    for (size_t i = 0; i < array->n_children; i++) {
        char place[64];
        snprintf(place, sizeof place, "%s.instances[%zu]", where, i);
        struct pool_gpu_info *info = NULL;
        code = append(r, &array->children[i], place, &info);
        if (code != POOL_OK)
            return code;
        info->gpu_id = parent->gpu_id;
        info->is_mig_instance = true;
        memcpy(info->parent_uuid, parent->uuid, sizeof info->parent_uuid);
        memcpy(info->pci_bus_id, parent->pci_bus_id, sizeof info->pci_bus_id);
        memcpy(info->driver_version, parent->driver_version, sizeof info->driver_version);
        info->cuda_version = parent->cuda_version;
        info->compute_capability_major = parent->compute_capability_major;
        info->compute_capability_minor = parent->compute_capability_minor;
        code = read_info(r, &array->children[i], place, instance_fields, info);
        if (code != POOL_OK)
            return code;
        if (parent->health == POOL_GPU_UNHEALTHY)
            gpu_info_set_unhealthy(info, "its device: %s", parent->health_reason);
    }
    return POOL_OK;
}

static enum pool_code read_devices(const struct reader *r, const struct toml_node *root)
{
    struct pool_gpu_info of_all = { .gpu_id = 0 }; /* what the file says once, for every device */
    const struct toml_node *array = NULL;
    enum pool_code code = read_table(r, root, "", root_fields, &of_all);
    if (code == POOL_OK)
        code = find_array(r, root, "", "gpus", &array);
    for (size_t i = 0; code == POOL_OK && array && i < array->n_children; i++) {
        const struct toml_node *table = &array->children[i];
        char place[32];
        snprintf(place, sizeof place, "gpus[%zu]", i);
        struct pool_gpu_info *info = NULL;
        code = append(r, table, place, &info);
        if (code != POOL_OK)
            return code;
        *info = of_all;
        info->gpu_id = (uint32_t)i;
        code = read_info(r, table, place, device_fields, info);
        if (code == POOL_OK)
            code = read_instances(r, table, place, info);
        info->is_placeable = !(info->mig_enabled.is_present && info->mig_enabled.value == 1);
    }
    if (code == POOL_OK && r->list->n_gpus == 0)
        gpu_list_add_reason(r->list, "the file names no device");
    return code;
}

static void release_document(struct toml_document **document)
{
    toml_free(*document);
}

static enum pool_code refresh_static(void *self, struct pool_gpu_list *list, struct pool_error *err)
{
    const struct static_inventory *inventory = self;
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(FILE_BYTES_MAX);
    int rc = file_read(inventory->path, &text);
    if (rc == ENOMEM)
        return pool_error_no_memory(err);
    if (rc != 0)
        return pool_error_set_errno(err, POOL_INVALID_CONFIG, rc, "GPUs are read from %s", inventory->path);
    struct toml_error failure = { .line = 0 };
    CLEANUP(release_document)
    struct toml_document *document = toml_parse(strbuf_text(&text), text.n, &failure);
    if (!document && failure.is_no_memory)
        return pool_error_no_memory(err);
    if (!document)
        return pool_error_set(err, POOL_INVALID_CONFIG, "%s:%u:%u: %s", inventory->path, failure.line,
                              failure.column, failure.message);
    struct reader reader = { inventory->path, list, err };
    return read_devices(&reader, toml_root(document));
}

static void release_list(struct pool_gpu_list **list)
{
    pool_gpu_list_free(*list);
}

/* Reads the file once, so that a bad one is refused here and not at the first question. */
static enum pool_code open_static(void *self, const char *source, struct pool_error *err)
{
    struct static_inventory *inventory = self;
    if (source[0] != '/')
        return pool_error_set(err, POOL_INVALID_CONFIG,
                              "static:%.200s: the path of a file is needed, absolute", source);
    if (strlen(source) >= sizeof inventory->path)
        return pool_error_set(err, POOL_INVALID_CONFIG, "static:%.200s...: the path is too long", source);
    memcpy(inventory->path, source, strlen(source) + 1);
    CLEANUP(release_list) struct pool_gpu_list *list = calloc(1, sizeof *list);
    return list ? refresh_static(self, list, err) : pool_error_no_memory(err);
}

/* Nothing is held between two refreshes. */
static void close_static(void *self)
{
    (void)self;
}

const struct pool_gpu_inventory_ops gpu_static_ops = {
    .name = "static",
    .private_bytes = sizeof(struct static_inventory),
    .open = open_static,
    .refresh = refresh_static,
    .close = close_static,
};
