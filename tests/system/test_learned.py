"""What a worker was seen to take is what the next one like it is admitted with; and devices in MIG mode. The driver is the
fake one, whose memory fills as workers take it.
"""
import json
import os

import pytest
from pool_host import BUILD, Host, wait_until

PORTS = (18740, 18779)
GIB, MIB = 1 << 30, 1 << 20
UUID = "GPU-5e1f0000-0000-0000-0000-000000000001"
TAKEN = 600 * MIB

# In a pid namespace of our own the driver's pids are other processes' numbers, and nothing is attributed.
pytestmark = pytest.mark.skipif(os.readlink("/proc/self/ns/pid") != "pid:[4026531836]",
                                reason="in a pid namespace of its own")


def make_host(tmp_path, devices):
    claims = tmp_path / "claims"
    claims.mkdir()
    nvml = tmp_path / "nvml.conf"
    nvml.write_text(f"[driver]\nversion = 580.00\nclaims = {claims}\n\n{devices}")
    host = Host(tmp_path, PORTS, device="gpu",
                fake_args=("--vram-claims", str(claims), "--vram", f"visible:{TAKEN}"),
                config=f'[gpu]\ninventory = "nvml:{BUILD}/support/libnvidia-ml.so.1"\nvram_headroom_bytes = 0\n')
    host.environment["FAKE_NVML_CONFIG"] = str(nvml)
    return host


@pytest.fixture
def host(tmp_path):
    host = make_host(tmp_path, f"[gpu 0]\nuuid = {UUID}\nname = Fake 24G\ntotal = {24 * GIB}\nused = 0\n")
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


def test_mig_instances_are_devices_of_their_own(tmp_path):
    host = make_host(tmp_path, MIG)
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
