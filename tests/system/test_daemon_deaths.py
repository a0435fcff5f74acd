"""Every way in which a worker can die, and what is said of it: reason, exit code or signal, in the list of all and by an
event. All of them die at once, side by side.
"""
import http.client
import os
import pathlib
import signal
import uuid

import pytest
from pool_host import PATIENCE_S, Host, is_running, wait_until
from test_daemon import Daemon



@pytest.fixture
def daemon(tmp_path, ports):
    host = Host(tmp_path, ports, config='activity = "llama-server"\n')
    host.environment |= {"POOL_WORKERS_HEALTH_INTERVAL_MS": "100", "POOL_WORKERS_ON_UNHEALTHY": "stop"}
    daemon = Daemon(host)
    daemon.start()
    yield daemon
    if daemon.process.poll() is None:
        daemon.kill()
    host.stop_everything()


def ended(daemon):
    rows = daemon.get("/v2/workers?all=1")[1]["workers"]
    return {w["worker_id"]: (w["stop_reason"], w["exit_code"], w["exit_signal"]) for w in rows
            if w["status"] == "stopped"}


def tell(worker, path):
    connection = http.client.HTTPConnection("127.0.0.1", worker["port"], timeout=PATIENCE_S)
    connection.request("POST", path)
    connection.getresponse().read()
    connection.close()


def test_each_death_has_its_reason(daemon):
    expected = {}

    def begin(worker_id, outcome, *arguments, **fields):
        status, answer, _ = daemon.begin(worker_id, *arguments, **fields)
        assert status in (200, 202), answer
        expected[worker_id] = outcome
        return answer

    # before it is ready
    begin("at-once", ("start_failed", 3, None), "--exit-at-once", "--exit-code", 3)
    begin("loading", ("start_failed", 7, None), "--never-ready", "--crash-after-ms", 200, "--exit-code", 7)
    begin("shot", ("start_failed", None, signal.SIGSEGV), "--never-ready", "--crash-after-ms", 200, "--crash-signal",
          "SEGV")
    begin("never", ("start_timeout", None, signal.SIGKILL), "--never-ready", start_timeout_ms=500)
    # while it serves: by itself, by a signal
    exits = {code: begin(f"exits-{code}", ("exited", code, None), wait=True) for code in (0, 1, 42, 255)}
    shot = {name: begin(f"by-{name}", ("signalled", None, getattr(signal, f"SIG{name}")), wait=True)["pid"]
            for name in ("SEGV", "ABRT", "KILL", "BUS", "FPE", "ILL")}
    # because nobody asks it anything, because it does not answer, because somebody wants it to end
    begin("idle", ("idle_timeout", 0, None), wait=True, idle_timeout_ms=1000)
    mute = begin("mute", ("unhealthy", 0, None), wait=True)
    begin("asked", ("requested", 0, None), wait=True)
    begin("deaf", ("requested", None, signal.SIGKILL), "--ignore-sigterm", wait=True)
    begin("forced", ("requested", None, signal.SIGKILL), "--ignore-sigterm", wait=True)
    begin("family", ("requested", 0, None), "--grandchildren", 2, "--grandchildren-leave-session",
          "--grandchildren-ignore-sigterm", wait=True)
    for worker_id, how in (("asked", {}), ("deaf", {"grace_ms": 300}), ("forced", {"force": True}),
                           ("family", {"grace_ms": 500})):
        assert daemon.stop(worker_id, wait=False, **how)[0] in (200, 202)
    tell(mute, "/fake/health?status=500")
    for code, worker in exits.items():
        tell(worker, f"/fake/exit?code={code}")
    for name, pid in shot.items():
        os.kill(pid, getattr(signal, f"SIG{name}"))

    wait_until(lambda: sorted(ended(daemon)) == sorted(expected),
               what=f"every end ({sorted(set(expected) - set(ended(daemon)))} are left)")
    assert ended(daemon) == expected
    assert daemon.get("/v2/state")[1]["workers"] == [] and daemon.host.processes() == {}
    assert daemon.get("/v2/state")[1]["host_memory"]["allocated_bytes"] == 0


def test_one_that_died_unwatched_is_lost(daemon):
    pid = daemon.begin("w", wait=True)[1]["pid"]
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    daemon.start()
    assert daemon.worker("w")["stop_reason"] == "lost"


def test_the_phase_says_what_a_stop_is_at(daemon):
    """Its own grace first; and whoever forces it does not wait for that."""
    assert daemon.begin("w", "--ignore-sigterm", wait=True)[0] == 200
    assert daemon.stop("w", wait=False, grace_ms=3600000)[0] == 202
    assert (daemon.worker("w")["status"], daemon.worker("w")["stop_phase"]) == ("stopping", "term")
    status, stopped, _ = daemon.stop("w", force=True)
    assert (status, stopped["stop_reason"], stopped["exit_signal"]) == (200, "requested", signal.SIGKILL)


