"""rbees-pool gpu cordon and uncordon, with a daemon and without: what one does, the other sees."""
import json
import signal
import subprocess

import pytest
from pool_host import EXIT_STATUS, Host
from test_cli_daemon import Daemon, shape

UUIDS = [f"GPU-00000000-0000-4000-8000-00000000000{n}" for n in (1, 2)]


@pytest.fixture
def gpu_host(tmp_path, ports):
    gpus = tmp_path / "gpus.toml"
    gpus.write_text("".join(f'[[gpus]]\nuuid = "{uuid}"\nname = "G"\nvram_total_bytes = "24 GiB"\nvram_used_bytes = 0\n'
                            for uuid in UUIDS))
    host = Host(tmp_path, ports, device="gpu", config=f'device_check = []\n[gpu]\ninventory = "static:{gpus}"\n')
    yield host
    host.stop_everything()


@pytest.fixture(params=["alone", "daemon"])
def ground(request, gpu_host):
    if request.param == "alone":
        yield gpu_host
        return
    daemon = Daemon(gpu_host).start()
    yield gpu_host
    daemon.end()


def reasons(host):
    """What the list, each device and the state say, which must be one."""
    listed = {gpu["uuid"]: gpu["cordon_reason"] for gpu in host.json("gpu", "list")["gpus"]}
    shown = {uuid: host.json("gpu", "show", uuid)["cordon_reason"] for uuid in listed}
    state = {gpu["uuid"]: gpu["cordon_reason"] for gpu in host.json("status")["gpus"]}
    assert listed == shown == state
    return [listed[uuid] for uuid in UUIDS]


def test_cordons(ground):
    host = ground
    assert reasons(host) == [None, None]
    made = host.json("gpu", "cordon", "0", "--reason", "fan fails")
    assert (made["gpu_id"], made["uuid"], made["cordoned"], made["reason"]) == (0, UUIDS[0], True, "fan fails")
    assert made["cordoned_at"].endswith("Z")
    assert reasons(host) == ["fan fails", None]
    for words in (("gpu", "list"), ("gpu", "show", "0")):
        assert "fan fails" in host.run(*words).stdout
    refused = host.spawn_refusal("w", "--gpu", "0", "--vram", "1GiB")
    assert refused["code"] == "GPU_UNAVAILABLE" and refused["details"]["cordon_reason"] == "fan fails"
    elsewhere = host.json("worker", "spawn", "fake", "-m", f"file:{host.model}", "--gpu", "auto", "--vram", "1GiB", "--dry-run")
    assert elsewhere["worker"]["gpu_id"] == UUIDS[1]
    again = host.json("gpu", "cordon", UUIDS[0])  # another reason replaces the first; since when stays
    assert again == {**made, "reason": "requested"}
    assert host.json("gpu", "uncordon", "0") == {"gpu_id": 0, "uuid": UUIDS[0], "cordoned": False, "reason": None,
                                                 "cordoned_at": None}
    assert host.run("gpu", "uncordon", UUIDS[0]).returncode == 0
    assert reasons(host) == [None, None]
    done = host.run("worker", "spawn", "fake", "-m", f"file:{host.model}", "--gpu", "0", "--vram", "1GiB", "--dry-run")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words, code, field", [
    (("cordon", "7"), "GPU_NOT_FOUND", "gpu_id"), (("uncordon", "7"), "GPU_NOT_FOUND", "gpu_id"),
    (("cordon", "GPU-none"), "GPU_NOT_FOUND", "gpu_id"), (("cordon", "../../v2/events"), "GPU_NOT_FOUND", "gpu_id"),
    (("cordon", "0?x=1#%2f"), "GPU_NOT_FOUND", "gpu_id"), (("cordon", "ü" * 100), "GPU_NOT_FOUND", "gpu_id"),
    (("cordon", ""), "GPU_NOT_FOUND", "gpu_id"),
    (("cordon", "0", "--reason", ""), "INVALID_REQUEST", "reason"),
    (("cordon", "0", "--reason", "x" * 120), "INVALID_REQUEST", "reason"),
    (("cordon", "0", "--reason", "a\nb"), "INVALID_REQUEST", "reason"),
    (("cordon", "0", "--reason", b"\xff\xfe"), "INVALID_REQUEST", "reason"),
])
def test_refusals(ground, words, code, field):
    if isinstance(words[-1], bytes):
        done = subprocess.run([*map(str.encode, ground.command("--json", "gpu", *words[:-1])), words[-1]],
                              env=ground.environment, capture_output=True)
        error = json.loads(done.stdout)["error"]
        assert done.returncode == EXIT_STATUS[error["code"]]
    else:
        error = ground.refusal("gpu", *words)
    assert error["code"] == code and error["details"]["field"] == field
    assert reasons(ground) == [None, None]


def test_the_live_view_says_it(gpu_host):
    assert "cordoned" not in gpu_host.run("gpu", "top", "--once").stdout
    gpu_host.json("gpu", "cordon", "1", "--reason", "a fan rattles")
    lines = [line for line in gpu_host.run("gpu", "top", "--once").stdout.split("\n") if "cordoned" in line]
    assert len(lines) == 1 and lines[0].startswith("GPU 1") and "cordoned: a fan rattles" in lines[0]


def test_daemons_come_and_go(gpu_host):
    """Whoever cordons, everybody sees it; a daemon that is killed loses nothing."""
    host = gpu_host
    first = host.json("gpu", "cordon", "0", "--reason", "one")
    daemon = Daemon(host).start()
    assert reasons(host) == ["one", None]
    second = host.json("gpu", "cordon", "1", "--reason", "two")
    assert shape(first) == shape(second)
    assert daemon.end() == -signal.SIGKILL
    assert reasons(host) == ["one", "two"]
    assert host.run("gpu", "uncordon", "0").returncode == 0
    daemon.start()
    assert reasons(host) == [None, "two"]
    # --local asks no daemon, and the daemon has the registry
    done = host.run("gpu", "list", "--local")
    assert done.returncode == 0 and "not known" in done.stderr
    daemon.end()


def test_a_look_makes_no_state(gpu_host):
    assert gpu_host.run("gpu", "list").returncode == 0
    assert not gpu_host.state_dir.exists()
