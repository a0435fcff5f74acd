/*
 * Models: how they are named (references), what a catalog says of them (metadata), what their files
 * say of themselves (headers), and whether the bytes are the right ones (verification).
 *
 * A reference is `hf:ORG/REPO[@REV][::file=PATH]`, `file:/absolute/path` or the id of a catalog entry.
 * An id is resolved to one of the first two before anything else looks at it. A catalog is TOML; several
 * are merged, and a later one may not redefine an id. Nothing here downloads.
 */
#ifndef POOL_CATALOG_H
#define POOL_CATALOG_H

#include <pool/error.h>
#include <pool/gpu.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_MODEL_REF_MAX          4096 /* bytes of a reference */
#define POOL_CATALOG_ENTRIES_MAX    100000
#define POOL_CATALOG_FILE_MAX_BYTES (16 << 20)
#define POOL_CATALOG_PROBLEMS_MAX   1000 /* kept; a last one says how many more there are */
#define POOL_MODEL_FILES_MAX        1024 /* shards of one model */

/* ---- references ---- */

enum pool_model_ref_kind { POOL_MODEL_REF_HF, POOL_MODEL_REF_FILE, POOL_MODEL_REF_ID };

/** A reference taken apart. Strings are owned by the struct, NULL when absent. */
struct pool_model_ref {
    enum pool_model_ref_kind kind;
    char *org;      /**< HF */
    char *repo;     /**< HF: without the org */
    char *revision; /**< HF: NULL when not given ("main") */
    char *file;     /**< HF: path inside the repository, NULL when not given */
    char *path;     /**< FILE: absolute path, as written */
    char *id;       /**< ID */
};

/**
 * Takes a reference apart and refuses what is not one: `..`, NUL, control characters, empty parts,
 * backslashes, relative paths, over-long parts. Looks at the text alone, never at the disk.
 * @param text n bytes, need not be terminated
 * Errors: INVALID_REQUEST, field "model_ref".  Owner: pool_model_ref_free.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_ref_parse(const char *text, size_t n,
                                                                struct pool_model_ref **ret_ref,
                                                                struct pool_error *err);
POOL_EXPORT void pool_model_ref_free(struct pool_model_ref *ref);
/** The number of a file and how many there are, of "NAME-00002-of-00005.gguf". */
struct pool_model_split {
    unsigned number, total;
    size_t n_stem; /**< length of "NAME" */
};
/** Whether a file is one of several by its name. */
POOL_EXPORT bool pool_model_file_split(const char *file, struct pool_model_split *ret_split);
/**
 * Whether a file of a repository may be meant when none is named: a GGUF that is no projector and no importance matrix, of
 * split ones the first.
 */
POOL_EXPORT bool pool_model_file_is_choice(const char *file);
/** The canonical text of a reference; owned by the caller, NULL when memory is out. */
POOL_EXPORT char *pool_model_ref_format(const struct pool_model_ref *ref);

/* ---- metadata and catalogs ---- */

struct pool_model_file {
    char *file;         /**< path inside the repository, or absolute */
    int64_t size_bytes; /**< -1 when not said */
    char *sha256;       /**< 64 lower-case hex digits, NULL when not said */
};

/**
 * What a catalog says of a model. Allocated by the library, fields are added at the end only.
 */
struct pool_model_metadata {
    char *id;
    char *name;         /**< NULL when absent */
    char *repo;         /**< "ORG/REPO"; NULL for a local file */
    char *file;         /**< first file */
    int64_t size_bytes; /**< of all files together, -1 when not said */
    bool is_verified;   /**< the catalog's author checked repo and file */
    char *revision;     /**< NULL when absent */
    size_t n_files;     /**< at least 1; shards in order */
    struct pool_model_file *files;
    size_t n_backends; /**< 0: not said, every backend may try */
    char **backends;
    char *catalog_path; /**< file it was read from */
    uint32_t line;      /**< of its entry there */
};

