"""The daemon's log: JSON lines with the request they belong to, text on a terminal, the journal's protocol under systemd,
and a daemon that does not wait for whoever reads it.
"""
import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess

import pytest
from pool_host import BUILD, ROOT, Host, wait_until
from test_daemon import Daemon

PROGRAM = BUILD / "bin" / "pool-managerd"
EVENTS = dict(re.findall(r'X\(\w+, "([a-z.0-9_]+)", (\w+),', (ROOT / "src/managerd/log_events.h").read_text()))


@pytest.fixture
def daemon(tmp_path, ports):
    made = Daemon(Host(tmp_path, ports))
    made.host.environment["POOL_LOG_LEVEL"] = "debug"
    yield made
    if made.process and made.process.poll() is None:
        made.kill()
    made.host.stop_everything()


def lines(daemon, **wanted):
    found = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    return [line for line in found if all(line.get(name) == value for name, value in wanted.items())]


def test_the_events_are_documented():
    rows = re.findall(r"^\| `([a-z.0-9_]+)` \| (\w+) \|", (ROOT / "docs" / "daemon.md").read_text(), re.M)
    assert {name: level.upper() for name, level in rows} == EVENTS
    assert len(EVENTS) > 30


def test_lines_say_which_request_they_belong_to(daemon):
    """From the request over the change of state that it leads to, to its answer; and nothing else has its id."""
    daemon.start()
    request = {"backend": "fake", "model_ref": f"file:{daemon.host.model}", "worker_id": "w", "wait": True}
    assert daemon.ask("POST", "/v2/workers/start", request, {"X-Correlation-Id": "start-1"})[0] == 200
    assert daemon.ask("POST", "/v2/workers/start", request, {"X-Correlation-Id": "again-1"})[0] == 409
    assert daemon.ask("POST", "/v2/workers/stop", {"worker_id": "w", "wait": True}, {"X-Correlation-Id": "stop-1"})[0] == 200
    _, _, headers = daemon.get("/v2/state")
    wait_until(lambda: lines(daemon, correlation_id=headers["X-Correlation-Id"]), 60, "the last line")
    for line in lines(daemon):
        assert EVENTS[line["event"]].lower() == line["level"], line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["message"]
    events = [line["event"] for line in lines(daemon, correlation_id="start-1")]
    assert events[0] == "worker.spawning" and {"worker.ready", "start.succeeded", "http.changed"} <= set(events)
    events = [line["event"] for line in lines(daemon, correlation_id="stop-1")]
    assert {"worker.stopping", "worker.stopped", "http.changed"} <= set(events)
    assert {"start.failed", "http.changed"} == {line["event"] for line in lines(daemon, correlation_id="again-1")}
    starts = [line for line in lines(daemon) if line["event"].startswith("start.")]
    assert [(line["event"], line["worker_id"], line["code"]) for line in starts] == [
        ("start.succeeded", "w", "OK"), ("start.failed", "w", "ALREADY_EXISTS")]
    (ready,) = lines(daemon, event="worker.ready")
    assert ready["worker_id"] == "w" and ready["port"] > 0 and ready["pid"] > 0
    (stopped,) = lines(daemon, event="worker.stopped")
    assert stopped["reason"] == "requested"
    (changed,) = lines(daemon, event="http.changed", correlation_id="start-1")
    assert changed["caller"] == f"uid:{os.getuid()}" and changed["peer"] == f"unix:{os.getuid()}"
    assert (changed["method"], changed["route"], changed["http_status"]) == ("POST", "/v2/workers/start", 200)


def test_debugging_without_a_restart(daemon):
    """SIGUSR1 tells everything, another one goes back; the lines between are those that debug has."""
    daemon.host.environment["POOL_LOG_LEVEL"] = "warning"
    daemon.start()
    for n, level in ((1, "debug"), (2, "warning"), (3, "debug")):
        daemon.process.send_signal(signal.SIGUSR1)
        wait_until(lambda n=n: len(lines(daemon, event="log.level")) == n, 60, "the change")
        assert lines(daemon, event="log.level")[-1]["message"] == level
        _, _, headers = daemon.get("/v2/state")
        if level == "debug":
            wait_until(lambda h=headers: lines(daemon, correlation_id=h["X-Correlation-Id"]), 60, "the request's line")
    assert daemon.kill(signal.SIGTERM) == 0


def test_a_death_nobody_asked_for_belongs_to_no_request(daemon):
    daemon.start()
    assert daemon.ask("POST", "/v2/workers/start", {"backend": "fake", "model_ref": f"file:{daemon.host.model}",
                                                    "worker_id": "w", "wait": True})[0] == 200
    os.kill(next(iter(daemon.host.processes())), signal.SIGKILL)
    wait_until(lambda: lines(daemon, event="worker.stopped"), 60, "the line")
    (stopped,) = lines(daemon, event="worker.stopped")
    assert stopped["reason"] == "signalled" and "correlation_id" not in stopped


def test_denials_do_not_fill_the_log(daemon, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"read reader {'ab' * 32}\n")
    daemon.host.environment["POOL_DAEMON_TOKEN_FILE"] = str(tokens)
    daemon.start()
    port = int(re.findall(r"\(port (\d+)\)", daemon.log.read_text())[-1])
    for _ in range(40):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"GET /v2/state HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guessed\r\n"
                           b"Connection: close\r\n\r\n")
            assert client.makefile("rb").readline().split()[1] == b"401"
    daemon.kill(signal.SIGTERM)
    denied = lines(daemon, event="access.denied")
    # ten for each ten seconds that the slowest machine took, and one to say how many there were
    assert 10 <= len(denied) < 40 and all(line["code"] == "UNAUTHENTICATED" for line in denied[:10])
    assert denied[0]["peer"].startswith("127.0.0.1:") and denied[0]["route"] == "/v2/state"
    assert "guessed" not in daemon.log.read_text()


