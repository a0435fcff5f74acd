#!/bin/sh
# ./dev demo: the main job on a real llama-server with a tiny model, first with rbees-pool alone, then with the daemon
# pool-managerd, in a state directory of its own that is removed at the end. Every step is checked; the first that is
# not as it should be ends the demo with an error. Ports are taken where there are free ones.
#
#   POOL_BUILD_DIR     folder with bin/rbees-pool, bin/pool-managerd and bin/pool-gpu-probe
#   POOL_LLAMA_SERVER  the llama-server to use
#   POOL_TINY_GGUF     the model
set -eu

: "${POOL_BUILD_DIR:?}" "${POOL_LLAMA_SERVER:?}" "${POOL_TINY_GGUF:?}"
# The path of a socket has at most 107 bytes.
DIR=${TMPDIR:-/tmp}
[ "${#DIR}" -le 70 ] || DIR=/tmp
DIR=$(mktemp -d "$DIR/pool-demo.XXXXXX")
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

note() {
    printf '%s# %s%s\n' "$DIM" "$*" "$PLAIN"
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
    /usr/bin/python3 -IS -c '
import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."):
    value = value[int(name) if name.isdigit() else name]
print(value)' "$1"
}

# worker_field WORKER NAME
worker_field() {
    pool worker show "$1" --json | field "$2"
}

# A zombie does not run: it has ended, and waits for its parent (here: init) to ask how.
is_running() {
    grep -q '^State:[[:space:]]*[RSDTtIKWP]' "/proc/$1/status" 2>/dev/null
}

# wait_for WHAT COMMAND...: until the command succeeds, for a minute at most.
wait_for() {
    what=$1
    shift
    n_tries=0
    until "$@" >/dev/null 2>&1; do
        n_tries=$((n_tries + 1))
        [ "$n_tries" -lt 1200 ] || fail "$what did not come about in a minute"
        sleep 0.05
    done
}

# ask_for_sentence PORT: what the model of the worker at that port says.
ask_for_sentence() {
    curl -fsS --max-time 60 -H 'Content-Type: application/json' \
        -d '{"prompt": "Say something:", "max_tokens": 12}' "http://127.0.0.1:$1/v1/completions" | field choices.0.text
}

show_sentence() {
    printf '%s$ curl http://127.0.0.1:%s/v1/completions …%s\n' "$DIM" "$1" "$PLAIN"
    SENTENCE=$(ask_for_sentence "$1")
    printf 'It says: "%s"\n' "$SENTENCE"
    case $SENTENCE in *hello*) ;; *) fail "that is not the tiny model's sentence" ;; esac
}

# check_gone PID PORT
check_gone() {
    wait_for "the end of process $1" is_not_running "$1"
    if curl -s --max-time 2 "http://127.0.0.1:$2/health" >/dev/null; then fail "port $2 still answers"; fi
    [ "$(pool worker list --json | field workers)" = '[]' ] || fail 'a row is left'
    echo "process $1: gone; port $2: closed; rows: none"
}

is_not_running() {
    ! is_running "$1"
}

# --- the daemon, and those who watch it -------------------------------------------------------------------------

DAEMON_PID='' EVENTS_PID='' CLIENT_PID='' DAEMON_PORT=''

start_daemon() {
    : >"$DIR/daemon.log"
    printf '%s$ pool-managerd &%s\n' "$DIM" "$PLAIN"
    env -u POOL_LLAMA_SERVER -u POOL_BUILD_DIR -u POOL_TINY_GGUF pool-managerd --config "$DIR/pool.toml" \
        >"$DIR/daemon.log" 2>&1 </dev/null &
    DAEMON_PID=$!
    wait_for 'an answer of the daemon' is_daemon_up
    DAEMON_PORT=$(sed -n 's/.*(port \([0-9]*\)).*/\1/p' "$DIR/daemon.log" | tail -n 1)
}

is_daemon_up() {
    if is_not_running "$DAEMON_PID"; then
        cat "$DIR/daemon.log" >&2
        fail 'the daemon has ended'
    fi
    curl -fsS --max-time 5 --unix-socket "$DIR/daemon.sock" http://localhost/health
}