POOL_EXPORT struct pool_model_metadata *pool_model_metadata_copy(const struct pool_model_metadata *model);
POOL_EXPORT void pool_model_metadata_free(struct pool_model_metadata *model);

/** A problem in a catalog that does not stop it from being used, or one of several that do. */
struct pool_catalog_problem {
    bool is_warning;
    uint32_t line, column; /**< 1-based; 0 when it concerns the whole file */
    char *path;
    char *message;
};

struct pool_model_catalog; /**< opaque */

/**
 * The slots of an implementation; `self` zeroed before open. All pointers returned are borrowed until close.
 * open:   reads the source. Semantic problems are collected by pool_catalog_report_problem (all in one pass).
 * n/at:   entries in order of id.   find: by id, NULL when absent.
 */
struct pool_model_catalog_ops {
    const char *name;
    size_t private_bytes;
    enum pool_code (*open)(void *self, struct pool_model_catalog *front, const char *const *sources,
                           size_t n_sources, struct pool_error *err);
    size_t (*n_models)(const void *self);
    const struct pool_model_metadata *(*at)(const void *self, size_t index);
    const struct pool_model_metadata *(*find)(const void *self, const char *id);
    void (*close)(void *self);
};

/**
 * Opens catalogs, TOML files, merged in the order given. A missing file is INVALID_CONFIG.
 * Errors: INVALID_CONFIG with "file:line:column: …" of the first problem, details.n_problems; details.path,
 * details.line, details.column. When the syntax of all files is right, every problem is collected; see ret_problems.
 * @param ret_problems may be NULL; else set, also on failure, to all problems and warnings (unknown keys
 *        warn); freed with pool_catalog_problems_free
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_catalog_open(const char *const *paths, size_t n_paths,
                                                                   struct pool_model_catalog **ret_catalog,
                                                                   struct pool_catalog_problem **ret_problems,
                                                                   size_t *ret_n_problems,
                                                                   struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_catalog_open_ops(
    const struct pool_model_catalog_ops *ops, const char *const *sources, size_t n_sources,
    struct pool_model_catalog **ret_catalog, struct pool_catalog_problem **ret_problems,
    size_t *ret_n_problems, struct pool_error *err);
POOL_EXPORT void pool_catalog_problems_free(struct pool_catalog_problem *problems, size_t n_problems);
/** For implementations: adds a problem to the front that is being opened. false when memory is out. */
POOL_EXPORT bool pool_catalog_report_problem(struct pool_model_catalog *front, bool is_warning,
                                             const char *path, uint32_t line, uint32_t column,
                                             const char *format, ...) POOL_PRINTF(6, 7);
/** Ends one ownership; the last one frees it. NULL is fine. */
POOL_EXPORT void pool_model_catalog_close(struct pool_model_catalog *catalog);
/** The same catalog for one more owner, who closes it too; owners may be of different threads. */
POOL_EXPORT struct pool_model_catalog *pool_model_catalog_share(struct pool_model_catalog *catalog);
/** list: number of models, and one by position (ordered by id). Borrowed until close; NULL past the end. */
POOL_EXPORT size_t pool_model_catalog_n_models(const struct pool_model_catalog *catalog);
POOL_EXPORT const struct pool_model_metadata *pool_model_catalog_at(const struct pool_model_catalog *catalog,
                                                                    size_t index);
/** Errors: MODEL_NOT_FOUND, INVALID_REQUEST (not an id). Borrowed until close. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_catalog_get(
    const struct pool_model_catalog *catalog, const char *id, const struct pool_model_metadata **ret_model,
    struct pool_error *err);

/* ---- from a reference to files on disk ---- */

/** Where models may lie. All strings borrowed by the calls that take it. */
struct pool_model_paths {
    size_t struct_size; /**< sizeof(struct pool_model_paths) */
    size_t n_models_dirs;
    const char *const
        *models_dirs;         /**< allowed directories, downloaded models lie at DIR/ORG/REPO/COMMIT/PATH */
    const char *hf_cache_dir; /**< the Hub's own cache, read only; NULL: none */
    bool allow_any_file;      /**< a `file:` path outside models_dirs is allowed (the owner, in local mode) */
};

