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

pytestmark = pytest.mark.skipif(os.readlink("/proc/self/ns/pid") != "pid:[4026531836]",
                                reason="in a pid namespace of its own nothing is attributed")

# As much of nvidia-smi as is asked. What is used comes from the claims of processes that live.
SMI = """#!/usr/bin/python3
import os, pathlib, sys
claims = {}
for path in pathlib.Path(os.environ["FAKE_CUDA_CLAIMS"]).iterdir():
    if path.name.isdigit() and pathlib.Path("/proc", path.name, "exe").exists():
        claims[path.name] = int(path.read_text().split()[-1]) >> 20
if "compute-apps" in sys.argv[1]:
    for pid, mib in claims.items():
        print(f"{pid}, {mib + LIE}")
else:
    used = sum(claims.values())
    row = {"index": "0", "uuid": "UUID", "name": "Fake 24G", "memory.total": "24576", "memory.used": str(used),
           "memory.free": str(24576 - used), "driver_version": "580.00", "compute_cap": "8.9", "mig.mode.current": "[N/A]"}
    print(", ".join(row[name] for name in sys.argv[1].split("=")[1].split(",")))
"""


def run_checks(tmp_path, lie_mib=0, name="Fake 24G"):
    claims = tmp_path / "claims"
    claims.mkdir()
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(SMI.replace("UUID\"", UUID + "\"").replace("LIE", str(lie_mib)))
    smi.chmod(0o755)
    nvml = tmp_path / "nvml.conf"
    nvml.write_text(f"[driver]\nversion = 580.00\nclaims = {claims}\nrelease_delay_ms = 100\n\n[gpu 0]\nuuid = {UUID}\nname = {name}\n"
                    "total = 24GiB\nreserved = 0\nused = 0\n")
    environment = {**os.environ, "FAKE_NVML_CONFIG": str(nvml), "FAKE_CUDA_CLAIMS": str(claims),
                   "FAKE_CUDA_CONTEXT_BYTES": str(300 * MIB), "LD_LIBRARY_PATH": str(BUILD / "support"),
                   "PATH": f"{smi.parent}:{os.environ['PATH']}", "POOL_BUILD_DIR": str(BUILD), "POOL_GPU_EVENT_WAIT_S": "1",
                   "POOL_GPU_LOCK_DIR": str(tmp_path)}
    environment.pop("POOL_CUDA_LLAMA_SERVER", None)
    return subprocess.run([sys.executable, ROOT / "tests/gpu/run"], env=environment, capture_output=True, text=True,
                          check=False)


def test_all_is_right(tmp_path):
    done = run_checks(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout and done.stdout.rstrip().endswith("passed")
    assert "nvmlDeviceGetMemoryInfo_v2" in done.stdout and "INSUFFICIENT_VRAM" not in done.stderr
    assert "takes-256: allocated 268435456, attributed 583008256" in done.stdout


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
