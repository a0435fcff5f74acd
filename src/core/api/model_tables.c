/*
 * The fields of models: what a catalog says, what is on disk, what the file's header says.
 */
#include <pool/api.h>

#include "core/api/tables.h"

_Static_assert(sizeof(enum pool_verify_state) == sizeof(unsigned) &&
                   sizeof(enum pool_stage_state) == sizeof(unsigned),
               "an ENUM is read and written as unsigned");

#define AT(member) offsetof(struct pool_model_file, member)
static const struct field model_file_fields[] = {
    { "file", FIELD_TEXT, AT(file), 0, .about = "path inside the repository, or absolute" },
    { "size_bytes", FIELD_INTEGER, AT(size_bytes), FIELD_NEGATIVE_IS_NULL,
      .about = "its size; null: not said" },
    { "sha256", FIELD_TEXT, AT(sha256), 0, .about = "64 hex digits; null: not said" },
};
#undef AT
FIELD_TABLE(model_file_table, struct pool_model_file, "ModelFile", false, model_file_fields);

#define AT(member) offsetof(struct pool_model_metadata, member)
static const struct field model_fields[] = {
    { "id", FIELD_TEXT, AT(id), 0, .about = "its name in the catalog" },
    { "name", FIELD_TEXT, AT(name), 0, .about = "its name for people" },
    { "repo", FIELD_TEXT, AT(repo), 0, .about = "ORG/REPO; null for a local file" },
    { "file", FIELD_TEXT, AT(file), 0, .about = "its first file" },
    { "size_bytes", FIELD_INTEGER, AT(size_bytes), FIELD_NEGATIVE_IS_NULL,
      .about = "of all files together; null: not said" },
    { "verified", FIELD_BOOL, AT(is_verified), 0,
      .about = "the catalog's author checked repository and file" },
    { "revision", FIELD_TEXT, AT(revision), 0, .about = "branch, tag or commit" },
    { "files", FIELD_OBJECTS, AT(files), 0, .about = "all files, shards in order", .n_offset = AT(n_files),
      .table = &model_file_table },
    { "backends", FIELD_TEXTS, AT(backends), 0, .about = "those that can run it; empty: not said",
      .n_offset = AT(n_backends) },
    { "catalog_path", FIELD_TEXT, AT(catalog_path), 0, .about = "the catalog it is in" },
    { "catalog_line", FIELD_UINT32, AT(line), 0, .about = "line of its entry there" },
};
#undef AT
FIELD_TABLE(model_table, struct pool_model_metadata, "Model", false, model_fields);

#define AT(member) offsetof(struct pool_model, member)
static const struct field model_on_disk_fields[] = {
    { "model_ref", FIELD_TEXT, AT(ref), 0, .about = "canonical reference, `hf:` or `file:`" },
    { "path", FIELD_TEXT, AT(path), 0, .about = "the (first) file" },
    { "file_paths", FIELD_TEXTS, AT(file_paths), 0, .about = "all files, shards in order",
      .n_offset = AT(n_files) },
    { "size_bytes", FIELD_INTEGER, AT(size_bytes), 0, .about = "of all files together" },
};
#undef AT
FIELD_TABLE(model_on_disk_table, struct pool_model, "ModelOnDisk", false, model_on_disk_fields);

static const char *const format_names[] = {
    [POOL_MODEL_FORMAT_UNKNOWN] = "unknown",
    [POOL_MODEL_FORMAT_GGUF] = "gguf",
    [POOL_MODEL_FORMAT_SAFETENSORS] = "safetensors",
};

#define AT(member) offsetof(struct pool_model_header, member)
#define READING(member, meaning)                                \
    {                                                           \
#member, FIELD_READING, AT(member), 0, .about = meaning \
    }
#define SIZE(member, meaning)                                                                 \
    {                                                                                         \
#member, FIELD_INTEGER, AT(member), FIELD_IF_KNOWN, .about = meaning,                 \
                                                            .known_offset = AT(is_size_known) \
    }
static const struct field model_header_fields[] = {
    { "format", FIELD_ENUM, AT(format), 0, .about = "of the file", .names = format_names,
      .n_names = sizeof format_names / sizeof format_names[0] },
    { "version", FIELD_UINT32, AT(version), 0, .about = "of the format" },
    { "architecture", FIELD_TEXT, AT(architecture), 0, .about = "such as \"llama\"" },
    { "name", FIELD_TEXT, AT(name), 0, .about = "what the file calls itself" },
    { "type", FIELD_TEXT, AT(type), 0, .about = "\"model\", \"mmproj\" or \"adapter\"" },
    { "quantization", FIELD_TEXT, AT(quantization), 0, .about = "of most of the weights' bytes" },
    READING(parameter_count, "elements of all tensors"),
    READING(context_length, "tokens it was trained for"),
    READING(embedding_length, "width of the model"),
    READING(feed_forward_length, "width of its feed-forward layers, the largest"),
    READING(vocabulary_size, "tokens it knows"),
    READING(block_count, "layers"),
    READING(head_count, "attention heads of a layer, the most"),
    READING(key_length, "of an attention head"),
    READING(value_length, "of an attention head"),
    READING(kv_lora_rank, "rank of a compressed cache (MLA)"),
    READING(rope_dimension_count, "dimensions that are rotated"),
    READING(sliding_window, "tokens that a sliding-window layer looks back"),
    READING(expert_count, "experts of a layer"),
    READING(expert_used_count, "experts used for a token"),
    READING(ssm_conv_kernel, "of a state-space layer"),
    READING(ssm_inner_size, "of a state-space layer"),
    READING(ssm_state_size, "of a state-space layer"),
    READING(ssm_group_count, "of a state-space layer"),
    SIZE(tensor_bytes, "of all tensors; null: one has a type that is not known"),
    SIZE(token_embedding_bytes, "of the token embedding"),
    SIZE(output_bytes, "of the output layer; 0: shared with the embedding"),
    { "tensors", FIELD_INTEGER, AT(n_tensors), 0, .about = "how many" },
    { "keys", FIELD_INTEGER, AT(n_keys), 0, .about = "how many" },
    { "data_offset_bytes", FIELD_INTEGER, AT(data_offset_bytes), 0, .about = "where the tensors begin" },
    { "file_size_bytes", FIELD_INTEGER, AT(file_size_bytes), 0, .about = "of the file" },
    { "shard_index", FIELD_INTEGER, AT(shard_index), 0, .about = "from 0" },
    { "shard_count", FIELD_INTEGER, AT(shard_count), 0, .about = "1 for a single file" },
    { "chat_template", FIELD_BOOL, AT(has_chat_template), 0, .about = "it brings a chat template" },
};
#undef SIZE
#undef READING
#undef AT
FIELD_TABLE(model_header_table, struct pool_model_header, "ModelHeader", false, model_header_fields);