/** A model that is on disk. Owned by the caller: pool_model_free. */
struct pool_model {
    char *ref; /**< canonical reference, file: or hf: with commit and file (never an id) */
    char *id;  /**< of the catalog entry, NULL without one */
    /**
     * Of the first file, or of the directory of a model that is one (*.safetensors and config.json). Absolute; symbolic
     * links are followed in folders, while the last name of a file stays: engines take the format from it and find the
     * other shards by it.
     */
    char *path;
    size_t n_files;
    char **file_paths;  /**< all shards in order; of a directory the weights by name, then config.json */
    int64_t size_bytes; /**< on disk, all files */
    const struct pool_model_metadata *metadata; /**< borrowed from the catalog; NULL without an entry */
    /** Per file what the Hub said that its SHA-256 is when it came; NULL where that is not known. NULL: of none. */
    char **known_sha256s;
};

/**
 * Finds the files of a reference: a catalog id is resolved first; `hf:` is looked up in the models directories (where
 * DIR/ORG/REPO/refs/REV names the commit of a branch or tag; without refs/main the only commit there is) and then in
 * the Hub's cache; shards of a split GGUF are found from its first file's name. A `hf:` reference without a file means
 * the only GGUF file (projectors and importance matrices aside), of several the one a catalog names, or the whole
 * directory when it has safetensors.
 * @param catalog may be NULL
 * Errors: INVALID_REQUEST (several files or commits could be meant: they are named; not the first shard),
 * MODEL_NOT_FOUND (names the download command for hf:, details.download_command), PERMISSION_DENIED (outside the
 * allowed directories after symbolic links, the same whether there is something or not), MODEL_CORRUPT (a shard is
 * missing: details.path), MODEL_INCOMPATIBLE (a directory that is no model).
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_resolve(const struct pool_model_catalog *catalog,
                                                              const struct pool_model_paths *paths,
                                                              const char *model_ref,
                                                              struct pool_model **ret_model,
                                                              struct pool_error *err);
POOL_EXPORT void pool_model_free(struct pool_model *model);

/* ---- verification ---- */

/** Called before, while (every few MiB) and after bytes are hashed; return false to cancel. On the calling thread. */
typedef bool pool_progress_fn(int64_t done_bytes, int64_t total_bytes, void *context);

struct pool_verify_options {
    size_t struct_size;         /**< sizeof(struct pool_verify_options) */
    const char *proof_dir;      /**< where proofs are remembered, made with mode 0700; NULL: not remembered */
    bool ignore_proof;          /**< hash again although a proof is there */
    bool only_proof;            /**< do not hash: say whether a valid proof is there */
    pool_progress_fn *progress; /**< may be NULL */
    void *progress_context;
};

struct pool_verify_result {
    bool is_verified;    /**< every file has a known SHA-256 and it is right */
    bool was_remembered; /**< by proofs alone: nothing was read */
    int64_t hashed_bytes;
    char sha256[65]; /**< of the first file; "" when not hashed and no proof */
};

/**
 * Verifies a model against its metadata: size, then SHA-256, streaming. A proof (device, inode, size, mtime, ctime
 * → SHA-256) is remembered, so that the second time costs a stat per file. A model without a known SHA-256
 * is hashed, the sum is given back, and is_verified is false. A file that was changed just before it is hashed (within
 * 50 ms, or 2 s where the file system keeps whole seconds) is not remembered, since a change during that could go unseen.
 * @param options may be NULL
 * Errors: MODEL_CORRUPT (details: path, expected/actual size or sha256; also from a proof, without reading),
 * MODEL_UNVERIFIED (only_proof and no proof), CONFLICT (the file changed while it was hashed), CANCELLED,
 * MODEL_NOT_FOUND, PERMISSION_DENIED, INTERNAL (the file can not be read).
 * Blocks: as long as reading the files takes.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_verify(const struct pool_model *model,
                                                             const struct pool_verify_options *options,
                                                             struct pool_verify_result *ret_result,
                                                             struct pool_error *err);
/**
 * Remembers the SHA-256 of a file that the caller hashed while writing it, so that it need not be read again: as
 * pool_model_verify remembers one. Its modification time is set back by two seconds, so that any later change is seen.
 * Nobody else may write to it before this is called. Best effort: what can not be remembered costs time later.
 * @param sha256 64 lower-case hex digits
 */
