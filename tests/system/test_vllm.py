"""The built-in backend vllm, played by the fake worker under its name: models that are folders of safetensors, how much of its device the
engine is told to take, and that the ledger has as much for it."""
import json
import struct

import pytest
from pool_host import BUILD, FAKE_WORKER, Host

UUIDS = [f"GPU-fa4e0000-0000-4000-8000-00000000000{n}" for n in range(2)]
GIB = 1 << 30
MIB = 1 << 20
SHAPE = {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32,
         "max_position_embeddings": 131072}
CACHE_BYTES = GIB  # 8192 tokens of 32 layers with 8 heads of 128, twice, two bytes each


def write_model(folder, weights_bytes=3 * GIB):
    """As large as it says, and a hole."""
    folder.mkdir()
    header = json.dumps({"a": {"dtype": "BF16", "shape": [weights_bytes // 2], "data_offsets": [0, weights_bytes]}}).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + weights_bytes)
    (folder / "config.json").write_text(json.dumps(SHAPE))


@pytest.fixture
def host(tmp_path, ports):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "vllm").symlink_to(FAKE_WORKER)
    claims = tmp_path / "claims"
    claims.mkdir()
    devices = "".join(f"[gpu {n}]\nuuid = {uuid}\nname = Fake\ntotal = 24GiB\nreserved = 0\nused = 0\n" for n, uuid in enumerate(UUIDS))
    nvml = tmp_path / "nvml.conf"
    nvml.write_text(f"[driver]\nversion = 580.00\nclaims = {claims}\n\n{devices}")
    host = Host(tmp_path, ports, config=f'[backends.vllm]\nenv.FAKE_WORKER_ARGS = "--vram-claims {claims} --vram visible:{2 * GIB}"\n'
                f'[gpu]\ninventory = "nvml:{BUILD}/support/libnvidia-ml.so.1"\nvram_headroom_bytes = 0\n')
    host.environment.update(FAKE_NVML_CONFIG=str(nvml), PATH=f"{programs}:{host.environment['PATH']}")
    host.folder = host.models / "llama"
    write_model(host.folder)
    yield host
    host.stop_everything()


def plan(host, *arguments):
    return host.json("worker", "spawn", "vllm", "--model", f"file:{host.folder}", "--gpu", "0", "--dry-run", *arguments)


def value_after(command, name):
    return command[len(command) - 1 - command[::-1].index(name) + 1]


def test_the_header_of_a_folder(host):
    shown = host.json("models", "show", f"file:{host.folder}")
    assert shown["header"]["architecture"] == "llama" and shown["header"]["block_count"] == 32
    assert shown["estimate_gpu"]["total_bytes"] > 4 * GIB and shown["estimate_cpu"] is None
    assert "needs, CPU" not in host.run("models", "show", f"file:{host.folder}").stdout
    estimate = host.json("models", "estimate", f"file:{host.folder}", "--backend", "vllm")["estimate"]
    assert (estimate["weights_bytes"], estimate["kv_cache_bytes"]) == (3 * GIB, CACHE_BYTES)


def test_what_is_reserved_is_what_the_engine_is_told(host):
    made = plan(host)
    assert made["reserved_source"] == "estimate"
    assert value_after(made["command"], "--max-model-len") == "8192"
    fraction = float(value_after(made["command"], "--gpu-memory-utilization"))
    allowed = made["reserved_bytes"] - made["estimate"]["margin_bytes"]
    assert allowed - 24 * GIB / 1000 < fraction * 24 * GIB <= allowed
    asked = plan(host, "--vram", 12 * GIB)
    assert 0.499 <= float(value_after(asked["command"], "--gpu-memory-utilization")) <= 0.5
    assert asked["reserved_bytes"] == 12 * GIB


def test_what_the_engine_was_told_is_what_is_reserved(host):
    made = plan(host, "--arg=--gpu-memory-utilization", "--arg=0.5")
    assert made["reserved_source"] == "gpu_memory_utilization"
    assert 12 * GIB <= made["reserved_bytes"] <= 12 * GIB + MIB
    assert value_after(made["command"], "--gpu-memory-utilization") == "0.5"
    error = host.refusal("worker", "spawn", "vllm", "--model", f"file:{host.folder}", "--gpu", "0,1", "--dry-run",
                         "--arg=--gpu-memory-utilization", "--arg=0.5")
    assert error["code"] == "INVALID_REQUEST" and error["details"]["field"] == "gpu_ids"


def test_a_backend_that_says_nothing_takes_what_the_engine_takes(host):
    with open(host.config, "a", encoding="utf-8") as config:
        config.write('[backends.plain]\nextends = "vllm"\ncommand = ["vllm", "serve", "{model_path}", "--port", "{port}"]\n')
    made = host.json("worker", "spawn", "plain", "--model", f"file:{host.folder}", "--gpu", "0", "--dry-run")
    assert made["reserved_source"] == "gpu_memory_utilization"
    assert 0.9 * 24 * GIB <= made["reserved_bytes"] <= 0.9 * 24 * GIB + MIB


def test_over_two_devices(host):
    made = host.json("worker", "spawn", "vllm", "--model", f"file:{host.folder}", "--gpu", "0,1", "--dry-run")
    assert value_after(made["command"], "--tensor-parallel-size") == "2"
    one = plan(host)
    assert one["reserved_bytes"] < made["reserved_bytes"] < 2 * one["reserved_bytes"]
    fraction = float(value_after(made["command"], "--gpu-memory-utilization"))
    assert 0 < fraction * 2 * 24 * GIB <= made["reserved_bytes"]
    error = host.refusal("worker", "spawn", "vllm", "--model", f"file:{host.folder}", "--gpu", "0,1", "--split", "3,1", "--dry-run")
    assert error["code"] == "INVALID_REQUEST" and error["details"]["field"] == "split"


def test_starts_do_not_grow(host):
    """What was measured is shown, and the next start is told the same."""
    first = plan(host)
    done = host.run("worker", "spawn", "vllm", "--model", f"file:{host.folder}", "--gpu", "0", "--id", "w", "--wait")
    assert done.returncode == 0, done.stderr
    second = plan(host)
    assert second["need"]["measured_bytes"] is not None
    for name in ("reserved_bytes", "reserved_source"):
        assert first[name] == second[name]
    assert value_after(first["command"], "--gpu-memory-utilization") == value_after(second["command"], "--gpu-memory-utilization")
