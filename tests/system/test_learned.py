"""What a worker was seen to take is what the next one like it is admitted with; and devices in MIG mode. The driver is the
fake one, whose memory fills as workers take it.
"""
import http.client
import json
import os
import socket

import pytest
from pool_host import BUILD, Host, wait_until
from test_cli_daemon import Daemon

GIB, MIB = 1 << 30, 1 << 20
UUID = "GPU-5e1f0000-0000-0000-0000-000000000001"
TAKEN = 600 * MIB

# In a pid namespace of our own the driver's pids are other processes' numbers, and nothing is attributed.
pytestmark = pytest.mark.skipif(os.readlink("/proc/self/ns/pid") != "pid:[4026531836]",
                                reason="in a pid namespace of its own")


def make_host(tmp_path, ports, devices, taken="visible:%d" % TAKEN):
    claims = tmp_path / "claims"
    claims.mkdir()
    nvml = tmp_path / "nvml.conf"
    nvml.write_text(f"[driver]\nversion = 580.00\nclaims = {claims}\n\n{devices}")
    host = Host(tmp_path, ports, device="gpu",
                fake_args=("--vram-claims", str(claims), "--vram", taken),
                config=f'[gpu]\ninventory = "nvml:{BUILD}/support/libnvidia-ml.so.1"\nvram_headroom_bytes = 0\n'
                       'refresh_interval_ms = 1000\n')
    host.environment["FAKE_NVML_CONFIG"] = str(nvml)
    return host


@pytest.fixture
def host(tmp_path, ports):
    host = make_host(tmp_path, ports, f"[gpu 0]\nuuid = {UUID}\nname = Fake 24G\ntotal = {24 * GIB}\nused = 0\n")
    yield host
    host.stop_everything()


def plan(host, *arguments):
    return host.json("worker", "spawn", "fake", "--model", f"file:{host.model}", "--dry-run", *arguments)


def test_the_next_start_is_admitted_with_what_was_measured(host):
    first = plan(host)
    assert first["need"]["source"] == "estimate" and first["need"]["measured_bytes"] is None
    assert first["reserved_bytes"] == first["need"]["estimate"]["total_bytes"] > GIB
    assert host.spawn("w1", "--wait").returncode == 0
    second = plan(host)["need"]  # a look at the driver, and what it says is recorded
    assert second["source"] == "measured"
    assert second["measured_bytes"] == TAKEN and second["n_measured"] == 1
    assert second["bytes"] == TAKEN + 256 * MIB
    estimated = second["estimate"]["total_bytes"] - second["estimate"]["margin_bytes"]
    assert second["error_percent"] == pytest.approx(100 * (estimated - TAKEN) / TAKEN, abs=0.1)
    row = next(row for row in host.rows() if row["worker_id"] == "w1")
    assert row["peak_vram_bytes"] == TAKEN
    assert row["reserved_vram_bytes"] == TAKEN + 256 * MIB  # an overestimate does not block memory for ever
    assert plan(host, "--ctx", "256")["need"]["source"] == "estimate"  # another start
    asked = plan(host, "--vram", 2 * GIB)
    assert asked["reserved_bytes"] == 2 * GIB and asked["need"]["source"] == "request"
    assert asked["need"]["measured_bytes"] == TAKEN


def test_a_reserve_that_was_asked_for_stays(host):
    assert host.spawn("w1", "--vram", 3 * GIB, "--wait").returncode == 0
    plan(host)
    row = host.rows()[0]
    assert row["peak_vram_bytes"] == TAKEN and row["reserved_vram_bytes"] == 3 * GIB


def test_what_was_learned_is_listed_and_forgotten(host):
    assert host.json("models", "learned", "list")["learned"] == []
    assert host.spawn("w1", "--wait").returncode == 0
    plan(host)
    (use,) = host.json("models", "learned", "list")["learned"]
    assert use["peak_bytes"] == TAKEN and use["n_starts"] == 1 and "Fake 24G" in use["key"]
    exported = json.loads(host.run("models", "learned", "export").stdout)
    assert exported["learned"] == [use]
    assert host.json("models", "learned", "forget", use["id"])["forgotten"] == 1
    assert host.json("models", "learned", "list")["learned"] == []
    assert host.refusal("models", "learned", "forget", use["id"])["code"] == "NOT_FOUND"
    estimate = host.json("models", "estimate", f"file:{host.model}", "--backend", "fake")
    assert estimate["source"] == "estimate"


