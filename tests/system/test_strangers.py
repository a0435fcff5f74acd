"""What is never touched: whoever reads a worker's log, and the next start of an id that somebody is still stopping or
waiting for.
"""
import os
import signal
import subprocess

from pool_host import PATIENCE_S, is_running, wait_until



def test_readers_of_a_log_are_strangers(host):
    assert host.spawn("w", "--wait", "--arg", "--grandchildren", "--arg", "1").returncode == 0
    log = host.state_dir / "logs" / "w.log"
    reader = subprocess.Popen(["tail", "-f", log], stdout=subprocess.DEVNULL)
    follower = host.start("worker", "logs", "-f", "w")
    try:
        wait_until(lambda: any(os.path.realpath(f"/proc/{reader.pid}/fd/{fd}") == str(log)
                               for fd in os.listdir(f"/proc/{reader.pid}/fd")))
        assert host.run("worker", "stop", "w", "--force").returncode == 0
        assert host.processes() == {}
        assert reader.poll() is None and follower.wait(timeout=PATIENCE_S) == 0
    finally:
        reader.kill()
        reader.wait()


def test_a_late_stop_does_not_touch_the_next_start(host):
    assert host.spawn("w", "--wait", "--arg", "--term-takes-ms", "--arg", "600000").returncode == 0
    first = next(iter(host.processes()))
    stopper = host.start("worker", "stop", "w", "--grace", "300000")
    wait_until(lambda: [row["status"] for row in host.rows()] == ["stopping"])
    stopper.send_signal(signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: host.rows() == [])
    assert host.spawn("w", "--wait").returncode == 0
    second = next(iter(host.processes()))
    stopper.send_signal(signal.SIGCONT)
    assert stopper.wait(timeout=PATIENCE_S) == 0
    assert is_running(second) and [row["pid"] for row in host.rows()] == [second]


def test_a_late_wait_does_not_touch_the_next_start(host):
    waiter = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait", "--arg",
                        "--never-ready")
    wait_until(lambda: [row["status"] for row in host.rows()] == ["spawning"])
    waiter.send_signal(signal.SIGSTOP)
    assert host.run("worker", "stop", "w", "--force").returncode == 0
    assert host.spawn("w", "--wait").returncode == 0
    waiter.send_signal(signal.SIGCONT)
    assert waiter.wait(timeout=PATIENCE_S) in (5, 8)  # it found another start, or its own gone
    assert [row["status"] for row in host.rows()] == ["ready"] and len(host.processes()) == 1
