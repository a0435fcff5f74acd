"""What the daemon sees of workers that serve, and what it makes of it: busy and idle, healthy and not, idle timeouts,
drains. Workers are the fake one, and at the end a real llama-server.
"""
import http.client
import json
import os
import pathlib
import shutil
import signal
import threading
import time

import pytest
from pool_host import FAKE_NVML, PATIENCE_S, Host, wait_until
from test_daemon import Daemon, UnixConnection

ENGINE = os.environ.get("POOL_LLAMA_SERVER")


def listen(daemon):
    """Fills daemon.changes with the names of the events from now on."""
    connection = UnixConnection(daemon.socket)
    connection.request("GET", "/v2/events")
    answer = connection.getresponse()

    def read():
        try:
            for line in answer:
                if line.startswith(b"event: worker."):
                    daemon.changes.append(line.decode().removeprefix("event: worker.").strip())
        except (OSError, http.client.HTTPException):
            pass  # the daemon is gone

    threading.Thread(target=read, daemon=True).start()


@pytest.fixture
def start(tmp_path, ports):
    """Starts a daemon whose backend tells its requests as `activity` says; every 100 ms, unless a test says otherwise."""
    made = []

    def start_daemon(activity="llama-server", host=None, **variables):
        host = host or Host(tmp_path, ports, config=f'activity = "{activity}"\n')
        host.environment |= {"POOL_WORKERS_HEALTH_INTERVAL_MS": "100", **variables}
        daemon = Daemon(host)
        made.append(daemon)
        daemon.start()
        daemon.changes = []
        listen(daemon)
        return daemon

    yield start_daemon
    for daemon in made:
        if daemon.process.poll() is None:
            daemon.kill()
        daemon.host.stop_everything()


def begin(daemon, worker_id, *arguments, **fields):
    status, answer, _ = daemon.begin(worker_id, *arguments, wait=True, **fields)
    assert status == 200, answer
    return answer


def tell(worker, path):
    connection = http.client.HTTPConnection("127.0.0.1", worker["port"], timeout=PATIENCE_S)
    connection.request("POST", path)
    assert connection.getresponse().status == 200
    connection.close()


def statuses(daemon):
    """What a worker went through, each once in a row."""
    found = list(daemon.changes)
    return [s for i, s in enumerate(found) if i == 0 or found[i - 1] != s]


def has(daemon, worker_id, **fields):
    worker = daemon.worker(worker_id)
    return worker is not None and all(worker[name] == value for name, value in fields.items())


def wait_for(daemon, worker_id, seconds=PATIENCE_S, **fields):
    wait_until(lambda: has(daemon, worker_id, **fields), seconds, f"{fields} (it is {daemon.worker(worker_id)})")


# ---- activity


@pytest.mark.parametrize("activity", ["llama-server", "vllm"])
def test_requests_make_a_worker_busy_and_idle(start, activity):
    daemon = start(activity)
    worker = begin(daemon, "w")
    tell(worker, "/fake/busy?ms=600000")
    wait_for(daemon, "w", status="busy")
    tell(worker, "/fake/busy?ms=0")
    wait_for(daemon, "w", status="idle")
    wait_until(lambda: statuses(daemon)[-3:] == ["ready", "busy", "idle"], what="the events")


def test_a_worker_that_does_not_say_stays_ready(start):
    daemon = start("none")
    worker = begin(daemon, "quiet", idle_timeout_ms=100)
    other = begin(daemon, "other")
    tell(worker, "/fake/busy?ms=600000")
    for status in (500, 0):  # several looks pass by
        tell(other, f"/fake/health?status={status}")
        wait_for(daemon, "other", healthy=status == 0)
    assert has(daemon, "quiet", status="ready", healthy=True)


# ---- health


def test_three_misses_make_a_worker_unhealthy(start):
    daemon = start()
    worker = begin(daemon, "w")
    tell(worker, "/fake/health?status=500")
    wait_for(daemon, "w", healthy=False, status="ready")
    assert "500" in daemon.worker("w")["health_reason"]
    tell(worker, "/fake/health?status=0")
    wait_for(daemon, "w", healthy=True, health_reason=None, status="ready")


def test_a_worker_that_hangs_is_unhealthy_until_it_answers(start):
    daemon = start()
    worker = begin(daemon, "w")
    os.kill(worker["pid"], signal.SIGSTOP)
    began = time.monotonic()
    wait_for(daemon, "w", healthy=False)
    assert time.monotonic() - began > 3.9  # two whole time limits passed, and a third, or what was left of one
    assert has(daemon, "w", status="ready")
    os.kill(worker["pid"], signal.SIGCONT)
    wait_for(daemon, "w", healthy=True)


def test_an_unhealthy_worker_is_stopped_where_that_is_asked_for(start):
    daemon = start(POOL_WORKERS_ON_UNHEALTHY="stop")
    worker = begin(daemon, "sick")
    begin(daemon, "well")
    tell(worker, "/fake/health?status=503")
    wait_for(daemon, "sick", status="stopped", stop_reason="unhealthy")
    assert has(daemon, "well", status="ready", healthy=True)


# ---- idle timeout


def test_a_worker_that_nobody_uses_is_stopped(start):
    daemon = start()
    begin(daemon, "brief", idle_timeout_ms=500)
    begin(daemon, "long")
    wait_for(daemon, "brief", status="stopped", stop_reason="idle_timeout")
    assert has(daemon, "long", status="ready")


