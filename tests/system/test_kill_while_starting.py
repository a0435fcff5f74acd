"""The command line is killed with SIGKILL at random moments of a start. Afterwards the rows, the process table and
the ports agree, each time: no process without a row, no row without a process, no port left open.

50 times, seeded; POOL_SOAK=1 makes it 2000.
"""
import os
import random
import signal
import time

from pool_host import is_listening, wait_until

KILLS = 2000 if os.environ.get("POOL_SOAK") else 50
SEED = int(os.environ.get("POOL_SEED", "20251009"))


def whole_start_seconds(host):
    """How long an undisturbed start takes here, so that the kills fall into all of it."""
    spans = []
    for i in range(5):
        began = time.monotonic()
        assert host.spawn(f"measure-{i}").returncode == 0
        spans.append(time.monotonic() - began)
        assert host.run("worker", "stop", f"measure-{i}", "--force").returncode == 0
    return sorted(spans)[2]


def check_agreement(host, moment):
    rows = {row["worker_id"]: row for row in host.rows()}
    processes = host.processes()
    assert sorted(rows) == sorted(processes.values()), f"after a kill at {moment * 1000:.3f} ms"
    for pid, worker_id in processes.items():
        assert rows[worker_id]["pid"] == pid
    return rows


def test_rows_processes_and_ports_agree(host):
    dice = random.Random(SEED)
    span = whole_start_seconds(host)
    n_lived = 0
    for i in range(KILLS):
        moment = dice.uniform(0, span)
        command = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", f"w{i}")
        time.sleep(moment)  # the moment of the kill is what is being varied
        command.send_signal(signal.SIGKILL)
        command.communicate()
        rows = check_agreement(host, moment)
        assert len(rows) <= 1
        span *= 0.9 if rows else 1.1  # a busy machine is slower now than when it was measured, or faster
        for worker_id, row in rows.items():
            n_lived += 1
            wait_until(lambda port=row["port"]: is_listening(port), what=f"port {row['port']}")
            stopped = host.run("worker", "stop", worker_id, "--force")
            assert stopped.returncode == 0, stopped.stderr
            assert not is_listening(row["port"])
        assert check_agreement(host, moment) == {}
    assert 0 < n_lived < KILLS, "the kills were not spread over the whole start"


def test_killed_while_waiting_for_ready(host):
    command = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait", "--arg",
                         "--ready-when", "--arg", host.gate("ready"))
    wait_until(lambda: host.processes(), what="the worker")
    command.send_signal(signal.SIGKILL)
    command.communicate()
    assert [row["status"] for row in host.rows()] == ["spawning"]
    host.open_gate("ready")
    wait_until(lambda: host.rows()[0]["status"] == "ready", what="a later command that notices readiness")
    assert host.run("worker", "stop", "w").returncode == 0
    assert host.processes() == {}


def test_killed_while_stopping(host):
    """A stop that is killed leaves a worker that is stopping; the next stop goes on with it."""
    assert host.spawn("w", "--wait", "--arg", "--ignore-sigterm").returncode == 0
    command = host.start("worker", "stop", "w", "--grace", "600000")
    wait_until(lambda: [row["status"] for row in host.rows()] == ["stopping"], what="the stop")
    command.send_signal(signal.SIGKILL)
    command.communicate()
    assert [row["status"] for row in host.rows()] == ["stopping"]
    assert len(host.processes()) == 1
    assert host.run("worker", "stop", "w", "--grace", "1").returncode == 0
    assert host.processes() == {} and host.rows() == []
