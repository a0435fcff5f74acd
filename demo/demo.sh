#!/bin/sh
# ./dev demo: the main job on a real llama-server with a tiny model, in a state directory of its own that is
# removed at the end. Every step is checked; the first that is not as it should be ends the demo with an error.
#
#   POOL_BUILD_DIR     folder with bin/rbees-pool
#   POOL_LLAMA_SERVER  the llama-server to use
#   POOL_TINY_GGUF     the model
set -eu

: "${POOL_BUILD_DIR:?}" "${POOL_LLAMA_SERVER:?}" "${POOL_TINY_GGUF:?}"
DIR=$(mktemp -d "${TMPDIR:-/tmp}/pool-demo.XXXXXX")
PATH="$POOL_BUILD_DIR/bin:$(dirname "$POOL_LLAMA_SERVER"):$PATH"
export PATH

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    BOLD=$(printf '\033[1m') DIM=$(printf '\033[2m') PLAIN=$(printf '\033[0m')
else
    BOLD='' DIM='' PLAIN=''
fi

step() {
    printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN"
}

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# Shows a command as a person would type it, and runs it.
show() {
    printf '%s$ %s%s\n' "$DIM" "$*" "$PLAIN"
    "$@"
}

pool() {
    env -u POOL_LLAMA_SERVER -u POOL_BUILD_DIR -u POOL_TINY_GGUF rbees-pool --config "$DIR/pool.toml" "$@"
}

# show_pool COMMAND...: the options that keep the demo out of your own state are left out of what is shown.
show_pool() {
    printf '%s$ rbees-pool %s%s\n' "$DIM" "$*" "$PLAIN"
    pool "$@"
}

# field JSON-PATH: reads JSON from standard input and prints one value.
field() {
    /usr/bin/python3 -c '
import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."):
    value = value[int(name) if name.isdigit() else name]
print(value)' "$1"
}

# A zombie does not run: it has ended, and waits for its parent (here: init) to ask how.
is_running() {
    grep -q '^State:[[:space:]]*[RSDTtIKWP]' "/proc/$1/status" 2>/dev/null
}

clean_up() {
    status=$?
    for worker in first second; do
        pool worker stop "$worker" --force >/dev/null 2>&1 || true
    done
    rm -rf "$DIR"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

mkdir "$DIR/models"
cp "$POOL_TINY_GGUF" "$DIR/models/tiny.gguf"
cat >"$DIR/catalog.toml" <<END
[[models]]
id       = "tiny"
name     = "A tiny model that speaks one sentence"
file     = "$DIR/models/tiny.gguf"
size     = $(wc -c <"$DIR/models/tiny.gguf")
sha256   = "$(sha256sum "$DIR/models/tiny.gguf" | cut -d ' ' -f 1)"
verified = true
backends = ["cpu", "cuda"]
END
cat >"$DIR/pool.toml" <<END
[pool]
state_dir   = "$DIR/state"
models_dirs = ["$DIR/models"]
catalogs    = ["$DIR/catalog.toml"]
END

step '1. What is here: the version, the GPUs of this machine, a model and whether its bytes are right'
show rbees-pool --version
show_pool gpu list
show_pool models verify tiny
show_pool models list

step '2. Would it fit? The arithmetic, and nothing is started'
show_pool worker spawn cpu --model tiny --id first --dry-run

step '3. Start a worker and wait until it is proven ready'
show_pool worker spawn cpu --model tiny --id first --wait
PORT=$(pool worker show first --json | field port)
PID=$(pool worker show first --json | field pid)

step '4. The command has ended, the worker lives on: ask it'
printf '%s$ curl http://127.0.0.1:%s/v1/completions …%s\n' "$DIM" "$PORT" "$PLAIN"
SENTENCE=$(curl -fsS --max-time 60 -H 'Content-Type: application/json' \
    -d '{"prompt": "Say something:", "max_tokens": 12}' "http://127.0.0.1:$PORT/v1/completions" | field choices.0.text)
printf 'It says: "%s"\n' "$SENTENCE"
case $SENTENCE in *hello*) ;; *) fail "that is not the tiny model's sentence" ;; esac

step '5. Who is there'
show_pool worker list
show_pool status

step '6. Somebody kills it with SIGKILL. The next command notices'
show kill -KILL "$PID"
show_pool worker list
show_pool worker list --all
[ "$(pool worker show first --json | field stop_reason)" = lost ] || fail 'the kill was not noticed'

step '7. Start another one, stop it, and look for what is left: no process, no port, no row'
show_pool worker spawn cpu --model tiny --id second --wait
PORT=$(pool worker show second --json | field port)
PID=$(pool worker show second --json | field pid)
show_pool worker stop second
show_pool worker list
if is_running "$PID"; then fail "process $PID is still there"; fi
if curl -s --max-time 2 "http://127.0.0.1:$PORT/health" >/dev/null; then fail "port $PORT still answers"; fi
[ "$(pool worker list --json | field workers)" = '[]' ] || fail 'a row is left'
echo "process $PID: gone; port $PORT: closed; rows: none"

step 'That was the main job. Next: README.md, rbees-pool help'
