/*
 * The built-in backends, as the TOML that somebody could have written. They are read by the same code as the
 * file's. Facts about the engines stand here and nowhere else; docs/configuration.md shows this text.
 *
 * allow_args: what a request of the operate scope may add. Left out is what opens files or connections, runs
 * programs or templates, listens elsewhere, hides the activity, pins host memory that nobody counted, or moves
 * the model to other devices than the one it was admitted on.
 *
 * Source: llama.cpp, tools/server/README.md; unknown LLAMA_ARG_ variables are ignored by every version.
 * Source: vLLM, `vllm serve --help`; it takes SIGTERM and SIGINT alike (vllm/entrypoints/launcher.py).
 */
#include "core/config_loader.h"

/* The text is laid out as TOML. */
/* clang-format off */

#define LLAMA_COMMAND \
    "command = [\"llama-server\", \"-m\", \"{model_path}\", \"--host\", \"{host}\", \"--port\", \"{port}\",\n" \
    "           \"-c\", \"{ctx_size}\", \"-np\", \"{parallel}\""

/*
 * LLAMA_ARG_FIT=off: else the engine picks other sizes than those that the ledger counts with.
 * LLAMA_ARG_CACHE_RAM=0: else it keeps prompts in up to 8 GiB of host memory (0.7.0) that nobody admitted.
 */
#define LLAMA_FIELDS \
    "env = { LLAMA_ARG_FIT = \"off\", LLAMA_ARG_CACHE_RAM = \"0\" }\n"                                     \
    "ready.http = \"/health\"\n" \
    "activity = \"llama-server\"\n" \
    "stop_signal = \"SIGTERM\"\n" \
    "model_formats = [\"gguf\"]\n" \
    "capabilities = [\"completion\", \"chat\"]\n" \
    "protocol = \"openai\"\n" \
    "allow_args = [\n" \
    "    \"-t\", \"--threads\", \"-tb\", \"--threads-batch\", \"--threads-http\",\n" \
    "    \"-b\", \"--batch-size\", \"-ub\", \"--ubatch-size\", \"-cb\", \"--cont-batching\", \"-nocb\",\n" \
    "    \"--no-cont-batching\", \"-fa\", \"--flash-attn\", \"-ctk\", \"--cache-type-k\", \"-ctv\", \"--cache-type-v\",\n" \
    "    \"-kvu\", \"--kv-unified\", \"--swa-full\", \"--context-shift\", \"--no-context-shift\",\n" \
    "    \"--cache-prompt\", \"--no-cache-prompt\", \"--cache-reuse\", \"-n\", \"--predict\", \"--n-predict\", \"--keep\",\n" \
    "    \"--no-mmap\", \"--check-tensors\", \"--warmup\", \"--no-warmup\", \"--special\",\n" \
    "    \"--rope-scaling\", \"--rope-scale\", \"--rope-freq-base\", \"--rope-freq-scale\", \"--yarn-orig-ctx\",\n" \
    "    \"--yarn-ext-factor\", \"--yarn-attn-factor\", \"--yarn-beta-slow\", \"--yarn-beta-fast\",\n" \
    "    \"-s\", \"--seed\", \"--samplers\", \"--ignore-eos\", \"--temp\", \"--top-k\", \"--top-p\", \"--min-p\",\n" \
    "    \"--typical\", \"--repeat-last-n\", \"--repeat-penalty\", \"--presence-penalty\", \"--frequency-penalty\",\n" \
    "    \"--embedding\", \"--embeddings\", \"--pooling\", \"--embd-normalize\", \"--rerank\", \"--reranking\",\n" \
    "    \"--jinja\", \"--no-jinja\", \"--reasoning-format\", \"--reasoning-budget\", \"-a\", \"--alias\",\n" \
    "    \"-to\", \"--timeout\", \"--metrics\", \"--slots\", \"--no-webui\", \"-lv\", \"--verbosity\",\n" \
    "]\n"

const char *const config_builtin_backends[CONFIG_N_BUILTIN_BACKENDS] = {
    "[cpu] # llama.cpp's server in host memory\n"
    LLAMA_COMMAND ",\n"
    "           \"--device\", \"none\"]\n"
    "device = \"cpu\"\n"
    LLAMA_FIELDS,

    "[cuda] # the same on one NVIDIA device\n"
    LLAMA_COMMAND ",\n"
    "           \"-ngl\", \"999\"]\n"
    "device = \"gpu\"\n"
    "device_check = [\"--list-devices\"]\n"
    LLAMA_FIELDS,

    "[metal] # the same on Apple's devices; refused on Linux\n"
    "extends = \"cuda\"\n"
    "device = \"metal\"\n",

    "[vllm]\n"
    "command = [\"vllm\", \"serve\", \"{model_path}\", \"--host\", \"{host}\", \"--port\", \"{port}\",\n"
    "           \"--max-model-len\", \"{ctx_size}\", \"--max-num-seqs\", \"{parallel}\",\n"
    "           \"--gpu-memory-utilization\", \"{gpu_memory_fraction}\"]\n"
    "device = \"gpu\"\n"
    "ready.http = \"/health\"\n"
    "activity = \"vllm\"\n"
    "stop_signal = \"SIGTERM\"\n"
    "exclusive_start = true\n"
    "model_formats = [\"safetensors\"]\n"
    "capabilities = [\"completion\", \"chat\"]\n"
    "protocol = \"openai\"\n"
    "allow_args = [\n"
    "    \"--dtype\", \"-q\", \"--quantization\", \"--kv-cache-dtype\", \"--max-num-batched-tokens\", \"--block-size\",\n"
    "    \"--gpu-memory-utilization\", \"--swap-space\", \"--enforce-eager\", \"--seed\", \"--max-logprobs\",\n"
    "    \"--enable-prefix-caching\", \"--no-enable-prefix-caching\", \"--enable-chunked-prefill\",\n"
    "    \"--no-enable-chunked-prefill\", \"--served-model-name\", \"--runner\", \"--reasoning-parser\",\n"
    "    \"--tool-call-parser\", \"--enable-auto-tool-choice\",\n"
    "]\n",

    "[native] # a worker of your own that speaks the ready callback; give its program a name or a path\n"
    "command = [\"rbees-worker\", \"--worker-id\", \"{worker_id}\", \"--model\", \"{model_path}\",\n"
    "           \"--gpu-device\", \"{gpu_ordinal}\", \"--port\", \"{port}\", \"--callback-url\", \"{callback_url}\"]\n"
    "device = \"gpu\"\n"
    "ready.callback = true\n"
    "stop_signal = \"SIGTERM\"\n"
};
