"""The daemon is killed with SIGKILL at random moments while a client starts and stops workers, and a new one takes over.
After each restart the registry, the ledger and the process table agree: no process without a row, no row without a
process, no worker started twice, none that was ready and not asked to stop is gone.

30 times, seeded (POOL_SEED); POOL_SOAK=1 makes it 300.
"""
import http.client
import json
import os
import pathlib
import random
import shutil
import threading
import time

import pytest
from pool_host import PATIENCE_S, Host, is_running, wait_until
from test_daemon import Daemon

KILLS = 300 if os.environ.get("POOL_SOAK") else 30
SEED = int(os.environ.get("POOL_SEED", "20261125"))
WORKERS_AT_ONCE = 5
ENGINE = os.environ.get("POOL_LLAMA_SERVER")


class Client(threading.Thread):
    """Starts and stops workers until the daemon is gone. What it was promised is what is checked afterwards."""

    def __init__(self, daemon, dice, kept):
        super().__init__(daemon=True)
        self.target = daemon
        self.dice = dice
        self.kept = dict(kept)  # worker id -> pid: ready, and nobody asked it to stop
        self.n_begun = 0
        self.prefix = f"w{dice.randrange(1 << 32):08x}"

    def run(self):
        try:
            while True:
                if self.kept and (len(self.kept) >= WORKERS_AT_ONCE or self.dice.random() < 0.4):
                    self.stop_one()
                else:
                    self.begin_one()
        except (OSError, http.client.HTTPException, ValueError):
            pass  # the daemon is gone

    def begin_one(self):
        worker_id = f"{self.prefix}-{self.n_begun}"
        self.n_begun += 1
        status, answer, _ = self.target.begin(worker_id, wait=self.dice.random() < 0.7, stop_grace_ms=2000)
        assert status in (200, 202), answer
        self.kept[worker_id] = answer["pid"]

    def stop_one(self):
        worker_id = self.dice.choice(sorted(self.kept))
        del self.kept[worker_id]  # from the moment it was asked, it may be gone
        self.target.stop(worker_id, wait=self.dice.random() < 0.5, force=self.dice.random() < 0.3)


class Witness:
    """Which process each worker ever had: one, for there are no restarts."""

    def __init__(self):
        self.pids = {}

    def see(self, worker_id, pid):
        assert self.pids.setdefault(worker_id, pid) == pid, f"{worker_id} was {self.pids[worker_id]} and is {pid}"


def settled(daemon):
    """Every worker serves or is gone, as the daemon says."""
    rows = daemon.get("/v2/workers")[1]["workers"]
    return rows if all(row["status"] in ("ready", "busy", "idle") and row["healthy"] for row in rows) else None


def check_agreement(daemon, witness, kept):
    rows = {row["worker_id"]: row for row in wait_settled(daemon)}
    processes = daemon.host.processes()
    assert sorted(processes.values()) == sorted(rows), "a process without a row, or a row without a process"
    for pid, worker_id in processes.items():
        assert rows[worker_id]["pid"] == pid
        witness.see(worker_id, pid)
    for worker_id, pid in kept.items():
        assert rows.get(worker_id, {}).get("pid") == pid and is_running(pid), f"{worker_id} was lost"
    state = daemon.get("/v2/state")[1]
    assert {w["worker_id"] for w in state["workers"]} == set(rows)
    assert state["host_memory"]["allocated_bytes"] >= sum(row["reserved_memory_bytes"] for row in rows.values())
    if not rows:
        assert state["host_memory"]["allocated_bytes"] == 0
    return rows


def wait_settled(daemon):
    found = []

    def look():
        found[:] = [settled(daemon)]
        return found[0] is not None

    wait_until(look, what="every worker serves or is gone")
    return found[0]


@pytest.fixture
def daemon(tmp_path, ports):
    daemon = Daemon(Host(tmp_path, ports))
    yield daemon
    if daemon.process and daemon.process.poll() is None:
        daemon.kill()
    daemon.host.stop_everything()


def test_registry_ledger_and_processes_agree(daemon):
    dice = random.Random(SEED)
    witness = Witness()
    kept = {}
    n_begun = 0
    daemon.start()
    for _ in range(KILLS):
        client = Client(daemon, random.Random(dice.random()), kept)
        moment = dice.uniform(0, 0.15)
        client.start()
        time.sleep(moment)  # the moment of the kill is what is being varied
        daemon.kill()
        client.join(PATIENCE_S)
        assert not client.is_alive()
        n_begun += client.n_begun
        daemon.start()
        rows = check_agreement(daemon, witness, client.kept)
        kept = {worker_id: row["pid"] for worker_id, row in rows.items()}
    assert n_begun >= KILLS / 3, "the client hardly did anything"
    for worker_id in kept:
        assert daemon.stop(worker_id, force=True)[0] == 200
    check_agreement(daemon, witness, {})


@pytest.mark.skipif(not ENGINE, reason="POOL_LLAMA_SERVER does not name a llama-server")
def test_a_stream_is_never_cut(daemon, tmp_path):
    """One completion of a real engine, read word by word while the daemon is killed under it again and again."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "llama-server").symlink_to(pathlib.Path(shutil.which(ENGINE)).resolve())
    daemon.host.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    daemon.start()
    status, worker, _ = daemon.begin("w", backend="cpu", extra_args=[], wait=True)
    assert status == 200, worker
    n_words = 0
    kills = 0
    is_over = False
    while not is_over:
        connection = http.client.HTTPConnection("127.0.0.1", worker["port"], timeout=PATIENCE_S)
        connection.request("POST", "/completion", json.dumps({"prompt": "hello", "n_predict": 400, "stream": True,
                                                              "temperature": 0, "ignore_eos": True}),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        n_now = 0
        last = {}
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            last = json.loads(line[6:])
            n_now += 1
            if n_now % 100 == 50 and kills < 3:  # in the middle of it
                daemon.kill()
                daemon.start()
                kills += 1
        assert last.get("stop") is True, "the stream ended before it was over"
        assert last["tokens_predicted"] == 400
        n_words += n_now
        is_over = kills == 3
    assert n_words >= 400 and is_running(worker["pid"])
    assert daemon.worker("w")["pid"] == worker["pid"]
    assert daemon.stop("w")[0] == 200
