"""A daemon comes while a command waits: waiting keeps no daemon from starting, what the command began is the daemon's from then
on, and the command asks it for the end. And who comes after a stopper that is gone ends what is past its grace.
"""
import json
import os
import signal

import pytest
from pool_host import PATIENCE_S, is_running, wait_until
from test_daemon import Daemon
from test_displace import arguments_of, make_host


@pytest.fixture
def coming(host):
    """A daemon that is not started yet."""
    yield from not_started(host)


@pytest.fixture
def gpu_coming(tmp_path, ports):
    yield from not_started(make_host(tmp_path, ports))


def not_started(host):
    made = Daemon(host)
    yield made
    if made.process and made.process.poll() is None:
        made.kill()
    made.host.stop_everything()


def spawn(host, worker_id, *arguments):
    return host.start("--json", "worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", worker_id, *arguments)


def answer_of(command, status=0):
    out, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == status, out + errors
    return json.loads(out)


def pid_of(host, worker_id):
    wait_until(lambda: [row for row in host.rows() if row["worker_id"] == worker_id and row["pid"]], what="its process")
    return next(row["pid"] for row in host.rows() if row["worker_id"] == worker_id)


@pytest.mark.parametrize("is_told", [False, True], ids=["spawn", "wait"])
def test_a_daemon_comes_while_a_start_is_awaited(coming, is_told):
    host = coming.host
    gate = host.gate("ready")
    waiting = spawn(host, "w", "--wait", "--", "--ready-when", gate)
    pid = pid_of(host, "w")
    if is_told:
        other = host.start("--json", "worker", "wait", "w")
    coming.start()
    assert coming.worker("w")["status"] == "spawning" and waiting.poll() is None
    host.open_gate("ready")
    assert answer_of(waiting)["pid"] == pid
    assert not is_told or answer_of(other)["status"] == "ready"
    assert coming.worker("w")["status"] == "ready" and coming.worker("w")["pid"] == pid
    assert list(host.processes()) == [pid]


def test_a_start_that_fails_under_the_daemon_that_came(coming):
    host = coming.host
    waiting = spawn(host, "w", "--wait", "--", "--ready-when", host.gate("never"), "--say", "out of luck")
    pid = pid_of(host, "w")
    coming.start()
    os.kill(pid, signal.SIGKILL)
    error = answer_of(waiting, 8)["error"]
    assert error["code"] == "WORKER_START_FAILED", error
    assert coming.worker("w")["stop_reason"] == "start_failed" and host.processes() == {}


def test_a_daemon_comes_while_a_stop_is_awaited(coming):
    host = coming.host
    gate = host.gate("end")
    assert host.spawn("w", "--wait", "--grace", "600000", "--", "--term-when", str(gate)).returncode == 0
    stopping = host.start("--json", "worker", "stop", "w")
    wait_until(lambda: host.rows()[0]["status"] == "stopping", what="the stop")
    coming.start()
    assert coming.worker("w")["status"] == "stopping" and stopping.poll() is None
    host.open_gate("end")
    row = answer_of(stopping)
    assert (row["status"], row["stop_reason"]) == ("stopped", "requested")
    assert host.processes() == {}


def test_a_daemon_comes_while_room_is_made(gpu_coming):
    host = gpu_coming.host
    gate = host.gate("end")
    told = ["worker", "spawn", "told", "--model", f"file:{host.model}", "--gpu", "0", "--vram", "20GiB", "--wait"]
    done = host.run(*told, "--id", "a", "--grace", "600000", "--",
                    *arguments_of(host, 20, "--term-when", str(gate)))
    assert done.returncode == 0, done.stderr
    waiting = host.start("--json", *told, "--id", "new", "--may-displace", "a", "--", *arguments_of(host, 20))
    wait_until(lambda: host.rows()[0]["status"] == "stopping", what="the stop of a")
    gpu_coming.start()
    assert waiting.poll() is None
    host.open_gate("end")
    assert answer_of(waiting)["worker_id"] == "new"
    assert gpu_coming.worker("new")["status"] == "ready" and gpu_coming.worker("a")["status"] == "stopped"
    kinds = {record["kind"] for record in host.json("explain", "new")["explanations"]}
    assert kinds == {"start"}, "the command decided nothing, and says so in no record"