def test_text_on_a_terminal(daemon):
    """And the terminal is not asked to do anything: what a worker is called there cannot move its cursor."""
    master, slave = pty.openpty()
    daemon.process = subprocess.Popen([PROGRAM, "--config", daemon.host.config], env=daemon.host.environment,
                                      stdin=subprocess.DEVNULL, stdout=slave, stderr=slave)
    os.close(slave)
    wait_until(daemon.is_answering, 60, "the daemon")
    daemon.kill(signal.SIGTERM)
    shown = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while True:
            shown += os.read(master, 65536)
    os.close(master)
    text = shown.decode().replace("\r\n", "\n")
    assert re.search(r"^\S+Z info +daemon\.started: pool-managerd ", text, re.M), text
    assert "{" not in text


def test_who_does_not_read_does_not_stop_it(daemon):
    """Standard error is a pipe that nobody reads, and full."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    daemon.process = subprocess.Popen([PROGRAM, "--config", daemon.host.config], env=daemon.host.environment,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    wait_until(daemon.is_answering, 60, "the daemon")
    for _ in range(100):  # each with a line
        assert daemon.get("/v2/state")[0] == 200
    request = {"backend": "fake", "model_ref": f"file:{daemon.host.model}", "worker_id": "w", "wait": True}
    assert daemon.ask("POST", "/v2/workers/start", request)[0] == 200
    data = b""
    while b"log.dropped" not in data:  # told as soon as there is room and something to tell
        assert select.select([reading], [], [], 60)[0], data
        data += os.read(reading, 65536)
        assert daemon.get("/v2/state")[0] == 200
    assert daemon.stop("w")[0] == 200
    for line in data.decode().splitlines():
        assert json.loads(line)["event"] in EVENTS
    os.close(reading)  # and now it is broken
    assert daemon.get("/v2/state")[0] == 200
    assert daemon.kill(signal.SIGTERM) == 0


def test_no_standard_error_at_all(daemon):
    """Its descriptor is not given to the database, whose file would then be written into."""
    daemon.process = subprocess.Popen(["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", PROGRAM, "--config", daemon.host.config],
                                      env=daemon.host.environment)
    wait_until(daemon.is_answering, 60, "the daemon")
    assert [os.readlink(f"/proc/{daemon.process.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    assert daemon.kill(signal.SIGTERM) == 0
    assert daemon.host.json("worker", "list")["workers"] == []


# ---- the journal, played by this test at its own place, in a mount namespace of the daemon ----


@pytest.fixture
def journal(tmp_path):
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be had")
    folder = tmp_path / "run"
    (folder / "systemd" / "journal").mkdir(parents=True)
    entries = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    entries.bind(str(folder / "systemd" / "journal" / "socket"))
    entries.settimeout(60)
    yield entries
    entries.close()


def under_systemd(daemon, stderr):
    folder = daemon.host.directory / "run"
    seen = os.fstat(stderr)
    environment = {**daemon.host.environment, "JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}
    daemon.process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f'mount --bind {folder} /run && exec "$@"', "sh", PROGRAM, "--config",
         daemon.host.config], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)


def entry(datagram):
    return dict(line.split("=", 1) for line in datagram.decode().splitlines())


def test_the_journal(daemon, journal):
    ours, theirs = socket.socketpair()
    under_systemd(daemon, theirs.fileno())
    wait_until(daemon.is_answering, 60, "the daemon")
    request = {"backend": "fake", "model_ref": f"file:{daemon.host.model}", "worker_id": "w", "wait": True}
    assert daemon.ask("POST", "/v2/workers/start", request, {"X-Correlation-Id": "start-1"})[0] == 200
    entries = []
    while not entries or entries[-1]["POOL_EVENT"] != "http.changed":
        entries.append(entry(journal.recv(65536)))
    started = next(e for e in entries if e["POOL_EVENT"] == "daemon.started")
    assert started["PRIORITY"] == "6" and started["SYSLOG_IDENTIFIER"] == "pool-managerd"
    ready = next(e for e in entries if e["POOL_EVENT"] == "worker.ready")
    assert ready["POOL_WORKER_ID"] == "w" and ready["POOL_CORRELATION_ID"] == "start-1" and int(ready["POOL_PORT"]) > 0
    assert entries[-1]["POOL_HTTP_STATUS"] == "200"
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(1)  # nothing twice
    journal.close()  # it is restarted: the daemon does not end for that
    assert daemon.get("/v2/state")[0] == 200
    assert daemon.kill(signal.SIGTERM) == 0
    ours.close()
    theirs.close()


def test_a_journal_that_does_not_take_it(daemon, journal):
    """Its queue is full and it reads nothing: the daemon goes on."""
    ours, theirs = socket.socketpair()
    under_systemd(daemon, theirs.fileno())
    wait_until(daemon.is_answering, 60, "the daemon")
    limit = int(pathlib.Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    for _ in range(limit + 20):
        assert daemon.get("/v2/state")[0] == 200
    assert daemon.kill(signal.SIGTERM) == 0
    dropped = []
    journal.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            dropped.append(entry(journal.recv(65536))["POOL_EVENT"])
    assert "daemon.started" in dropped
    ours.close()
    theirs.close()
