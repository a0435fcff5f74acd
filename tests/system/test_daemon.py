"""pool-managerd over HTTP: start, wait, stop, adoption after SIGKILL, deaths seen at once, the shape of errors, events,
logs, state and metrics. Workers are the fake one.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading

import pytest
from pool_host import BUILD, PATIENCE_S, is_listening, is_running, wait_until

DAEMON = BUILD / "bin" / "pool-managerd"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.path)


class Daemon:
    """A host with a daemon. It is killed, not asked, at the end."""

    def __init__(self, host):
        self.host = host
        self.socket = str(host.directory / "d.sock")
        self.log = host.directory / "daemon.log"
        self.process = None
        self.command = [str(DAEMON)]
        with open(host.config, "a", encoding="utf-8") as config:
            config.write(f'[daemon]\nbind = "127.0.0.1:0"\nsocket = "{self.socket}"\n')

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.command, "--config", self.host.config], env=self.host.environment,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self.is_answering, what=f"the daemon ({self.log.read_text()})")

    def is_answering(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE_S)

    def ask(self, method, path, body=None, headers=None):
        connection = UnixConnection(self.socket)
        headers = dict(headers or {})
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, (bytes, str)) else json.dumps(body)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        is_json = answer.getheader("Content-Type", "").startswith("application/json")
        return answer.status, json.loads(data) if is_json and data else data, dict(answer.getheaders())

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def begin(self, worker_id, *arguments, **fields):
        request = {"backend": "fake", "model_ref": f"file:{self.host.model}", "worker_id": worker_id,
                   "extra_args": [str(a) for a in arguments], **fields}
        return self.ask("POST", "/v2/workers/start", request)

    def stop(self, worker_id, **fields):
        return self.ask("POST", "/v2/workers/stop", {"worker_id": worker_id, "wait": True, **fields})

    def worker(self, worker_id):
        status, worker, _ = self.get(f"/v2/workers/{worker_id}")
        return worker if status == 200 else None


@pytest.fixture
def daemon(host):
    daemon = Daemon(host)
    daemon.start()
    yield daemon
    if daemon.process.poll() is None:
        daemon.kill()


def test_a_worker_from_start_to_stop(daemon):
    status, answer, _ = daemon.begin("w", wait=True)
    assert status == 200 and answer["status"] == "ready", answer
    assert is_listening(answer["port"]) and is_running(answer["pid"])
    assert daemon.worker("w")["port_proof"] == "process_tree"
    status, stopped, _ = daemon.stop("w")
    assert status == 200 and stopped["status"] == "stopped" and stopped["stop_reason"] == "requested"
    assert not is_listening(answer["port"]) and daemon.host.processes() == {}
    assert daemon.get("/v2/workers")[1] == {"workers": []}
    assert [w["worker_id"] for w in daemon.get("/v2/workers?all=1")[1]["workers"]] == ["w"]


def test_a_start_answers_at_once_unless_it_waits(daemon):
    status, answer, _ = daemon.begin("w", "--ready-when", daemon.host.gate("ready"))
    assert (status, answer["status"]) == (202, "spawning")
    daemon.host.open_gate("ready")
    wait_until(lambda: daemon.worker("w")["status"] == "ready", what="readiness")


def test_a_start_that_fails_says_why(daemon):
    status, answer, _ = daemon.begin("w", "--never-ready", "--crash-after-ms", 100, "--exit-code", 7, wait=True)
    assert status == 502 and answer["error"]["code"] == "WORKER_START_FAILED"
    assert answer["error"]["details"]["exit_code"] == 7 and answer["error"]["correlation_id"]
    status, answer, _ = daemon.begin("late", "--never-ready", wait=True, start_timeout_ms=300)
    assert status == 504 and answer["error"]["code"] == "WORKER_START_TIMEOUT"
    assert daemon.host.processes() == {}
    reasons = {w["worker_id"]: w["stop_reason"] for w in daemon.get("/v2/workers?all=1")[1]["workers"]}
    assert reasons == {"w": "start_failed", "late": "start_timeout"}


@pytest.mark.parametrize("body, code, status", [
    (b"{", "INVALID_REQUEST", 400),
    ({"backend": "fake"}, "INVALID_REQUEST", 400),
    ({"backend": "fake", "model_ref": "file:/x", "nonsense": 1}, "INVALID_REQUEST", 400),
    ({"backend": "none", "model_ref": "tiny"}, "BACKEND_NOT_FOUND", 404),
    ({"backend": "fake", "model_ref": "tiny"}, "MODEL_NOT_FOUND", 404),
    ({"backend": "cpu", "model_ref": "MODEL", "gpu_id": 0}, "INVALID_REQUEST", 400),
    ({"backend": "fake", "model_ref": "MODEL", "required_vram_bytes": 1 << 60}, "INSUFFICIENT_MEMORY", 507),
])
def test_refusals(daemon, body, code, status):
    if isinstance(body, dict) and body.get("model_ref") == "MODEL":
        body = {**body, "model_ref": f"file:{daemon.host.model}"}
    got, answer, _ = daemon.ask("POST", "/v2/workers/start", body)
    assert (got, answer["error"]["code"]) == (status, code)


def test_what_is_not_there(daemon):
    assert daemon.get("/v2/nothing")[0] == 404
    status, answer, headers = daemon.ask("DELETE", "/v2/state")
    assert (status, answer["error"]["code"]) == (405, "METHOD_NOT_ALLOWED") and "GET" in headers["Allow"]
    assert daemon.get("/v2/workers/none")[1]["error"]["code"] == "WORKER_NOT_FOUND"
    assert daemon.get("/v2/workers/..%2f..")[0] in (400, 404)
    assert daemon.ask("POST", "/v2/workers/stop", {"worker_id": "none"})[1]["error"]["code"] == "WORKER_NOT_FOUND"
    assert daemon.get("/v2/workers/none/logs")[0] == 404


def test_check_starts_nothing(daemon):
    request = {"backend": "fake", "model_ref": f"file:{daemon.host.model}"}
    status, answer, _ = daemon.ask("POST", "/v2/workers/check", request)
    assert status == 200 and answer["fits"] is True
    assert answer["ledger"]["available_bytes"] >= answer["reserved_bytes"]
    assert daemon.host.processes() == {}
    status, answer, _ = daemon.ask("POST", "/v2/workers/check", {**request, "required_vram_bytes": 1 << 60})
    assert status == 507, answer
    assert answer["error"]["details"]["required_memory_bytes"] == 1 << 60


def test_sigkill_loses_no_worker(daemon):
    started = [daemon.begin(f"w{i}", wait=True)[1] for i in range(3)]
    assert daemon.begin("late", "--ready-when", daemon.host.gate("ready"))[0] == 202
    assert daemon.begin("stops", "--ignore-sigterm", wait=True)[0] == 200
    daemon.ask("POST", "/v2/workers/stop", {"worker_id": "stops", "grace_ms": 600000})
    daemon.kill()
    os.kill(started[1]["pid"], signal.SIGKILL)
    wait_until(lambda: not is_running(started[1]["pid"]))
    daemon.start()
    pids = {w["worker_id"]: w["pid"] for w in daemon.get("/v2/workers")[1]["workers"]}
    assert pids["w0"] == started[0]["pid"] and pids["w2"] == started[2]["pid"] and "w1" not in pids
    assert daemon.worker("w1")["stop_reason"] == "lost"
    assert daemon.worker("stops")["status"] == "stopping"
    assert daemon.worker("late")["status"] == "spawning"
    daemon.host.open_gate("ready")
    wait_until(lambda: daemon.worker("late")["status"] == "ready", what="a start that went on")
    os.kill(started[2]["pid"], signal.SIGKILL)  # an adopted one: its end is an event all the same
    wait_until(lambda: daemon.worker("w2")["status"] == "stopped")
    assert daemon.worker("w2")["stop_reason"] in ("signalled", "lost")


def test_orderly_stop_leaves_workers_running(daemon):
    pid = daemon.begin("w", wait=True)[1]["pid"]
    assert daemon.kill(signal.SIGTERM) == 0
    assert is_running(pid)
    assert [row["worker_id"] for row in daemon.host.rows()] == ["w"]  # without a daemon the command line has them
    assert daemon.host.spawn("cli", "--wait").returncode == 0
    daemon.start()
    assert sorted(w["worker_id"] for w in daemon.get("/v2/workers")[1]["workers"]) == ["cli", "w"]


def test_only_one_daemon(daemon):
    second = subprocess.run([DAEMON, "--config", daemon.host.config], env=daemon.host.environment,
                            capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert second.returncode == 5 and "CONFLICT" in second.stderr


def read_events(daemon, seen, headers=None):
    connection = UnixConnection(daemon.socket)
    connection.request("GET", "/v2/events", headers=headers or {})
    answer = connection.getresponse()
    event = {}
    while True:
        try:
            line = answer.readline().decode().rstrip("\n")
        except (OSError, http.client.HTTPException):
            return
        if not line and event:
            seen.append(event)
            event = {}
        elif ": " in line:
            name, value = line.split(": ", 1)
            event[name] = value


def test_events_tell_a_death_and_can_be_resumed(daemon):
    seen = []
    threading.Thread(target=read_events, args=(daemon, seen), daemon=True).start()
    pid = daemon.begin("w", wait=True)[1]["pid"]
    wait_until(lambda: any(e["event"] == "worker.ready" for e in seen), what="the event")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: any(e["event"] == "worker.stopped" for e in seen), what="the event of its end")
    exited, stopped = [e for e in seen if e["event"].startswith("worker.")][-2:]
    # The end of its process is told before it is known that nothing of it is left.
    assert (exited["event"], stopped["event"]) == ("worker.exited", "worker.stopped")
    last = json.loads(stopped["data"])
    assert (last["stop_reason"], last["exit_signal"]) == ("signalled", 9)
    exited = json.loads(exited["data"])
    assert (exited["worker_id"], exited["pid"], exited["exit_signal"], exited["status"]) == ("w", pid, 9, "ready")
    again = []
    threading.Thread(target=read_events, args=(daemon, again, {"Last-Event-ID": seen[0]["id"]}), daemon=True).start()
    wait_until(lambda: [e["id"] for e in again if "id" in e] == [e["id"] for e in seen[1:]], what="what was missed")
    reset = []
    threading.Thread(target=read_events, args=(daemon, reset, {"Last-Event-ID": "other-7"}), daemon=True).start()
    wait_until(lambda: any(e["event"] == "reset" for e in reset), what="the news of another epoch")


def test_state_has_a_generation(daemon):
    status, state, headers = daemon.get("/v2/state")
    assert status == 200 and state["workers"] == [] and state["host_memory"]["available_bytes"] > 0
    daemon.begin("w", wait=True)
    status, state, headers = daemon.get("/v2/state")
    assert [w["worker_id"] for w in state["workers"]] == ["w"]
    assert daemon.get("/v2/state", **{"If-None-Match": headers["ETag"]})[0] == 304
    assert headers["ETag"] == f'"{state["generation"]}"'
    epoch, revision = state["generation"].rsplit("-", 1)
    assert epoch == daemon.get("/health")[1]["epoch"] and int(revision) > 0
    daemon.stop("w")
    # What comes after the state is read from its generation on, and nothing of it is missing.
    after = []
    threading.Thread(target=read_events, args=(daemon, after, {"Last-Event-ID": state["generation"]}), daemon=True).start()
    wait_until(lambda: any(e["event"] == "worker.stopped" for e in after), what="what happened since")
    assert [e["id"] for e in after] == [f"{epoch}-{int(revision) + 1 + i}" for i in range(len(after))]
    assert any(e["event"] == "worker.stopping" for e in after)
    status, state, changed = daemon.get("/v2/state", **{"If-None-Match": headers["ETag"]})
    assert status == 200 and changed["ETag"] == f'"{state["generation"]}"' != headers["ETag"]


def test_logs(daemon):
    daemon.begin("w", "--print-args", wait=True)
    status, text, _ = daemon.get("/v2/workers/w/logs?tail=1000")
    assert status == 200 and b"--print-args" in text
    assert daemon.get("/v2/workers/w/logs?tail=-1")[0] == 400
    connection = UnixConnection(daemon.socket)
    connection.request("GET", "/v2/workers/w/logs?follow=1")
    answer = connection.getresponse()
    daemon.stop("w")
    assert b"--print-args" in answer.read()  # it ends when the worker has


def test_metrics(daemon):
    daemon.begin("w", wait=True)
    status, text, _ = daemon.get("/metrics")
    assert status == 200 and b'pool_mgr_workers{status="ready"} 1\n' in text
    assert b'pool_mgr_worker_starts_total{outcome="ready"} 1\n' in text
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "metrics"], input=text, check=True, timeout=PATIENCE_S)


def test_many_at_once(daemon):
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(daemon.begin(f"w{i}", wait=True)))
               for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [status for status, _, _ in answers] == [200] * 20
    assert len({answer["port"] for _, answer, _ in answers}) == 20
    assert len(daemon.host.processes()) == 20
    for i in range(20):
        assert daemon.stop(f"w{i}", force=True)[0] == 200
    assert daemon.host.processes() == {}