def test_the_daemon_is_killed_while_room_is_made(gpu_coming):
    """The command goes on by itself; the displaced worker, which does not hear, is killed when its grace is over."""
    host = gpu_coming.host
    gpu_coming.start()
    told = ["worker", "spawn", "told", "--model", f"file:{host.model}", "--gpu", "0", "--vram", "20GiB", "--wait"]
    done = host.run(*told, "--id", "a", "--grace", "1500", "--", *arguments_of(host, 20, "--ignore-sigterm"))
    assert done.returncode == 0, done.stderr
    waiting = host.start("--json", *told, "--id", "new", "--may-displace", "a", "--", *arguments_of(host, 20))
    wait_until(lambda: gpu_coming.worker("a")["status"] == "stopping", what="the stop of a")
    gpu_coming.kill()
    assert answer_of(waiting)["worker_id"] == "new"
    assert [row["worker_id"] for row in host.rows()] == ["new"]
    assert host.all_rows()["a"]["stop_reason"] == "requested"


def test_and_a_new_daemon_can_start_meanwhile(gpu_coming):
    host = gpu_coming.host
    gate = host.gate("end")
    gpu_coming.start()
    told = ["worker", "spawn", "told", "--model", f"file:{host.model}", "--gpu", "0", "--vram", "20GiB", "--wait"]
    done = host.run(*told, "--id", "a", "--grace", "600000", "--", *arguments_of(host, 20, "--term-when", str(gate)))
    assert done.returncode == 0, done.stderr
    waiting = host.start("--json", *told, "--id", "new", "--may-displace", "a", "--", *arguments_of(host, 20))
    wait_until(lambda: gpu_coming.worker("a")["status"] == "stopping", what="the stop of a")
    for _ in range(2):
        gpu_coming.kill()
        gpu_coming.start()
    assert waiting.poll() is None
    host.open_gate("end")
    assert answer_of(waiting)["worker_id"] == "new"
    assert gpu_coming.worker("new")["status"] == "ready"


# ---- past its grace


def interrupted(host):
    stopping = host.start("worker", "stop", "w")
    wait_until(lambda: host.rows()[0]["status"] == "stopping", what="the stop")
    stopping.send_signal(signal.SIGINT)
    _, errors = stopping.communicate(timeout=PATIENCE_S)
    assert stopping.returncode == 130 and "goes on stopping" in errors


def killed(host):
    stopping = host.start("worker", "stop", "w")
    wait_until(lambda: host.rows()[0]["status"] == "stopping", what="the stop")
    stopping.kill()
    stopping.communicate(timeout=PATIENCE_S)


def not_awaited(host):
    assert host.run("worker", "stop", "w", "--no-wait").returncode == 0


@pytest.mark.parametrize("stop", [interrupted, killed, not_awaited])
def test_who_comes_next_ends_what_is_past_its_grace(host, stop):
    assert host.spawn("w", "--wait", "--grace", "1500", "--", "--ignore-sigterm").returncode == 0
    pid = host.rows()[0]["pid"]
    stop(host)
    (row,) = host.rows()
    assert row["status"] == "stopping" and row["kill_at_boottime_ns"] > row["ready_boottime_ns"]
    wait_until(lambda: host.rows() == [], what="its end")  # by these very commands
    assert not is_running(pid) and host.processes() == {}
    assert host.all_rows()["w"]["stop_reason"] == "requested"


def test_nobody_is_killed_before_his_grace_is_over(host):
    gate = host.gate("end")
    assert host.spawn("w", "--wait", "--grace", "1", "--", "--term-when", str(gate)).returncode == 0
    assert host.run("worker", "stop", "w", "--no-wait", "--grace", "600000").returncode == 0
    for words in (["list"], ["show", "w"], ["list", "--all"]):
        assert host.run("worker", *words).returncode == 0
    (row,) = host.rows()
    assert row["status"] == "stopping" and row["stop_phase"] == "term" and is_running(row["pid"])
    host.open_gate("end")
    wait_until(lambda: host.rows() == [], what="its end")


def test_a_daemon_gives_what_is_left_of_the_grace(coming):
    host = coming.host
    assert host.spawn("w", "--wait", "--grace", "600000", "--", "--ignore-sigterm").returncode == 0
    assert host.run("worker", "stop", "w", "--no-wait", "--grace", "1000").returncode == 0
    coming.start()
    wait_until(lambda: coming.worker("w")["status"] == "stopped", what="its end")  # not in ten minutes
    assert coming.worker("w")["stop_reason"] == "requested"
