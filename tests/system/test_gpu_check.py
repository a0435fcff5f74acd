"""./dev gpu-check against the fake driver, a fake CUDA and an nvidia-smi that reads the same file: the checks pass where all is right,
and fail where it is not."""
import os
import pathlib
import subprocess
import sys

import pytest
from pool_host import BUILD, ROOT

UUID = "GPU-fa4e0000-0000-4000-8000-000000000000"
MIB = 1 << 20

sys.path.insert(0, str(ROOT / "tests" / "gpu"))
import gpu_topology  # noqa: E402
from gpu_ground import Report  # noqa: E402

attributed = pytest.mark.skipif(os.readlink("/proc/self/ns/pid") != "pid:[4026531836]",
                                reason="in a pid namespace of its own nothing is attributed")

# As much of nvidia-smi as is asked. What is used comes from the claims of processes that live.
SMI = """#!/usr/bin/python3
import os, pathlib, sys
claims = {}
for path in pathlib.Path(os.environ["FAKE_CUDA_CLAIMS"]).iterdir():
    if path.name.isdigit() and pathlib.Path("/proc", path.name, "exe").exists():
        claims[path.name] = int(path.read_text().split()[-1]) >> 20
if sys.argv[1] in ("topo", "nvlink"):
    print((pathlib.Path(sys.argv[0]).parent / sys.argv[1]).read_text())
elif "compute-apps" in sys.argv[1]:
    for pid, mib in claims.items():
        print(f"{pid}, {mib + LIE}")
else:
    used = sum(claims.values())
    row = {"index": "0", "uuid": "UUID", "name": "Fake 24G", "memory.total": "24576", "memory.used": str(used),
           "memory.free": str(24576 - used), "driver_version": "580.00", "compute_cap": "8.9", "mig.mode.current": "[N/A]"}
    print(", ".join(row[name] for name in sys.argv[1].split("=")[1].split(",")))
"""


# What nvidia-smi prints of two GPUs with a bridge: of driver 580, with a NIC in the matrix and its head underlined.
MATRIX = ("\t\x1b[4mGPU0\tGPU1\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n"
          "GPU0\t X \tNV2\tPHB\t0-15\t0\t\tN/A\nGPU1\tNV2\t X \tSYS\t16-31\t1\t\tN/A\nNIC0\tPHB\tSYS\t X \t\t\t\t\n\n"
          "Legend:\n\n  X    = Self\n  NV#  = Connection traversing a bonded set of # NVLinks\n\nNIC Legend:\n\n  NIC0: mlx5_0\n")
LINKS = "".join(f"GPU {i}: NVIDIA Fake 24GB (UUID: GPU-fa4e0000-0000-4000-8000-00000000000{i})\n"
                "\t Link 0: 26.562 GB/s\n\t Link 1: 26.562 GB/s\n\t Link 2: <inactive>\n" for i in range(2))
SECOND = ("nvlink = 0 1 2:0.0\nnvlink = 1 1 2:0.0\nnvlink = 2 0\n"
          "[gpu 1]\nnvlink = 0 1 1:0.0\nnvlink = 1 1 1:0.0\nnvlink = 2 0\n")


def run_checks(tmp_path, lie_mib=0, name="Fake 24G", more=""):
    claims = tmp_path / "claims"
    claims.mkdir()
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(SMI.replace("UUID\"", UUID + "\"").replace("LIE", str(lie_mib)))
    smi.chmod(0o755)
    (smi.parent / "topo").write_text(MATRIX)
    (smi.parent / "nvlink").write_text(LINKS if more else f"GPU 0: Fake (UUID: {UUID}) Device does not have or support Nvlink\n")
    nvml = tmp_path / "nvml.conf"
    nvml.write_text(f"[driver]\nversion = 580.00\nclaims = {claims}\nrelease_delay_ms = 100\n\n[gpu 0]\nuuid = {UUID}\nname = {name}\n"
                    f"total = 24GiB\nreserved = 0\nused = 0\n{more}")
    environment = {**os.environ, "FAKE_NVML_CONFIG": str(nvml), "FAKE_CUDA_CLAIMS": str(claims),
                   "FAKE_CUDA_CONTEXT_BYTES": str(300 * MIB), "LD_LIBRARY_PATH": str(BUILD / "support"),
                   "PATH": f"{smi.parent}:{os.environ['PATH']}", "POOL_BUILD_DIR": str(BUILD), "POOL_GPU_EVENT_WAIT_S": "1",
                   "POOL_GPU_LOCK_DIR": str(tmp_path)}
    environment.pop("POOL_CUDA_LLAMA_SERVER", None)
    return subprocess.run([sys.executable, ROOT / "tests/gpu/run"], env=environment, capture_output=True, text=True,
                          check=False)


