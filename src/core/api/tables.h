/*
 * The field tables of the API's structs. Rows are in the order in which they are written, and their names are part
 * of the API: they are not renamed or removed.
 */
#ifndef CORE_API_TABLES_H
#define CORE_API_TABLES_H

#include "core/api/fields.h"

extern const struct field_table worker_spawn_request_table;  /* struct pool_worker_spawn_request */
extern const struct field_table may_displace_table;          /* struct pool_may_displace */
extern const struct field_table worker_spawn_response_table; /* struct pool_worker_spawn_response */
extern const struct field_table worker_stop_request_table;   /* struct pool_worker_stop_request */
extern const struct field_table worker_drain_request_table;  /* struct pool_worker_drain_request */
extern const struct field_table worker_ready_callback_table; /* struct pool_worker_ready_callback */
extern const struct field_table gpu_cordon_request_table;    /* struct pool_gpu_cordon_request */
extern const struct field_table gpu_locks_table;             /* struct pool_gpu_locks */
extern const struct field_table gpu_cordon_table;            /* struct pool_gpu_cordon */
extern const struct field_table model_verify_request_table;  /* struct pool_model_verify_request */
extern const struct field_table model_stage_request_table;   /* struct pool_model_stage_request */
extern const struct field_table model_verification_table;    /* struct pool_model_verification */
extern const struct field_table model_staging_table;         /* struct pool_model_staging */
extern const struct field_table worker_table;                /* struct pool_worker_info */
extern const struct field_table identity_table;              /* struct pool_process_identity */
extern const struct field_table gpu_table;                   /* struct pool_gpu_info */
extern const struct field_table gpu_process_table;           /* struct pool_gpu_process */
extern const struct field_table nvlink_table;                /* struct pool_nvlink */
extern const struct field_table gpu_peer_table;              /* struct pool_gpu_peer */
extern const struct field_table gpu_list_table;      /* struct pool_gpu_list, what is said of it as a whole */
extern const struct field_table displacement_table;  /* struct pool_displacement */
extern const struct field_table start_room_table;    /* struct pool_start_room */
extern const struct field_table ledger_table;        /* struct pool_ledger */
extern const struct field_table status_table;        /* struct pool_status_response, its plain fields */
extern const struct field_table capacity_table;      /* the same struct, its `capacity` */
extern const struct field_table model_table;         /* struct pool_model_metadata */
extern const struct field_table model_file_table;    /* struct pool_model_file */
extern const struct field_table model_on_disk_table; /* struct pool_model */
extern const struct field_table model_header_table;  /* struct pool_model_header */

extern const struct field_table explanation_table;       /* struct pool_explanation */
extern const struct field_table explain_candidate_table; /* struct pool_explain_candidate */
extern const struct field_table fact_table;              /* struct pool_fact */

extern const struct field_table crash_table;          /* struct pool_crash */
extern const struct field_table crash_device_table;   /* struct pool_crash_device */
extern const struct field_table crash_memory_table;   /* struct pool_crash_memory */
extern const struct field_table crash_progress_table; /* struct pool_crash_progress */
extern const struct field_table crash_command_table;  /* struct pool_crash_command */
extern const struct field_table vram_sample_table;    /* struct pool_vram_sample */
extern const struct field_table device_fault_table;   /* struct pool_device_fault */
extern const struct field_table worker_why_table;     /* struct pool_worker_why, without the bundle in it */

#define FIELD_TABLE(symbol, type, title, request, rows) \
    const struct field_table symbol = {                 \
        .name = title,                                  \
        .size_bytes = sizeof(type),                     \
        .is_request = request,                          \
        .fields = rows,                                 \
        .n_fields = sizeof rows / sizeof rows[0],       \
    }

#endif
