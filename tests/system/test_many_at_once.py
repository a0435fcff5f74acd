"""50 starts at the same moment from 50 processes, onto one GPU with room for 7: exactly 7 run, 43 are refused with
the arithmetic, and no two have the same port or id. The driver is the fake one, whose memory fills as workers take it.
"""
import json
import os

import pytest
from pool_host import BUILD, PATIENCE_S, Host

GIB = 1 << 30
UUID = "GPU-5e1f0000-0000-0000-0000-000000000001"
TOTAL, RESERVED, HEADROOM = 24 * GIB, 1 * GIB, 1 * GIB
NEED = 3 * GIB  # 22 GiB are available: room for 7


@pytest.fixture
def host(tmp_path, ports):
    claims = tmp_path / "claims"
    claims.mkdir()
    nvml = tmp_path / "nvml.conf"
    nvml.write_text(f"[driver]\nversion = 580.00\nclaims = {claims}\n\n[gpu 0]\nuuid = {UUID}\nname = Fake 24G\n"
                    f"total = {TOTAL}\nreserved = {RESERVED}\nused = 0\n")
    host = Host(tmp_path, ports, device="gpu",
                fake_args=("--vram-claims", str(claims), "--vram", f"visible:{NEED}"),
                config=f'[gpu]\ninventory = "nvml:{BUILD}/support/libnvidia-ml.so.1"\n'
                       f"vram_headroom_bytes = {HEADROOM}\n")
    host.environment["FAKE_NVML_CONFIG"] = str(nvml)
    yield host
    host.stop_everything()


@pytest.mark.parametrize("is_waiting", [False, True], ids=["spawn", "wait"])
def test_exactly_as_many_as_fit(host, is_waiting):
    arguments = ["--wait"] if is_waiting else []
    commands = [host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--vram", NEED, "--json",
                           *arguments) for _ in range(50)]
    answers = [(command.communicate(timeout=600)[0], command.returncode) for command in commands]
    started = [json.loads(text) for text, code in answers if code == 0]
    refused = [json.loads(text)["error"] for text, code in answers if code != 0]
    assert len(started) == 7, [error["code"] for error in refused]
    assert len(refused) == 43
    for error in refused:
        assert error["code"] == "INSUFFICIENT_VRAM" and error["retriable"] is True
        details = error["details"]
        assert details["required_vram_bytes"] == NEED
        assert details["available_vram_bytes"] < NEED
        assert details["available_vram_bytes"] == max(
            0, details["free_bytes"] - details["pending_bytes"] - details["headroom_bytes"])
    assert all(code in (0, 7) for _, code in answers)
    rows = host.rows()
    assert sorted(row["worker_id"] for row in rows) == sorted(answer["worker_id"] for answer in started)
    assert len({row["port"] for row in rows}) == 7
    assert len(host.processes()) == 7
    assert {row["gpu_id"] for row in rows} == {UUID}


def test_room_that_is_given_back_can_be_had(host):
    for i in range(7):
        assert host.spawn(f"w{i}", "--vram", NEED, "--wait").returncode == 0
    assert host.spawn("eighth", "--vram", NEED).returncode == 7
    assert host.run("worker", "stop", "w3").returncode == 0
    assert host.spawn("eighth", "--vram", NEED, "--wait").returncode == 0
    assert len(host.processes()) == 7


def test_one_port_and_one_id_for_all(host):
    commands = [host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--vram", 1, "--json", "--port",
                           host.ports[0]) for _ in range(12)]
    codes = [command.wait(timeout=PATIENCE_S) for command in commands]
    assert sorted(codes) == [0] + [5] * 11
    commands = [host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--vram", 1, "--json", "--id",
                           "same") for _ in range(12)]
    codes = [command.wait(timeout=PATIENCE_S) for command in commands]
    assert sorted(codes) == [0] + [5] * 11
    for command in commands:
        command.communicate()
    assert len(host.processes()) == 2
    assert os.path.exists(host.state_dir / "logs" / "same.log")