@attributed
def test_all_is_right(tmp_path):
    done = run_checks(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout and done.stdout.rstrip().endswith("passed")
    assert "nvmlDeviceGetMemoryInfo_v2" in done.stdout and "INSUFFICIENT_VRAM" not in done.stderr
    assert "takes-256: allocated 268435456, attributed 583008256" in done.stdout
    assert "SKIPPED: one GPU, there is no pair" in done.stdout and "ok   GPU 0: 0 active NVLinks, nvidia-smi 0" in done.stdout


@attributed
def test_several_gpus_are_connected_as_it_says(tmp_path):
    done = run_checks(tmp_path, more=SECOND)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   GPU 0 and 1: NV2, nvidia-smi NV2" in done.stdout
    assert [f"ok   GPU {i}: 2 active NVLinks, nvidia-smi 2" in done.stdout for i in range(2)] == [True, True]


class Said:
    """What our command says, of two GPUs that are connected so."""

    def __init__(self, nvlinks, common_ancestor, n_active):
        self.gpus = [{"gpu_id": i, "uuid": f"GPU-{i}", "nvlinks": [{"active": True}] * n_active,
                      "peers": [{"gpu_id": 1 - i, "nvlinks": nvlinks, "common_ancestor": common_ancestor}]} for i in range(2)]

    def ask(self, *words):
        assert words == ("gpu", "topology")
        return {"gpus": self.gpus}


@pytest.mark.parametrize("said, matrix, n_failed", [
    (Said(2, "node", 2), "\tGPU0\tGPU1\nGPU0\t X \tNV2\nGPU1\tNV2\t X \n", 0),
    (Said(0, "node", 2), "\tGPU0\tGPU1\nGPU0\t X \tNODE\nGPU1\tNODE\t X \n", 0),
    (Said(None, "single", 2), "        GPU0    GPU1    CPU Affinity\nGPU0     X      PIX     0-7\nGPU1    PIX      X      0-7\n", 0),
    (Said(2, "node", 2), "\tGPU0\tGPU1\nGPU0\t X \tNV4\nGPU1\tNV4\t X \n", 1),
    (Said(2, "node", 2), "\tGPU0\tGPU1\nGPU0\t X \tNV2\nGPU1\tNV4\t X \n", 1),
    (Said(0, "system", 2), "\tGPU0\tGPU1\nGPU0\t X \tPHB\nGPU1\tPHB\t X \n", 1),
    (Said(0, None, 2), "\tGPU0\tGPU1\nGPU0\t X \tPHB\nGPU1\tPHB\t X \n", 1),
    (Said(2, "node", 1), "\tGPU0\tGPU1\nGPU0\t X \tNV2\nGPU1\tNV2\t X \n", 2),
    (Said(2, "node", 2), "", 0),
])
def test_what_is_connected_otherwise_is_found(monkeypatch, said, matrix, n_failed):
    links = LINKS.replace("GPU-fa4e0000-0000-4000-8000-00000000000", "GPU-")
    monkeypatch.setattr(gpu_topology, "ask_smi_text", lambda *words: matrix if words == ("topo", "-m") else links)
    report = Report()
    gpu_topology.check_topology(said, report)
    assert (len(report.failed), report.n_passed) == (n_failed, (3 if matrix else 2) - n_failed), report.lines


@attributed
@pytest.mark.parametrize("wrong, said", [({"lie_mib": 100}, "nvidia-smi says"), ({"name": "Another"}, "name")])
def test_what_is_wrong_is_found(tmp_path, wrong, said):
    done = run_checks(tmp_path, **wrong)
    assert done.returncode == 1, done.stdout + done.stderr
    assert any("FAIL" in line and said in line for line in done.stdout.split("\n")), done.stdout


def test_no_driver(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "tests/gpu/run"], env={**os.environ, "PATH": str(tmp_path)},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "SKIPPED" in done.stdout


def test_the_page_has_its_place_for_results():
    assert pathlib.Path(ROOT, "docs", "gpu-validation.md").read_text().count("<!-- results: ") == 1
