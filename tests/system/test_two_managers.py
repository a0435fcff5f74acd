"""Two managers on one host: a daemon of root and the command line of another user, each with a state directory of its own,
start workers on the same GPU. The fake driver has room for seven; neither may promise what the other has promised.
"""
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest
from conftest import take_ports
from pool_host import FAKE_NVML, Host, is_running, wait_until
from test_daemon import Daemon

MIB = 1 << 20
GPU = "GPU-fa4e0000-0000-4000-8000-000000000000"
N_ROOM = 7
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")


class TwoHosts:
    """Two state directories over one fake driver; `theirs` may belong to another user."""

    def __init__(self, directory):
        self.directory = directory
        self.claims = directory / "claims"
        self.claims.mkdir()
        self.claims.chmod(0o777)
        self.world = directory / "world.conf"
        self.write_world()
        self.locks = directory / "gpu-locks"
        self.hosts = [self.host(name) for name in ("ours", "theirs")]
        self.ours, self.theirs = self.hosts

    def write_world(self, gib=N_ROOM):
        """A GPU with room for so many workers of 1 GiB, and a half more."""
        self.world.write_text(f"[driver]\nclaims = {self.claims}\n"
                              f"[gpu 0]\nuuid = {GPU}\ntotal = {gib * 1024 + 512}MiB\nreserved = 0\n")
        self.world.chmod(0o644)

    def host(self, name):
        directory = self.directory / name
        directory.mkdir()
        host = Host(directory, take_ports(), device="gpu", config=(
            f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\nvram_headroom_bytes = 0\nrefresh_interval_ms = 200\n'))
        host.environment["FAKE_NVML_CONFIG"] = str(self.world)
        host.environment["POOL_GPU_LOCK_DIR"] = str(self.locks)
        return host

    def arguments(self, host, worker_id, taking=False):
        """Of a start of 1 GiB that is never ready, and takes its memory at once or never."""
        words = ["--never-ready"]
        if taking:
            words += ["--vram-claims", str(self.claims), "--vram", f"visible:{1024 * MIB}"]
        return ["worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", worker_id, "--gpu", "0",
                "--vram", "1GiB", "--json", "--", *words]

    def promises(self):
        return [path for path in self.locks.iterdir() if not path.name.startswith(".")] if self.locks.exists() else []

    def n_workers(self):
        return sum(len(host.processes()) for host in self.hosts)

    def stop_everything(self):
        for host in self.hosts:
            host.stop_everything()


@pytest.fixture
def two():
    # Not tmp_path: another user enters it.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pool-two-"))
    directory.chmod(0o755)
    made = TwoHosts(directory)
    yield made
    made.stop_everything()
    shutil.rmtree(directory)


def as_nobody(host):
    for path in (host.directory, *host.directory.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    host.user = NOBODY
    host.environment["HOME"] = str(host.directory)


def begin(two, host, worker_id, taking=False):
    options = {}
    if getattr(host, "user", None):
        options = {"user": host.user, "group": host.user, "extra_groups": []}
    return host.start(*two.arguments(host, worker_id, taking), **options)


def outcome(process):
    out, err = process.communicate(timeout=120)
    answer = json.loads(out) if out else {}
    return "OK" if process.returncode == 0 else answer.get("error", {"code": err})["code"]


@needs_root
def test_fifty_starts_at_once_from_two_users(two):
    as_nobody(two.theirs)
    daemon = Daemon(two.ours)
    daemon.start()
    try:
        started = [begin(two, two.hosts[i % 2], f"w{i}", i % 3 == 0) for i in range(50)]
        outcomes = [outcome(process) for process in started]
        assert outcomes.count("OK") == N_ROOM, outcomes
        assert set(outcomes) == {"OK", "INSUFFICIENT_VRAM"}, outcomes
        assert two.n_workers() == N_ROOM
        assert len(two.promises()) == N_ROOM
    finally:
        daemon.kill()


def test_a_refusal_names_who_promised(two):
    assert outcome(begin(two, two.ours, "mine")) == "OK"
    two.write_world(1)
    refused = two.theirs.refusal(*two.arguments(two.theirs, "other"))
    state_id = (two.ours.state_dir / "state-id").read_text().strip()
    details = refused["details"]
    assert refused["code"] == "INSUFFICIENT_VRAM" and refused["retriable"]
    assert details["elsewhere_bytes"] == 1024 * MIB and details["elsewhere_state_id"] == state_id
    assert details["available_vram_bytes"] == details["free_bytes"] - details["pending_bytes"] - \
        details["elsewhere_bytes"] - details["headroom_bytes"]
    assert f"promised by another manager (state {state_id[:8]})" in refused["message"]
    told = two.theirs.json("explain", details["explain_id"])["explanations"][0]
    assert told["candidates"][0]["ledger"]["elsewhere_bytes"] == 1024 * MIB
    ledger = two.theirs.json("status")["gpus"][0]["ledger"]
    assert ledger["elsewhere_bytes"] == 1024 * MIB and ledger["workers"] == 0
    assert state_id[:8] in two.theirs.run("status").stdout


def test_what_was_taken_is_no_promise_any_more(two):
    assert outcome(begin(two, two.ours, "mine", taking=True)) == "OK"
    wait_until(lambda: any(two.claims.iterdir()), what="its claim")

    def ledger():
        return two.theirs.json("status")["gpus"][0]["ledger"]
    if os.readlink("/proc/self/ns/pid") == "pid:[4026531836]":
        wait_until(lambda: ledger()["elsewhere_bytes"] == 0, what="the driver's list")
    assert ledger()["foreign_bytes"] == 1024 * MIB


def test_a_worker_that_died_before_it_took_its_memory_frees_its_promise(two):
    two.write_world(1)
    assert outcome(begin(two, two.ours, "mine")) == "OK"
    assert outcome(begin(two, two.theirs, "refused")) == "INSUFFICIENT_VRAM"
    (pid,) = two.ours.processes()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid), what="its end")
    # Nobody of the other state directory has looked: its record still says that the worker lives.
    assert outcome(begin(two, two.theirs, "next")) == "OK"


def test_managers_that_are_killed_leave_nothing_that_blocks(two):
    """Commands are killed at any moment of a start. What lives afterwards, and nothing else, counts."""
    for i in range(40):
        process = begin(two, two.hosts[i % 2], f"w{i}")
        try:
            process.wait(0.002 * (i % 20))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        assert two.n_workers() <= N_ROOM
    for host in two.hosts:
        host.json("worker", "list")
    n = two.n_workers()
    outcomes = [outcome(begin(two, two.hosts[i % 2], f"late{i}")) for i in range(N_ROOM + 1)]
    assert outcomes == ["OK"] * (N_ROOM - n) + ["INSUFFICIENT_VRAM"] * (n + 1)
    two.stop_everything()
    wait_until(lambda: two.n_workers() == 0, what="the end of all")
    outcomes = [outcome(begin(two, two.theirs, f"last{i}")) for i in range(N_ROOM + 1)]
    assert outcomes == ["OK"] * N_ROOM + ["INSUFFICIENT_VRAM"]
    # None of the killed is left behind in the directory, but for those that nobody may remove.
    assert len(two.promises()) == N_ROOM and not list(two.locks.glob(".new-*"))


def test_what_strangers_write_is_no_promise(two):
    two.locks.mkdir()
    two.locks.chmod(0o1777)
    (two.locks / "0123").write_bytes(os.urandom(64))
    (two.locks / "huge").write_bytes(b"pool-core promise 1\n" * 100000)
    (two.locks / "link").symlink_to("/dev/zero")
    (two.locks / "loop").symlink_to("loop")
    (two.locks / "folder").mkdir()
    (two.locks / "secret").touch(mode=0)
    os.mkfifo(two.locks / "fifo")
    assert outcome(begin(two, two.ours, "mine")) == "OK"
    assert outcome(begin(two, two.theirs, "theirs")) == "OK"


def test_who_holds_the_lock_for_ever_keeps_others_from_starting_and_no_more(two):
    two.locks.mkdir()
    two.locks.chmod(0o1777)
    held = os.open(two.locks, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = two.ours.refusal(*two.arguments(two.ours, "mine"))
        assert refused["code"] == "CONFLICT" and refused["retriable"] and str(two.locks) in refused["message"]
        assert two.ours.json("status")["gpu_locks"]["shared"]  # to look needs no lock
    finally:
        os.close(held)
    assert outcome(begin(two, two.ours, "mine")) == "OK"


def test_where_there_is_no_directory_it_is_said(two):
    for host in two.hosts:
        host.environment["POOL_GPU_LOCK_DIR"] = str(two.directory / "missing" / "pool-core")
    assert outcome(begin(two, two.ours, "mine")) == "OK"
    locks = two.ours.json("status")["gpu_locks"]
    assert not locks["shared"] and "No such file" in locks["reason"]
    assert "others unseen" in two.ours.run("status").stdout
    (finding,) = [line for line in two.ours.run("dev", "doctor").stdout.splitlines() if "gpu locks" in line]
    assert "not seen" in finding
    two.ours.environment["POOL_GPU_LOCK_DIR"] = "/proc/self"
    assert not two.ours.json("status")["gpu_locks"]["shared"]