def test_a_busy_worker_is_not_idle(start):
    daemon = start()
    worker = begin(daemon, "w", idle_timeout_ms=800)
    tell(worker, "/fake/busy?ms=6000000")
    wait_for(daemon, "w", status="busy")
    begin(daemon, "other", idle_timeout_ms=1600)  # when this one is over, that of a free one would be too
    wait_for(daemon, "other", status="stopped", stop_reason="idle_timeout")
    assert has(daemon, "w", status="busy")
    released = time.monotonic()
    tell(worker, "/fake/busy?ms=0")
    wait_for(daemon, "w", status="stopped", stop_reason="idle_timeout")
    assert time.monotonic() - released >= 0.7  # from the end of the request, seen at most one look later


# ---- drain


def drain(daemon, worker_id, **fields):
    status, answer, _ = daemon.ask("POST", f"/v2/workers/{worker_id}/drain", fields)
    return status, answer


def test_a_drain_waits_for_requests(start):
    daemon = start()
    worker = begin(daemon, "w")
    tell(worker, "/fake/busy?ms=6000000")
    status, answer = drain(daemon, "w")
    assert status == 202 and (answer["status"], answer["stop_phase"]) == ("stopping", "drain"), answer
    joined = []
    second = threading.Thread(target=lambda: joined.append(drain(daemon, "w", wait=True)))
    second.start()
    assert has(daemon, "w", status="stopping", stop_phase="drain") and worker["pid"] in daemon.host.processes()
    tell(worker, "/fake/busy?ms=0")
    second.join()
    (status, answer), = joined
    assert status == 200 and (answer["status"], answer["stop_reason"]) == ("stopped", "requested"), answer
    assert daemon.host.processes() == {}


def test_a_drain_is_bounded(start):
    daemon = start()
    worker = begin(daemon, "w")
    tell(worker, "/fake/busy?ms=600000")
    status, answer = drain(daemon, "w", wait=True, timeout_ms=300)
    assert status == 200 and answer["status"] == "stopped", answer


def test_a_drain_of_a_worker_that_does_not_say_is_a_stop(start):
    daemon = start("none")
    worker = begin(daemon, "w")
    tell(worker, "/fake/busy?ms=600000")
    status, answer, _ = daemon.ask("POST", "/v2/workers/w/drain")
    assert status == 202 and answer["stop_phase"] == "term", answer
    wait_for(daemon, "w", status="stopped", stop_reason="requested")


def test_a_drain_outlives_its_daemon(start):
    daemon = start()
    worker = begin(daemon, "w")
    tell(worker, "/fake/busy?ms=600000")
    assert drain(daemon, "w")[0] == 202
    daemon.kill()
    daemon.start()
    assert has(daemon, "w", status="stopping", stop_phase="drain")
    assert worker["pid"] in daemon.host.processes()
    tell(worker, "/fake/busy?ms=0")
    wait_for(daemon, "w", status="stopped", stop_reason="requested")


def test_a_draining_worker_can_be_stopped_and_can_die(start):
    daemon = start()
    for worker_id in ("stop", "die"):
        tell(begin(daemon, worker_id), "/fake/busy?ms=600000")
        assert drain(daemon, worker_id)[0] == 202
    status, answer, _ = daemon.stop("stop")
    assert status == 200 and answer["status"] == "stopped"
    os.kill(daemon.worker("die")["pid"], signal.SIGKILL)
    wait_for(daemon, "die", status="stopped", exit_signal=9)


@pytest.mark.parametrize("worker_id, body, code, field", [
    ("nobody", {}, "WORKER_NOT_FOUND", None),
    ("-", {}, "INVALID_REQUEST", None),
    ("w", {"nonsense": 1}, "INVALID_REQUEST", "nonsense"),
    ("w", {"timeout_ms": -1}, "INVALID_REQUEST", "timeout_ms"),
    ("w", {"timeout_ms": 1.5}, "INVALID_REQUEST", "timeout_ms"),
    ("w", {"wait": 1}, "INVALID_REQUEST", "wait"),
    ("w", [], "INVALID_REQUEST", None),
    ("w", b"{", "INVALID_REQUEST", None),
])
def test_drains_that_are_refused(start, worker_id, body, code, field):
    daemon = start()
    begin(daemon, "w")
    _, answer, _ = daemon.ask("POST", f"/v2/workers/{worker_id}/drain", body)
    assert answer["error"]["code"] == code, answer
    assert field is None or answer["error"]["details"]["field"] == field
    assert has(daemon, "w", status="ready")


# ---- a real engine


@pytest.mark.skipif(not ENGINE, reason="POOL_LLAMA_SERVER does not name a llama-server")
def test_probes_are_no_activity_of_a_real_engine(start, tmp_path, ports):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "llama-server").symlink_to(pathlib.Path(shutil.which(ENGINE)).resolve())
    host = Host(tmp_path, ports, config=f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\n')
    host.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    daemon = start(host=host)
    status, worker, _ = daemon.ask("POST", "/v2/workers/start", {
        "backend": "cpu", "model_ref": f"file:{host.model}", "worker_id": "unused", "wait": True,
        "idle_timeout_ms": 2500})
    assert status == 200, worker
    wait_for(daemon, "unused", status="stopped", stop_reason="idle_timeout")
    assert "busy" not in statuses(daemon)

    status, worker, _ = daemon.ask("POST", "/v2/workers/start", {
        "backend": "cpu", "model_ref": f"file:{host.model}", "worker_id": "used", "wait": True})
    assert status == 200, worker
    connection = http.client.HTTPConnection("127.0.0.1", worker["port"], timeout=PATIENCE_S)
    connection.request("POST", "/completion", json.dumps({"prompt": "hello", "n_predict": 2}))
    assert connection.getresponse().status == 200
    connection.close()
    wait_for(daemon, "used", status="idle")  # also when no look saw it at work
    wait_until(lambda: statuses(daemon)[-3:] == ["ready", "busy", "idle"], what="the events")
    assert has(daemon, "used", healthy=True)
    assert drain(daemon, "used", wait=True)[1]["status"] == "stopped"