def test_a_forced_stop_cuts_the_grace_of_what_is_left(daemon):
    """Its main process has ended, its child ignores the signal and has an hour: until somebody forces it."""
    status, worker, _ = daemon.begin("w", "--grandchildren", 1, "--grandchildren-leave-session",
                                     "--grandchildren-ignore-sigterm", wait=True)
    assert status == 200
    assert daemon.stop("w", wait=False, grace_ms=3600000)[0] == 202
    wait_until(lambda: not is_running(worker["pid"]), what="the end of the main process")
    assert len(daemon.host.processes()) == 1 and daemon.worker("w")["status"] == "stopping"
    assert daemon.stop("w", force=True)[0] == 200
    assert daemon.host.processes() == {}


def test_workers_are_stopped_on_exit_where_that_is_asked_for(daemon):
    daemon.kill()
    with open(daemon.host.config, "a", encoding="utf-8") as config:
        config.write("stop_workers_on_exit = true\n")  # the last table is the daemon's
    daemon.start()
    assert daemon.begin("w", wait=True)[0] == 200
    assert daemon.begin("loading", "--never-ready")[0] == 202
    assert daemon.begin("deaf", "--ignore-sigterm", wait=True, stop_grace_ms=300)[0] == 200
    assert daemon.kill(signal.SIGTERM) == 0
    assert daemon.host.processes() == {}
    reasons = {row["worker_id"]: row["stop_reason"] for row in daemon.host.all_rows().values()}
    assert reasons == {"w": "requested", "loading": "requested", "deaf": "requested"}


def test_one_that_does_not_answer_is_not_called_ready_again(daemon):
    """It was ready when the daemon was killed. The next daemon asks, gets no answer, and says so until it gets one."""
    daemon.kill()
    daemon.host.environment["POOL_WORKERS_ON_UNHEALTHY"] = "report"
    daemon.start()
    worker = daemon.begin("w", wait=True)[1]
    assert daemon.begin("fine", wait=True)[0] == 200
    daemon.kill()
    os.kill(worker["pid"], signal.SIGSTOP)
    daemon.start()
    row = daemon.worker("w")
    assert (row["status"], row["healthy"], row["pid"]) == ("ready", False, worker["pid"]) and row["health_reason"]
    assert daemon.worker("fine")["healthy"] is True
    os.kill(worker["pid"], signal.SIGCONT)
    wait_until(lambda: daemon.worker("w")["healthy"], what="the proof")
    assert daemon.worker("w")["port_proof"] == "process_tree"
    assert daemon.stop("w")[0] == 200


FREEZER = pathlib.Path("/sys/fs/cgroup/freezer")  # of version 1: what is frozen there does not die of SIGKILL


@pytest.fixture
def freezer():
    path = FREEZER / f"pool-test-{uuid.uuid4().hex}"
    try:
        path.mkdir()
    except OSError:
        pytest.skip("nothing can be frozen here")
    yield path
    (path / "freezer.state").write_text("THAWED")
    wait_until(lambda: (path / "cgroup.procs").read_text() == "", what="the end of what was frozen")
    path.rmdir()


@pytest.mark.skipif(not os.environ.get("POOL_SOAK"), reason="waits half a minute for a kill: POOL_SOAK=1")
def test_one_that_can_not_be_killed_is_named_and_not_forgotten(daemon, freezer):
    """As one that is stuck in a driver: its row, its port and its bytes stay until it is gone after all."""
    pid = daemon.begin("w", wait=True)[1]["pid"]
    (freezer / "cgroup.procs").write_text(str(pid))
    (freezer / "freezer.state").write_text("FROZEN")
    status, answer, _ = daemon.stop("w", force=True)
    assert (status, answer["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
    assert answer["error"]["details"]["pids"] == str(pid)
    wait_until(lambda: daemon.worker("w")["health_reason"], what="its name in the row")
    row = daemon.worker("w")
    assert (row["status"], row["stop_phase"], row["healthy"]) == ("stopping", "kill", False)
    assert str(pid) in row["health_reason"]
    assert daemon.get("/v2/state")[1]["host_memory"]["allocated_bytes"] == row["reserved_memory_bytes"]
    assert daemon.kill(signal.SIGTERM) == 0  # and it does not keep the daemon
    daemon.start()
    assert daemon.worker("w")["status"] == "stopping"
    (freezer / "freezer.state").write_text("THAWED")
    wait_until(lambda: daemon.worker("w")["status"] == "stopped", what="its end after all")
    assert (daemon.worker("w")["stop_reason"], daemon.worker("w")["exit_signal"]) == ("requested", signal.SIGKILL)