POOL_EXPORT void pool_model_remember(const char *path, const char *proof_dir, const char *sha256);
/** The `verify` of a catalog: resolves an id and verifies it. Errors: those of both. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_catalog_verify(
    const struct pool_model_catalog *catalog, const struct pool_model_paths *paths, const char *id,
    const struct pool_verify_options *options, struct pool_verify_result *ret_result, struct pool_error *err);

/* ---- headers ---- */

enum pool_model_format { POOL_MODEL_FORMAT_UNKNOWN, POOL_MODEL_FORMAT_GGUF, POOL_MODEL_FORMAT_SAFETENSORS };

#define POOL_GGUF_KEYS_MAX         65536
#define POOL_GGUF_TENSORS_MAX      1000000
#define POOL_GGUF_HEADER_MAX_BYTES (256 << 20)
#define POOL_SAFETENSORS_HEADER_MAX_BYTES \
    (16 << 20) /* the format allows 100 MB; shards have a few hundred KB */
#define POOL_MODEL_LAYERS_MAX 4096

/** What a layer keeps per token or per sequence. */
struct pool_model_layer {
    int64_t weight_bytes; /**< tensors blk.N.* */
    int64_t head_count_kv;
    bool is_sliding_window;
    bool is_recurrent;
    bool has_attention; /**< has keys and values; false also when its tensors are in another shard */
};

/** Facts of a model file's header. Allocated by the library, fields are added at the end only. */
struct pool_model_header {
    enum pool_model_format format;
    uint32_t version;   /**< of the format */
    char *architecture; /**< "llama", NULL when not said */
    char *name;         /**< general.name, printable UTF-8 */
    char *quantization; /**< of most of the weights' bytes, for example "Q4_K"; NULL when unknown */
    char *type;         /**< general.type ("model", "mmproj", "adapter"), NULL when not said */
    struct pool_reading parameter_count; /**< elements of all tensors */
    struct pool_reading context_length;  /**< trained */
    struct pool_reading embedding_length;
    struct pool_reading feed_forward_length; /**< the largest */
    struct pool_reading vocabulary_size;
    struct pool_reading block_count;
    struct pool_reading head_count; /**< the largest */
    struct pool_reading key_length;
    struct pool_reading value_length;
    struct pool_reading kv_lora_rank; /**< MLA */
    struct pool_reading rope_dimension_count;
    struct pool_reading sliding_window;
    struct pool_reading expert_count;
    struct pool_reading expert_used_count;
    struct pool_reading ssm_conv_kernel, ssm_inner_size, ssm_state_size, ssm_group_count;
    bool is_size_known;            /**< false: a tensor has a type we do not know */
    int64_t tensor_bytes;          /**< of all tensors of this file */
    int64_t token_embedding_bytes; /**< token_embd.* */
    int64_t output_bytes;          /**< output.weight, output_norm; 0 when tied to the embedding */
    int64_t n_tensors;
    int64_t n_keys;
    int64_t data_offset_bytes;
    int64_t file_size_bytes;
    int64_t shard_index; /**< 0-based; 0 for a single file */
    int64_t shard_count; /**< 1 for a single file */
    bool has_chat_template;
    size_t n_layers; /**< entries of layers; block_count when that is known and sane */
    struct pool_model_layer *layers;
    struct pool_reading key_length_mla;   /**< present: the cache holds one latent row a token (MLA) */
    struct pool_reading key_length_swa;   /**< of layers with a sliding window, where it differs */
    struct pool_reading value_length_swa; /**< likewise */
    struct pool_reading shared_kv_layers; /**< last layers that use the cache of earlier ones */
    struct pool_reading expert_feed_forward_length;
    struct pool_reading wkv_head_size;      /**< RWKV */
    struct pool_reading shortconv_l_cache;  /**< LFM2 */
    struct pool_reading split_tensor_count; /**< of all shards together, as a shard says it */
    int64_t
        lookup_bytes; /**< tables besides token_embd that stay in host memory (positions, per-layer embeddings) */
    struct pool_reading kda_head_dim; /**< of Kimi's delta attention */
};