#define AT(member) offsetof(struct pool_model_verify_request, member)
static const struct field verify_request_fields[] = {
    { "ignore_proof", FIELD_BOOL, AT(ignore_proof), 0,
      .about = "hash the files again, although their sums are remembered and they have not changed" },
    { "wait", FIELD_BOOL, AT(wait), 0, .about = "answer when it is done, not at once" },
};
#undef AT
FIELD_TABLE(model_verify_request_table, struct pool_model_verify_request, "ModelVerifyRequest", true,
            verify_request_fields);

#define AT(member) offsetof(struct pool_model_stage_request, member)
static const struct field stage_request_fields[] = {
    { "lock", FIELD_BOOL, AT(lock), 0, .about = "keep its pages in memory whatever else needs it (mlock)" },
    { "wait", FIELD_BOOL, AT(wait), 0, .about = "answer when it is read, not at once" },
};
#undef AT
FIELD_TABLE(model_stage_request_table, struct pool_model_stage_request, "ModelStageRequest", true,
            stage_request_fields);

#define NAME_ROW(name, text) text,
static const char *const verify_state_names[] = { POOL_VERIFY_STATES(NAME_ROW) };
static const char *const stage_state_names[] = { POOL_STAGE_STATES(NAME_ROW) };
#undef NAME_ROW
#define NAMES(list) .names = (list), .n_names = sizeof(list) / sizeof(list)[0]

#define AT(member) offsetof(struct pool_model_verification, member)
static const struct field verification_fields[] = {
    { "model_id", FIELD_TEXT, AT(model_id), 0, .about = "the model, by its id in the catalog" },
    { "state", FIELD_ENUM, AT(state), 0,
      .about = "how far it is; no_checksum: it was hashed, and the catalog does not say what to expect",
      NAMES(verify_state_names) },
    { "done_bytes", FIELD_INTEGER, AT(done_bytes), 0, .about = "hashed so far" },
    { "total_bytes", FIELD_INTEGER, AT(total_bytes), 0, .about = "to be hashed; 0: nothing, or not known" },
    { "sha256", FIELD_TEXT, AT(sha256), 0, .about = "of its first file; null: not known" },
    { "error_code", FIELD_TEXT, AT(error_code), 0, .about = "why it failed, as an error's code" },
    { "error_message", FIELD_TEXT, AT(error_message), 0, .about = "the same for people" },
    { "ended_at", FIELD_TIME, AT(ended_wall_ms), 0,
      .about = "when the last one ended; null: none since the daemon was started" },
};
#undef AT
FIELD_TABLE(model_verification_table, struct pool_model_verification, "ModelVerification", false,
            verification_fields);

#define AT(member) offsetof(struct pool_model_staging, member)
static const struct field staging_fields[] = {
    { "model_id", FIELD_TEXT, AT(model_id), 0, .about = "the model, by its id in the catalog" },
    { "state", FIELD_ENUM, AT(state), 0, .about = "how far it is", NAMES(stage_state_names) },
    { "done_bytes", FIELD_INTEGER, AT(done_bytes), 0, .about = "read so far" },
    { "total_bytes", FIELD_INTEGER, AT(total_bytes), 0, .about = "of its files; 0: not known" },
    { "resident_bytes", FIELD_READING, AT(resident_bytes), 0,
      .about = "of them in the page cache, as measured; null: not measured, or the kernel does not tell" },
    { "locked", FIELD_BOOL, AT(is_locked), 0, .about = "its pages stay in memory" },
    { "staged_at", FIELD_TIME, AT(staged_wall_ms), 0,
      .about = "when all of it was read; null: it is not staged" },
    { "used_at", FIELD_TIME, AT(used_wall_ms), 0,
      .about = "when it was staged, or a worker was started with it, whatever came last" },
    { "reason", FIELD_TEXT, AT(reason), 0,
      .about = "why it is not staged any more: \"requested\", \"evicted\" or \"cancelled\"" },
    { "error_code", FIELD_TEXT, AT(error_code), 0, .about = "why it failed, as an error's code" },
    { "error_message", FIELD_TEXT, AT(error_message), 0, .about = "the same for people" },
};
#undef AT
#undef NAMES
FIELD_TABLE(model_staging_table, struct pool_model_staging, "ModelStaging", false, staging_fields);
