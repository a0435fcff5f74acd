/*
 * What a start needs that is not free now, as JSON.
 */
#include <pool/api.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "core/api/tables.h"

#define NAME_ROW(name, text) text,
static const char *const status_names[] = { POOL_WORKER_STATUSES(NAME_ROW) };
#undef NAME_ROW

#define AT(member) offsetof(struct pool_displacement, member)
static const struct field displacement_fields[] = {
    { "worker_id", FIELD_CHARS, AT(worker_id), FIELD_REQUIRED, .about = "who is stopped",
      .capacity = POOL_WORKER_ID_MAX + 1 },
    { "status", FIELD_ENUM, AT(status), FIELD_REQUIRED, .about = "its status before that",
      .names = status_names, .n_names = sizeof status_names / sizeof status_names[0] },
    { "gives_back_bytes", FIELD_INTEGER, AT(gives_back_bytes), 0,
      .about = "what its stop gives back, on all of its devices" },
    { "idle_ms", FIELD_READING, AT(idle_ms), 0,
      .about = "for how long it has had no request, as far as that was seen; null: it has one" },
};
#undef AT
FIELD_TABLE(displacement_table, struct pool_displacement, "Displacement", false, displacement_fields);

#define AT(member) offsetof(struct pool_start_room, member)
static const struct field start_room_fields[] = {
    { "wait_reason", FIELD_CHARS, AT(wait_reason), FIELD_REQUIRED,
      .about = "what it waits for: \"displacing\", \"stopping\" or \"releasing\"", .capacity = 16 },
    { "ledger_after", FIELD_OBJECT, AT(ledger_after), FIELD_REQUIRED,
      .about = "the ledger of its device when that is free, before the start", .table = &ledger_table },
    { "displaces", FIELD_OBJECTS, AT(displaces), 0, .about = "who is stopped for it, in this order",
      .n_offset = AT(n_displaces), .table = &displacement_table },
};
#undef AT
FIELD_TABLE(start_room_table, struct pool_start_room, "StartRoom", false, start_room_fields);

void pool_start_room_done(struct pool_start_room *room)
{
    fields_clear(&start_room_table, room);
}

enum pool_code pool_start_room_encode(const struct pool_start_room *room, char **ret_json,
                                      struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    fields_write_object(&start_room_table, room, &w);
    return writer_take(&w, ret_json, err);
}

enum pool_code pool_start_room_decode(const char *json, size_t n, struct pool_start_room *ret_room,
                                      struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    CLEANUP(pool_start_room_done) struct pool_start_room room = { 0 };
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code == POOL_OK)
        code = fields_decode(&start_room_table, parsed, &room, err);
    if (code != POOL_OK)
        return code;
    *ret_room = room;
    room = (struct pool_start_room){ 0 };
    return POOL_OK;
}