/**
 * Reads the header of a model file; never more than POOL_GGUF_HEADER_MAX_BYTES of it, never past its end.
 * Errors: MODEL_CORRUPT (what is wrong, details.offset_bytes says where), MODEL_INCOMPATIBLE (big endian, a version
 * we do not know, a header over our limits, not a regular file), MODEL_NOT_FOUND, PERMISSION_DENIED, INTERNAL (the
 * file can not be read). A file of neither format is no error: format UNKNOWN.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_header_read(const char *path,
                                                                  struct pool_model_header **ret_header,
                                                                  struct pool_error *err);
/**
 * Reads the headers of all shards, checks that they belong together, and adds their tensors up. Metadata are those
 * of the first. Errors: as above, and MODEL_CORRUPT when shards disagree or one is missing (details.path).
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_header_read_all(const char *const *paths,
                                                                      size_t n_paths,
                                                                      struct pool_model_header **ret_header,
                                                                      struct pool_error *err);
POOL_EXPORT void pool_model_header_free(struct pool_model_header *header);
POOL_EXPORT const char *pool_model_format_name(enum pool_model_format format);

/* ---- estimate ---- */

/** What a llama.cpp worker is started with, as far as it changes its memory. All zero: the engine's defaults. */
struct pool_estimate_options {
    size_t struct_size;
    int64_t ctx_size;                        /**< tokens over all slots; 0: min(trained, 8192) */
    int64_t parallel;                        /**< slots; 0: 1 */
    bool is_on_gpu;                          /**< a CUDA context and its workspaces are added */
    int64_t ubatch;                          /**< tokens of a micro-batch; 0: 512 */
    const char *cache_type_k, *cache_type_v; /**< "f16", "q8_0", …; NULL: f16 */
    bool is_kv_unified;                      /**< one cache for all slots */
    bool is_flash_attention_off;
    bool is_window_full; /**< layers with a sliding window keep the whole context */
    /** Layers on this device, [first, end); the output counts as one behind the last. end 0: all with the output. */
    int64_t first_layer, end_layer;
    int64_t engine_build; /**< number of llama.cpp's build; 0: not known */
};

/** Bytes a llama.cpp worker needs on its device, in parts. */
struct pool_estimate {
    int64_t ctx_size; /**< that was used */
    int64_t weights_bytes;
    int64_t kv_cache_bytes;
    int64_t compute_bytes;
    int64_t overhead_bytes; /**< context of the device, or what the program needs in host memory */
    int64_t margin_bytes;   /**< max(10 %, 512 MiB) of the sum of the others */
    int64_t total_bytes;
    int64_t recurrent_bytes; /**< states of recurrent layers */
};

/**
 * Estimates from a header alone, that of pool_model_header_read_all for a model in shards. Never negative, and never
 * less for more context. docs/estimates.md has each part beside what a real engine reserves.
 * Source: the comments at each formula in estimate.c.
 * Errors: MODEL_INCOMPATIBLE when the header does not say enough or is of no model llama.cpp runs; INVALID_REQUEST with
 * the option as the field: a negative number, or no type of a cache.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_estimate(const struct pool_model_header *header,
                                                               const struct pool_estimate_options *options,
                                                               struct pool_estimate *ret_estimate,
                                                               struct pool_error *err);

#ifdef __cplusplus
}
#endif
#endif
