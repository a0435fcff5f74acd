"""What an orchestrator is told (contract, section 7), by a running daemon, and what an orchestrator that is down, slow, or
talks nonsense does to the pool: nothing. The orchestrator is a server of the test's.
"""
import http.client
import json
import os
import re
import signal
import socket
import threading
import time

import pytest
from pool_host import Host, wait_until
from test_daemon import Daemon

HOUR_MS = 3600_000
GPU = "GPU-00000000-0000-4000-8000-000000000001"


class Orchestrator:
    """Keeps what it is told, and answers as `self.answer` says: a status, or a function of the connection."""

    def __init__(self):
        self.seen = []  # (method, path, headers, body, address of the client)
        self.answer = 200
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, address = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection, address), daemon=True).start()

    def serve(self, connection, address):
        with connection, connection.makefile("rb") as reader:
            try:
                while line := reader.readline():
                    method, path, _ = line.decode().split()
                    headers = http.client.parse_headers(reader)
                    body = reader.read(int(headers.get("Content-Length", 0)))
                    self.seen.append((method, path, headers, json.loads(body) if body else None, address))
                    if callable(self.answer):
                        self.answer(connection)
                        return
                    connection.sendall(f"HTTP/1.1 {self.answer} X\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def told(self, method, end):
        return [body for m, path, _, body, _ in list(self.seen) if m == method and path.endswith(end)]

    @property
    def registrations(self):
        return self.told("POST", "/v2/pools/register")

    @property
    def beats(self):
        return self.told("POST", "/v2/pools/pool-1/heartbeat")

    @property
    def reports(self):
        return self.told("POST", "/v2/internal/workers/failed")

    @property
    def farewells(self):
        return self.told("DELETE", "/v2/pools/pool-1")


@pytest.fixture
def orchestrator():
    made = Orchestrator()
    yield made
    made.close()


@pytest.fixture
def start(tmp_path, ports, orchestrator):
    """Starts the daemon of a pool with one GPU; it is killed at the end."""
    (tmp_path / "gpus.toml").write_text(
        f'[[gpus]]\nuuid = "{GPU}"\nname = "Test"\nvram_total_bytes = "8 GiB"\nvram_used_bytes = "1 GiB"\n')
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "token").chmod(0o600)
    made = []

    def start_daemon(interval_ms=100):
        if not made:
            host = Host(tmp_path, ports, device="gpu", config=(
                f'env = {{ G = "{{gpu_uuid}}" }}\ncapabilities = ["chat", "embed"]\nprotocol = "openai"\n'
                f'[gpu]\ninventory = "static:{tmp_path}/gpus.toml"\n[orchestrator]\nurl = "{orchestrator.url}"\n'
                f'token_file = "{tmp_path}/token"\nheartbeat_interval_ms = {interval_ms}\n'))
            host.environment["POOL_ID"] = "pool-1"
            made.append(Daemon(host))
        made[0].start()
        return made[0]

    yield start_daemon
    for daemon in made:
        if daemon.process.poll() is None:
            daemon.kill()
        daemon.host.stop_everything()


def begin(daemon, worker_id, *arguments):
    status, answer, _ = daemon.begin(worker_id, *arguments, wait=True, required_vram_bytes=2 << 30)
    assert status == 200, answer
    return answer


def test_registration_and_heartbeats(start, orchestrator):
    daemon = start()
    wait_until(lambda: len(orchestrator.beats) >= 2, 60, "heartbeats")
    worker = begin(daemon, "w")
    # one may have been made while the worker was starting
    ready = lambda: [beat for beat in orchestrator.beats if [row["status"] for row in beat["workers"]] == ["ready"]]
    wait_until(ready, what="a heartbeat with the worker")

    registration = orchestrator.registrations[0]
    assert registration["pool_id"] == "pool-1"
    port = re.findall(r"\(port (\d+)\)", daemon.log.read_text())[-1]
    assert registration["endpoint"] == f"http://127.0.0.1:{port}"
    assert registration["gpus"][0]["uuid"] == GPU
    beat = ready()[0]
    assert beat["pool_id"] == "pool-1" and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", beat["timestamp"])
    assert beat["gpus"] == [{
        "id": 0, "uuid": GPU, "device_name": "Test", "total_vram_bytes": 8 << 30, "free_vram_bytes": 7 << 30,
        "allocated_vram_bytes": 2 << 30, "healthy": True}]
    assert beat["workers"] == [{
        "id": "w", "status": "ready", "model_ref": f"file:{daemon.host.model}", "vram_bytes": 2 << 30, "gpu_id": GPU,
        "uri": worker["uri"], "backend": "fake", "capabilities": ["chat", "embed"], "protocol": "openai"}]

    messages = orchestrator.registrations + orchestrator.beats
    assert len({message["epoch"] for message in messages}) == 1
    assert [message["sequence"] for message in messages] == list(range(1, len(messages) + 1))
    assert len({address for _, _, _, _, address in orchestrator.seen}) == 1, "the connection is kept"
    for _, _, headers, _, _ in orchestrator.seen:
        assert headers["Authorization"] == "Bearer first" and headers["Content-Type"] == "application/json"
        assert re.fullmatch("[A-Za-z0-9-]{1,64}", headers["X-Correlation-Id"])
    daemon.host.directory.joinpath("token").write_text("second\n")
    wait_until(lambda: orchestrator.seen[-1][2]["Authorization"] == "Bearer second", 60, "the new token")
    assert "second" not in daemon.log.read_text()