# The daemon writes each change of a worker to whoever listens.
listen_to_events() {
    curl -sN -D "$DIR/events.head" -o "$DIR/events" --unix-socket "$DIR/daemon.sock" http://localhost/v2/events &
    EVENTS_PID=$!
}

has_stream() {
    grep -q ' 200 ' "$DIR/events.head"
}

has_event() {
    grep -q "^event: $1\$" "$DIR/events"
}

# event_field NAME: of the last event.
event_field() {
    sed -n 's/^data: //p' "$DIR/events" | tail -n 1 | field "$1"
}

# A client that asks the worker at port $1 again and again: a line for each answer, "failed" for one that does not come.
ask_again_and_again() {
    while :; do
        case $(ask_for_sentence "$1" 2>/dev/null) in
            *hello*) echo answered ;;
            *) echo failed ;;
        esac
    done
}

n_answers() {
    grep -c answered "$DIR/client" || true
}

# three_more_answers SINCE
three_more_answers() {
    [ "$(n_answers)" -ge $(($1 + 3)) ]
}

# end_process PID HOW: sends the signal and waits for the end.
end_process() {
    [ -n "$1" ] || return 0
    kill "-$2" "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# --- the end ----------------------------------------------------------------------------------------------------

# What carries the id of the demo's state directory is the demo's.
end_leftovers() {
    [ -s "$DIR/state/state-id" ] || return 0
    for environment in /proc/[0-9]*/environ; do
        if tr '\0' '\n' <"$environment" 2>/dev/null | grep -qxF "POOL_STATE_ID=$(cat "$DIR/state/state-id")"; then
            leftover=${environment#/proc/}
            kill -KILL "${leftover%/environ}" 2>/dev/null || true
        fi
    done
}

clean_up() {
    status=$?
    trap '' INT TERM HUP
    end_process "$CLIENT_PID" KILL
    end_process "$EVENTS_PID" KILL
    end_process "$DAEMON_PID" KILL
    end_leftovers 2>/dev/null
    rm -rf "$DIR"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

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
FIRST_PORT=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 11000))
cat >"$DIR/pool.toml" <<END
[pool]
state_dir   = "$DIR/state"
models_dirs = ["$DIR/models"]
catalogs    = ["$DIR/catalog.toml"]
[workers]
port_range  = "$FIRST_PORT-$((FIRST_PORT + 199))"
[daemon]
bind        = "127.0.0.1:0"
socket      = "$DIR/daemon.sock"
END

# --- the main job, with the command line alone ------------------------------------------------------------------

step '1. What is here: the version, the GPUs of this machine, a model and whether its bytes are right'
show rbees-pool --version
show_pool gpu list
show_pool models verify tiny
show_pool models list

step '2. Would it fit? The arithmetic, and nothing is started'
show_pool worker spawn cpu --model tiny --id first --dry-run

step '3. Start a worker and wait until it is proven ready'
show_pool worker spawn cpu --model tiny --id first --wait
PORT=$(worker_field first port)
PID=$(worker_field first pid)

step '4. The command has ended, the worker lives on: ask it'
show_sentence "$PORT"

step '5. Who is there'
show_pool worker list
show_pool status

step '6. Somebody kills it with SIGKILL. The next command notices'
show kill -KILL "$PID"
show_pool worker list
show_pool worker list --all
[ "$(worker_field first stop_reason)" = lost ] || fail 'the kill was not noticed'

step '7. Start another one, stop it, and look for what is left: no process, no port, no row'
show_pool worker spawn cpu --model tiny --id second --wait
PORT=$(worker_field second port)
PID=$(worker_field second pid)
show_pool worker stop second
check_gone "$PID" "$PORT"

# --- the same host, with the daemon -----------------------------------------------------------------------------

step '8. A worker that the command line started, and then a daemon: it takes the worker over'
show_pool worker spawn cpu --model tiny --id third --wait
PORT=$(worker_field third port)
PID=$(worker_field third pid)
start_daemon
printf '%s$ curl http://127.0.0.1:%s/health%s\n' "$DIM" "$DAEMON_PORT" "$PLAIN"
curl -fsS --max-time 10 "http://127.0.0.1:$DAEMON_PORT/health"
echo
note 'rbees-pool finds the daemon by itself and works through it'
show_pool worker list
[ "$(worker_field third pid)" = "$PID" ] || fail 'the worker was not taken over'
grep -q 'adopted.*1 workers' "$DIR/daemon.log" || fail 'the daemon does not say that it adopted the worker'

step '9. The daemon is killed with SIGKILL while a client talks to the worker. The worker does not notice'
ask_again_and_again "$PORT" >"$DIR/client" 2>/dev/null &
CLIENT_PID=$!
wait_for 'the first answers' three_more_answers 0
show kill -KILL "$DAEMON_PID"
wait "$DAEMON_PID" 2>/dev/null || true
wait_for 'answers without a daemon' three_more_answers "$(n_answers)"
echo "without a daemon: $(n_answers) answers so far"
start_daemon
wait_for 'answers after the restart' three_more_answers "$(n_answers)"
end_process "$CLIENT_PID" TERM
CLIENT_PID=''
if grep -q failed "$DIR/client"; then fail 'a request to the worker failed'; fi
[ "$(worker_field third pid)" = "$PID" ] || fail 'the worker was not taken over again'
echo "with the next daemon: $(n_answers) answers, none failed; the worker is still process $PID"

step '10. Now somebody kills the worker. The daemon sees it at once, and says so to everybody who listens'
listen_to_events
wait_for 'the stream of events' has_stream
show kill -KILL "$PID"
wait_for 'the event' has_event worker.stopped
printf '%s$ curl -N http://127.0.0.1:%s/v2/events%s\n' "$DIM" "$DAEMON_PORT" "$PLAIN"
printf 'event: worker.stopped\ndata: {… "worker_id": "%s", "stop_reason": "%s", "exit_signal": %s …}\n' \
    "$(event_field worker_id)" "$(event_field stop_reason)" "$(event_field exit_signal)"
show_pool worker list --all
[ "$(worker_field third exit_signal)" = 9 ] || fail 'the signal is not known'
[ "$(worker_field third stop_reason)" = signalled ] || fail 'the reason is not known'

step '11. Start one over HTTP, ask it, drain it'
printf '%s$ curl -d '"'"'{"backend": "cpu", "model_ref": "tiny", "worker_id": "fourth", "wait": true}'"'"' …/v2/workers/start%s\n' \
    "$DIM" "$PLAIN"
curl -fsS --max-time 120 -H 'Content-Type: application/json' \
    -d '{"backend": "cpu", "model_ref": "tiny", "worker_id": "fourth", "wait": true}' \
    "http://127.0.0.1:$DAEMON_PORT/v2/workers/start" | tee "$DIR/answer"
echo
PORT=$(field port <"$DIR/answer")
PID=$(field pid <"$DIR/answer")
show_sentence "$PORT"
printf '%s$ curl -d '"'"'{"wait": true}'"'"' …/v2/workers/fourth/drain%s\n' "$DIM" "$PLAIN"
curl -fsS --max-time 120 -H 'Content-Type: application/json' -d '{"wait": true}' \
    "http://127.0.0.1:$DAEMON_PORT/v2/workers/fourth/drain" >"$DIR/answer"
[ "$(field status <"$DIR/answer")" = stopped ] || fail 'the drain did not end in a stop'
check_gone "$PID" "$PORT"

step '12. What monitoring sees of it all, and the end of the daemon'
printf '%s$ curl …/metrics | grep worker_st%s\n' "$DIM" "$PLAIN"
curl -fsS --max-time 10 "http://127.0.0.1:$DAEMON_PORT/metrics" | grep -E '^pool_mgr_worker_st(arts|ops)_total.* [1-9]'
show kill -TERM "$DAEMON_PID"
wait "$DAEMON_PID" || fail 'the daemon did not end well'
if curl -s --max-time 2 "http://127.0.0.1:$DAEMON_PORT/health" >/dev/null; then fail 'the port of the daemon still answers'; fi
[ ! -e "$DIR/daemon.sock" ] || fail 'the socket of the daemon is left'
[ "$(pool worker list --json | field workers)" = '[]' ] || fail 'a row is left'
echo "the daemon: gone; its port and socket: closed; workers: none"
DAEMON_PID=''

step 'That was the main job. Next: README.md, rbees-pool help'