MIG = f"""[gpu 0]
uuid = {UUID}
name = Fake MIG
total = {24 * GIB}
used = 0
mig = on

[mig 0.0]
uuid = MIG-00000000-0000-4000-8000-000000000001
total = {6 * GIB}
gi = 1

[mig 0.3]
uuid = MIG-00000000-0000-4000-8000-000000000002
total = {3 * GIB}
gi = 2
"""


def test_mig_instances_are_devices_of_their_own(tmp_path, ports):
    host = make_host(tmp_path, ports, MIG)
    try:
        for parent in ("0", UUID):
            assert host.spawn_refusal("w", "--gpu", parent)["code"] == "GPU_UNAVAILABLE"
        large, small = (f"MIG-00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
        assert plan(host, "--gpu", "auto", "--vram", 2 * GIB)["worker"]["gpu_id"] == small  # the tightest
        assert plan(host, "--gpu", "auto", "--vram", 4 * GIB)["worker"]["gpu_id"] == large
        assert host.spawn("w1", "--gpu", small, "--vram", 2 * GIB, "--wait").returncode == 0
        error = host.spawn_refusal("w2", "--gpu", small, "--vram", 2 * GIB)
        assert error["code"] == "INSUFFICIENT_VRAM" and error["details"]["device"] == small
        assert plan(host, "--gpu", "auto", "--vram", 2 * GIB)["worker"]["gpu_id"] == large
    finally:
        host.stop_everything()


TWO = f"""[gpu 0]
uuid = GPU-5e1f0000-0000-0000-0000-000000000001
name = Fake A
total = {4 * GIB}
reserved = 0
used = 0

[gpu 1]
uuid = GPU-5e1f0000-0000-0000-0000-000000000002
name = Fake B
total = {2 * GIB}
reserved = 0
used = 0
"""
A, B = (f"GPU-5e1f0000-0000-0000-0000-00000000000{n}" for n in (1, 2))


def ledgers(host):
    return {gpu["uuid"]: gpu["ledger"] for gpu in host.json("status")["gpus"]}


@pytest.fixture
def pair(tmp_path, ports):
    host = make_host(tmp_path, ports, TWO)
    host.config.write_text(host.config.read_text().replace(  # it holds as much on the second, where it has one
        f'"visible:{TAKEN}"', f'"visible:{TAKEN}", "--vram", "visible1:{TAKEN}"'))
    yield host
    host.stop_everything()


def test_one_worker_over_two_devices(pair):
    planned = plan(pair, "--gpu", "0,1", "--split", "2,1", "--vram", 3 * GIB)
    shares = dict(share.split("=") for share in planned["worker"]["shares"].split(","))
    assert list(shares) == [A, B]
    assert sum(map(int, shares.values())) == planned["reserved_bytes"] >= 3 * GIB
    assert pair.spawn("w", "--gpu", f"{A},1", "--split", "2,1", "--vram", 3 * GIB, "--wait").returncode == 0
    row = pair.rows()[0]
    assert row["gpu_id"] == A and row["shares"] == planned["worker"]["shares"]
    environment = (b"CUDA_VISIBLE_DEVICES=%s,%s" % (A.encode(), B.encode()))
    with open(f"/proc/{row['pid']}/environ", "rb") as file:
        assert environment in file.read().split(b"\0")
    both = ledgers(pair)
    for device in (A, B):
        assert both[device]["allocated_bytes"] == pytest.approx(int(shares[device]), abs=2)
    # What is promised on each is nobody else's.
    error = pair.spawn_refusal("x", "--gpu", "1", "--vram", 1536 * MIB)
    assert error["code"] == "INSUFFICIENT_VRAM" and error["details"]["device"] == B
    assert plan(pair, "--gpu", "auto", "--vram", 1536 * MIB)["worker"]["gpu_id"] == A


def test_each_device_of_a_split_must_have_room(pair):
    error = pair.spawn_refusal("w", "--gpu", "0,1", "--split", "1,1", "--vram", 5 * GIB)
    assert error["code"] == "INSUFFICIENT_VRAM"
    assert error["details"]["gpu_id"] == 1 and error["details"]["device"] == B
    assert plan(pair, "--gpu", "0,1", "--vram", 5 * GIB)["reserved_bytes"] >= 5 * GIB  # by how much room each has
    for arguments in (("--gpu", "0,0"), ("--gpu", "0,1", "--split", "1"), ("--gpu", "0,1", "--split", "1,0"),
                      ("--gpu", "0,1", "--split", "1,2,3"), ("--split", "1,1"), ("--gpu", "0", "--split", "1")):
        assert pair.spawn_refusal("w", *arguments)["code"] == "INVALID_REQUEST", arguments
    assert pair.spawn_refusal("w", "--gpu", "0,7")["code"] == "GPU_NOT_FOUND"


def test_layers_are_estimated_on_each_device(pair):
    """Without a size in the request: every device has a context of its own, and the layers are somewhere."""
    one = plan(pair, "--gpu", "0")["need"]["estimate"]
    two = plan(pair, "--gpu", "0,1", "--split", "1,1")
    both = two["need"]["estimate"]
    assert both["weights_bytes"] == one["weights_bytes"] and both["kv_cache_bytes"] == one["kv_cache_bytes"]
    assert both["overhead_bytes"] == 2 * one["overhead_bytes"]
    assert two["reserved_bytes"] == both["total_bytes"] > one["total_bytes"]


def test_auto_says_why(pair):
    planned = plan(pair, "--gpu", "auto", "--vram", GIB)
    assert planned["worker"]["gpu_id"] == B and B in planned["placement"]
    assert plan(pair, "--gpu", "0", "--vram", GIB)["placement"] == ""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def metrics(daemon):
    connection = UnixConnection(daemon.socket)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_a_daemon_sees_by_itself(host):
    """No command asks the driver: each snapshot is looked through, and what it says is in rows, metrics and plans."""
    daemon = Daemon(host).start()
    try:
        assert host.spawn("w1", "--wait").returncode == 0
        wait_until(lambda: host.rows()[0]["peak_vram_bytes"] == TAKEN, what="the peak")
        assert host.rows()[0]["reserved_vram_bytes"] == TAKEN + 256 * MIB
        need = plan(host)["need"]
        assert need["source"] == "measured" and need["measured_bytes"] == TAKEN
        label = '{gpu="%s"}' % UUID
        seen = metrics(daemon)
        assert seen["pool_mgr_gpu_vram_workers_bytes" + label] == TAKEN
        assert seen["pool_mgr_gpu_vram_foreign_bytes" + label] == 0
        wait_until(lambda: metrics(daemon)["pool_mgr_gpu_vram_drift_bytes" + label] == -256 * MIB, what="the drift")
    finally:
        daemon.end()


def test_where_the_driver_lists_nobody_the_drop_counts(tmp_path, ports):
    """What is gone since a worker's start is its own, at most its reserve; nothing is learned from that."""
    host = make_host(tmp_path, ports, f"[gpu 0]\nuuid = {UUID}\nname = Fake 24G\ntotal = {24 * GIB}\nreserved = 0\nused = 0\n"
                                      "return.nvmlDeviceGetComputeRunningProcesses_v3 = 4\nreturn.nvmlDeviceGetRunningProcessDetailList = 4\n"
                                      "return.nvmlDeviceGetGraphicsRunningProcesses_v3 = 4\n")
    try:
        assert host.spawn("w1", "--vram", 2 * GIB, "--wait").returncode == 0
        ledger = ledgers(host)[UUID]
        assert ledger["foreign_bytes"] == 0
        assert ledger["pending_bytes"] == 2 * GIB - TAKEN
        assert ledger["available_bytes"] == 22 * GIB
        assert plan(host)["need"]["source"] == "estimate" and host.rows()[0]["peak_vram_bytes"] is None
        # What another takes later is not the first one's: it is taken to hold what was reserved for it.
        assert host.spawn("w2", "--vram", GIB, "--wait").returncode == 0
        assert ledgers(host)[UUID]["pending_bytes"] == GIB - TAKEN
    finally:
        host.stop_everything()