def test_a_new_daemon_has_a_new_epoch(start, orchestrator):
    daemon = start()
    begin(daemon, "w")
    wait_until(lambda: orchestrator.beats and orchestrator.beats[-1]["workers"], 60, "a heartbeat")
    daemon.kill()
    n_before = len(orchestrator.registrations)
    start()
    wait_until(lambda: len(orchestrator.registrations) > n_before, 60, "the registration of the next one")
    first, second = orchestrator.registrations[0], orchestrator.registrations[n_before]
    assert first["epoch"] != second["epoch"] and second["sequence"] == 1
    wait_until(lambda: orchestrator.beats[-1]["epoch"] == second["epoch"], 60, "its heartbeat")
    assert [w["id"] for w in orchestrator.beats[-1]["workers"]] == ["w"]


def test_one_that_has_forgotten_the_pool_is_told_again(start, orchestrator):
    start()
    wait_until(lambda: orchestrator.beats, 60, "a heartbeat")
    orchestrator.answer = 404
    wait_until(lambda: len(orchestrator.registrations) >= 2, 60, "another registration")
    orchestrator.answer = 200
    n_beats = len(orchestrator.beats)
    wait_until(lambda: len(orchestrator.beats) > n_beats + 1, 60, "heartbeats")


def test_a_death_is_reported_at_once(start, orchestrator):
    daemon = start(interval_ms=HOUR_MS)  # no heartbeat will tell it
    wait_until(lambda: orchestrator.beats, 60, "the first heartbeat")
    killed, crashing = begin(daemon, "killed"), begin(daemon, "crashing", "--exit-code", 7)
    begin(daemon, "asked")
    assert daemon.stop("asked")[0] == 200
    os.kill(killed["pid"], signal.SIGKILL)
    wait_until(lambda: len(orchestrator.reports) == 1, 60, "the report")
    os.kill(crashing["pid"], signal.SIGTERM)  # it ends by itself, and nobody asked us
    wait_until(lambda: len(orchestrator.reports) == 2, 60, "the second report")
    first, second = orchestrator.reports
    assert (first["worker_id"], first["reason"], first["signal"], first["exit_code"]) == ("killed", "signalled", 9, None)
    assert first["vram_released_bytes"] == 2 << 30 and first["pool_id"] == "pool-1"
    assert (second["worker_id"], second["reason"], second["signal"]) == ("crashing", "exited", None)
    assert len(orchestrator.beats) == 1


def test_reports_outlive_an_orchestrator_that_is_away(start, orchestrator):
    daemon = start(interval_ms=HOUR_MS)
    wait_until(lambda: orchestrator.beats, 60, "the first heartbeat")
    orchestrator.answer = 503
    for i in range(3):
        os.kill(begin(daemon, f"w{i}")["pid"], signal.SIGKILL)
        wait_until(lambda i=i: daemon.worker(f"w{i}")["status"] == "stopped", 60, "the end")
    wait_until(lambda: orchestrator.reports, 60, "a try")
    orchestrator.answer = 200
    wait_until(lambda: {r["worker_id"] for r in orchestrator.reports} == {"w0", "w1", "w2"}, 60, "the reports")
    order = [r["worker_id"] for r in orchestrator.reports]
    assert sorted(order) == order


def test_it_signs_off_when_no_worker_is_left(start, orchestrator):
    daemon = start()
    wait_until(lambda: orchestrator.beats, 60, "a heartbeat")
    begin(daemon, "w")
    assert daemon.kill(signal.SIGTERM) == 0
    assert orchestrator.farewells == []
    start()
    assert daemon.stop("w")[0] == 200
    assert daemon.kill(signal.SIGTERM) == 0
    assert len(orchestrator.farewells) == 1


def never_answer(connection):
    connection.recv(1)  # until the daemon gives up


def talk_for_ever(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize("answer", [
    never_answer,
    talk_for_ever,
    lambda connection: connection.sendall(b"\x00\xff nonsense\r\n\r\n"),
    lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
    lambda connection: connection.close(),
    301, 401, 418, 500,
], ids=["never", "forever", "nonsense", "short", "closes", "301", "401", "418", "500"])
def test_an_orchestrator_costs_only_counters(start, orchestrator, answer):
    orchestrator.answer = answer
    daemon = start()
    wait_until(lambda: orchestrator.registrations, 60, "a try")
    worker = begin(daemon, "w")
    assert daemon.get("/v2/state")[1]["workers"][0]["status"] == "ready"
    os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: daemon.worker("w")["status"] == "stopped", 60, "the end of the worker")
    if answer is not never_answer:
        def failures():
            text = daemon.get("/metrics")[1].decode()
            counts = re.findall(r'pool_mgr_orchestrator_requests_total\{kind="register",outcome="(\w+)"\} (\d+)', text)
            return sum(int(n) for outcome, n in counts if outcome != "ok")
        wait_until(lambda: failures() > 0, 60, "the counter")
    began = time.monotonic()
    assert daemon.kill(signal.SIGTERM) == 0  # nor does it hold up the end
    assert time.monotonic() - began < 15
