"""A daemon in use for a while: workers come, go, and die, clients read, wait, leave and break off. Afterwards it is as large
as before. A few seconds here; ten minutes, and a tight bound on memory, in ./dev soak.
"""
import concurrent.futures
import json
import os
import pathlib
import random
import signal
import socket
import time

import pytest
from pool_host import Host, wait_until
from test_daemon import Daemon, UnixConnection

SOAK = bool(os.environ.get("POOL_SOAK"))
SECONDS = 600 if SOAK else 6
WARM_UP = 1500 if SOAK else 20  # workers: the event log (1024) and the history (1000) are full by then
N_CLIENTS = 4
# What an allocator may keep at hand, and a table that grows once more. A leak of one row a worker is far beyond it in ten
# minutes. In seconds only a flood is seen: the logs of events and ends are still filling, with each worker of a fast machine.
GROWTH_MAX_BYTES = (2 << 20) if SOAK else (6 << 20)
LOGS_BYTES = 0 if SOAK else 48 << 10


@pytest.fixture
def daemon(tmp_path, ports):
    made = Daemon(Host(tmp_path, ports))
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()
    made.host.stop_everything()


def private_bytes(pid):
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty:"))


def n_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def live_one(daemon, chance, worker_id):
    """One worker from its start to its end, by one of the ways there are."""
    how = chance.randrange(6)
    if how == 0:  # it fails
        status, _, _ = daemon.begin(worker_id, "--never-ready", "--crash-after-ms", 1, wait=True)
        assert status == 502
        return
    if how == 1:  # it is refused
        assert daemon.begin(worker_id, required_vram_bytes=1 << 60)[0] == 507
        return
    status, worker, _ = daemon.begin(worker_id, wait=True)
    assert status == 200, worker
    if how == 2:  # it is killed
        os.kill(worker["pid"], signal.SIGKILL)
    elif how == 3:
        assert daemon.ask("POST", f"/v2/workers/{worker_id}/drain", {"wait": True})[0] == 200
    else:
        assert daemon.stop(worker_id, force=how == 4)[0] == 200
    wait_until(lambda: daemon.worker(worker_id)["status"] == "stopped", 60, "the end of a worker")


def look(daemon, chance):
    """What those who only look do."""
    how = chance.randrange(6)
    if how == 0:
        assert daemon.get("/v2/state")[0] == 200
    elif how == 1:
        assert daemon.get("/metrics")[0] == 200
    elif how == 2:
        assert daemon.get("/v2/workers?all=1")[0] == 200
    elif how == 3:  # listens for a moment, and leaves
        connection = UnixConnection(daemon.socket)
        connection.request("GET", "/v2/events", headers={"Last-Event-ID": "x-1"})
        assert connection.getresponse().status == 200
        connection.close()
    elif how == 4:  # begins, and breaks off
        with socket.socket(socket.AF_UNIX) as half:
            half.connect(daemon.socket)
            half.sendall(b"POST /v2/workers/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 1000\r\n\r\n{")
    else:
        assert daemon.ask("POST", "/v2/workers/stop", b"nonsense")[0] == 400


def use(daemon, seed, is_over):
    """Returns how many workers it has had."""
    chance = random.Random(seed)
    n = 0
    while not is_over():
        live_one(daemon, chance, f"w{seed}-{n}")
        n += 1
        for _ in range(3):
            look(daemon, chance)
    return n


def use_together(daemon, first_seed, is_over):
    with concurrent.futures.ThreadPoolExecutor(N_CLIENTS) as clients:
        runs = [clients.submit(use, daemon, first_seed + i, is_over) for i in range(N_CLIENTS)]
        return sum(run.result() for run in runs)


def rest(daemon):
    """Waits until nothing is under way; (private bytes, descriptors)."""
    pid = daemon.process.pid
    previous = []

    def is_quiet():
        previous.append(n_descriptors(pid))
        time.sleep(0.1)
        return len(previous) > 3 and len(set(previous[-3:])) == 1

    wait_until(is_quiet, 60, "quiet")
    return private_bytes(pid), n_descriptors(pid)


def test_use_leaves_nothing_behind(daemon):
    seed = 20240607
    ends = []

    def is_warm():
        ends.append(None)
        return len(ends) > WARM_UP

    n_workers = use_together(daemon, seed, is_warm)
    memory_before, descriptors_before = rest(daemon)
    over_at = time.monotonic() + SECONDS
    n_workers += use_together(daemon, seed + 1000, lambda: time.monotonic() > over_at)
    memory_after, descriptors_after = rest(daemon)

    print(json.dumps({"workers": n_workers, "private_bytes": [memory_before, memory_after],
                      "descriptors": [descriptors_before, descriptors_after]}))
    assert daemon.host.processes() == {}
    assert daemon.get("/v2/workers")[1] == {"workers": []}
    assert len(daemon.get("/v2/workers?all=1")[1]["workers"]) <= 1000
    assert descriptors_after <= descriptors_before + 2, "descriptors grow"
    may_grow = GROWTH_MAX_BYTES + n_workers * LOGS_BYTES
    assert memory_after - memory_before <= may_grow, (memory_before, memory_after, n_workers)
    starts = [line for line in daemon.get("/metrics")[1].decode().splitlines()
              if line.startswith("pool_mgr_worker_starts_total{")]
    assert sum(int(line.split()[1]) for line in starts) == n_workers
    logs = list((daemon.host.state_dir / "logs").iterdir())
    assert len(logs) <= 1001, "logs of workers that are in no history"
