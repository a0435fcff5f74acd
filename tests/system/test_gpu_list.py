"""`gpu list` against the fake driver in all its moods, and without one. Whatever the driver says: no crash, exit 0,
one document, and where something is missing, the reason. The library is found as a user's is: on the loader's path,
or by the path that the configuration names.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from pool_host import BUILD, FAKE_NVML, PATIENCE_S, PROGRAM, ROOT, Host, is_running, wait_until

GIB = 1 << 30
UUIDS = [f"GPU-fa4e0000-0000-4000-8000-00000000000{i}" for i in range(4)]
LOST, RESET_REQUIRED = 15, 16
CODES = [code for code in range(1, 31) if code != 5] + [999, 31, 4242]
HIDING = {2, 4, 6, 17, 28}  # a device that is not there for us; it is left out, and that is said


class Driver:
    """A host whose driver is the fake one."""

    def __init__(self, directory, ports):
        self.directory = directory
        self.host = Host(directory, ports, device="gpu", config=f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\n')
        self.world_file = directory / "world.conf"
        self.host.environment["FAKE_NVML_CONFIG"] = str(self.world_file)

    def set(self, text):
        fresh = self.world_file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.world_file)

    def list(self, world=None, environment=None):
        if world is not None:
            self.set(world)
        done = self.host.run("gpu", "list", "--json", environment=environment, timeout=PATIENCE_S)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        answer = json.loads(done.stdout)
        assert set(answer) == {"gpus", "source", "reason", "taken_boottime_ns"}
        for gpu in answer["gpus"]:
            assert gpu["healthy"] or gpu["health_reason"], gpu
            if gpu["vram_total_bytes"] is not None:
                assert 0 <= gpu["vram_free_bytes"] <= gpu["vram_total_bytes"]
                assert 0 <= gpu["vram_used_bytes"] <= gpu["vram_total_bytes"]
            else:
                assert not gpu["healthy"] or not gpu["placeable"]
        if not answer["gpus"]:
            assert answer["reason"]
        return answer

    def with_library(self, library):
        """The configuration names this library from now on."""
        self.host.config.write_text(self.host.config.read_text().replace(str(FAKE_NVML), str(library)))


@pytest.fixture
def driver(tmp_path, ports):
    driver = Driver(tmp_path, ports)
    yield driver
    driver.host.stop_everything()


def gpu(number, *lines):
    return f"[gpu {number}]\nuuid = {UUIDS[number]}\n" + "".join(f"{line}\n" for line in lines)


def make_library(path, *missing):
    subprocess.run([sys.executable, ROOT / "tests/support/fake_nvml/make-fake-nvml", path, "--without",
                    ",".join(missing), "--from", FAKE_NVML], check=True)
    return path


# ---- what is there ----


def test_one_gpu_with_all_its_readings(driver):
    world = "[driver]\nversion = 580.65.06\ncuda = 13000\n" + gpu(
        0, "name = Fake H100", "total = 80GiB", "reserved = 1GiB", "used = 3GiB", "temperature = 51",
        "power_mw = 123456", "enforced_power_limit_mw = 700000", "util_gpu = 37", "util_memory = 12",
        "ecc_volatile_corrected = 5", "ecc_volatile_uncorrected = 2", "persistence = off", "minor = 3",
        "compute_capability = 9.0", "pci = 00000000:3B:00.0")
    answer = driver.list(world)
    assert answer["source"] == "nvml" and answer["reason"] is None and len(answer["gpus"]) == 1
    expected = {
        "gpu_id": 0, "uuid": UUIDS[0], "name": "Fake H100", "vram_total_bytes": 80 * GIB,
        "vram_free_bytes": 76 * GIB, "vram_used_bytes": 3 * GIB, "vram_reserved_bytes": GIB,
        "pci_bus_id": "00000000:3B:00.0", "driver_version": "580.65.06", "cuda_version": 13000,
        "compute_capability_major": 9, "compute_capability_minor": 0, "temperature_celsius": 51,
        "power_usage_mw": 123456, "power_limit_mw": 700000, "utilization_percent": 37,
        "memory_utilization_percent": 12, "ecc_enabled": True, "ecc_corrected_errors": 5,
        "ecc_uncorrected_errors": 2, "mig_enabled": None, "mig_instance": False, "placeable": True,
        "persistence_enabled": False, "minor_number": 3, "healthy": True, "processes": [],
    }
    assert {name: answer["gpus"][0][name] for name in expected} == expected


def test_the_loader_finds_the_library(driver):
    driver.with_library("")
    found = driver.list(gpu(0), {"LD_LIBRARY_PATH": str(FAKE_NVML.parent)})
    assert [g["uuid"] for g in found["gpus"]] == [UUIDS[0]]


def test_several_gpus_in_the_drivers_order(driver):
    answer = driver.list("".join(gpu(i, f"total = {8 * (i + 1)}GiB") for i in range(4)))
    assert [g["uuid"] for g in answer["gpus"]] == UUIDS
    assert [g["gpu_id"] for g in answer["gpus"]] == [0, 1, 2, 3]
    assert [g["vram_total_bytes"] for g in answer["gpus"]] == [8 * GIB * (i + 1) for i in range(4)]


def test_a_table_for_people(driver):
    driver.set(gpu(0, "name = Fake One") + gpu(1, "name = Fake Two", "lost = yes"))
    done = driver.host.run("gpu", "list")
    assert done.returncode == 0
    assert "Fake One" in done.stdout and "lost" in done.stdout


def test_readings_that_a_device_does_not_have_are_absent(driver):
    names = ["minor", "compute_capability", "temperature", "power_mw", "power_limit_mw", "enforced_power_limit_mw",
             "util_gpu", "ecc", "persistence", "mig"]
    found = driver.list(gpu(0, *(f"{name} = none" for name in names)))["gpus"][0]
    for name in ("minor_number", "compute_capability_major", "temperature_celsius", "power_usage_mw",
                 "power_limit_mw", "utilization_percent", "ecc_enabled", "persistence_enabled", "mig_enabled"):
        assert found[name] is None, name
    assert found["healthy"] and found["vram_total_bytes"] == 24 * GIB


# ---- no driver ----


def test_no_library(driver):
    driver.with_library("")
    answer = driver.list()
    assert answer["gpus"] == [] and "libnvidia-ml.so.1" in answer["reason"]


def test_no_library_where_the_configuration_says(driver, tmp_path):
    driver.with_library(tmp_path / "nowhere" / "libnvidia-ml.so.1")
    assert driver.list()["gpus"] == []


@pytest.mark.parametrize("kind", ["empty", "text", "half", "directory", "unreadable", "program", "other"])
def test_a_library_that_is_none(driver, tmp_path, kind):
    path = tmp_path / "libnvidia-ml.so.1"
    image = FAKE_NVML.read_bytes()
    if kind == "directory":
        path.mkdir()
    elif kind == "other":  # a sound library, of something else
        libraries = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
        path.symlink_to([line.split()[-1] for line in libraries.splitlines() if "libm.so.6" in line][0])
    else:
        path.write_bytes({"empty": b"", "text": b"#!/bin/sh\n", "half": image[:40], "unreadable": image,
                          "program": (driver.host.directory / "models/tiny.gguf").read_bytes()}[kind])
        if kind == "unreadable":
            path.chmod(0)
            if os.geteuid() == 0:
                path.unlink()  # root reads everything: a dangling link instead
                path.symlink_to(tmp_path / "gone")
    driver.with_library(path)
    answer = driver.list(gpu(0))
    assert answer["gpus"] == []
    driver.with_library("")
    answer = driver.list(environment={"LD_LIBRARY_PATH": str(tmp_path)})
    assert answer["gpus"] == []


def test_no_driver_behind_the_library(driver):
    answer = driver.list()  # without its world the fake answers as without the kernel's module: 9
    assert answer["gpus"] == [] and "code 9" in answer["reason"]


def test_no_device(driver):
    assert driver.list("[driver]\n")["gpus"] == []


def test_a_world_that_makes_no_sense(driver):
    """The fake's answer to a file that it does not understand is 999 to every call."""
    answer = driver.list("[gpu zero]\nwhat = ever\n")
    assert answer["gpus"] == [] and "999" in answer["reason"]


@pytest.mark.parametrize("inventory", ["nvml", "cuda:", "", "nvml:/" + "x" * 5000])
def test_a_source_that_is_none_is_an_error_of_the_configuration(driver, inventory):
    driver.host.config.write_text(driver.host.config.read_text().replace(f"nvml:{FAKE_NVML}", inventory))
    assert driver.host.refusal("gpu", "list")["code"] == "INVALID_CONFIG"


# ---- every return code, of every call that matters ----


@pytest.mark.parametrize("function", ["nvmlInit_v2", "nvmlDeviceGetCount_v2"])
def test_every_code_of_the_driver_as_a_whole(driver, function):
    for code in CODES:
        answer = driver.list(f"[driver]\nreturn.{function} = {code}\n{gpu(0)}")
        assert answer["gpus"] == [], (function, code)
        assert f"code {code}" in answer["reason"] or code == 1


def check_neighbour(found, code):
    assert found["uuid"] == UUIDS[1] and found["healthy"] and found["name"] == "Neighbour", code
    assert found["vram_free_bytes"] == 7 * GIB and found["processes"] == [], code


CALLS = {
    "handle": ["nvmlDeviceGetHandleByIndex_v2"],
    "memory": ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"],
    "name": ["nvmlDeviceGetName"],
    "uuid": ["nvmlDeviceGetUUID"],
    "processes": ["nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetRunningProcessDetailList"],
    "readings": ["nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetPowerUsage",
                 "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetEccMode", "nvmlDeviceGetMigMode"],
}


@pytest.mark.parametrize("call", CALLS)
def test_every_code_of_one_device(driver, call):
    """One device answers with the code; the one beside it is shown as if nothing were."""
    for code in CODES:
        returns = [f"return.{function} = {code}" for function in CALLS[call]]
        answer = driver.list(gpu(0, "name = Sick", *returns) + gpu(1, "name = Neighbour", "total = 8GiB",
                                                                   "reserved = 1GiB"))
        check_neighbour(answer["gpus"][-1], code)
        sick = answer["gpus"][0] if len(answer["gpus"]) == 2 else None
        if call == "handle" and code in HIDING:
            assert sick is None and "GPU 0" in answer["reason"], code
            continue
        assert sick["gpu_id"] == 0, code
        if call == "handle" or code in (LOST, RESET_REQUIRED):
            assert not sick["healthy"] and sick["vram_total_bytes"] is None, code
        elif call == "memory":
            assert not sick["healthy"] and sick["vram_free_bytes"] is None and sick["name"] == "Sick", code
        elif call == "uuid":
            assert not sick["healthy"] and sick["uuid"] is None and sick["vram_free_bytes"] is not None, code
        elif call == "processes":
            assert sick["healthy"] and sick["processes"] is None, code
        else:
            assert sick["healthy"] and sick["vram_free_bytes"] is not None and sick["processes"] == [], code
        if call == "name":
            assert sick["name"] is None, code
        if call == "readings":
            assert sick["temperature_celsius"] is None and sick["power_usage_mw"] is None, code
            assert sick["utilization_percent"] is None and sick["ecc_enabled"] is None, code


def test_one_lost_gpu_beside_healthy_ones(driver):
    world = gpu(0) + gpu(1, "lost = yes") + gpu(2)
    answer = driver.list(world)
    assert [g["healthy"] for g in answer["gpus"]] == [True, False, True]
    assert "lost" in answer["gpus"][1]["health_reason"]
    assert [g["uuid"] for g in answer["gpus"]][::2] == [UUIDS[0], UUIDS[2]]
    error = driver.host.spawn_refusal("w", "--gpu", "1", "--vram", 1)
    assert error["code"] == "GPU_UNAVAILABLE"
    started = driver.host.spawn("w", "--gpu", "auto", "--vram", 1)
    assert started.returncode == 0, started.stderr


@pytest.mark.parametrize("missing", [
    "nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlShutdown", "nvmlErrorString", "nvmlDeviceGetTemperature",
    "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMigMode",
    "nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2", "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetRunningProcessDetailList", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetEccMode"])
def test_a_library_without_one_function(driver, tmp_path, missing):
    driver.with_library(make_library(tmp_path / "older.so", missing))
    found = driver.list(gpu(0))["gpus"]
    assert len(found) == 1 and found[0]["vram_free_bytes"] is not None
    assert found[0]["healthy"] == (missing != "nvmlDeviceGetUUID")


@pytest.mark.parametrize("missing", ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"])
def test_a_library_without_what_there_must_be(driver, tmp_path, missing):
    driver.with_library(make_library(tmp_path / "other.so", missing))
    answer = driver.list(gpu(0))
    assert answer["gpus"] == [] and missing in answer["reason"]


# ---- memory and processes ----


def test_the_first_version_of_the_memory_alone(driver, tmp_path):
    """It counts the reserve as used, and does not say how much it is."""
    world = gpu(0, "total = 24GiB", "reserved = 1GiB", "used = 2GiB")
    for name, answer in {"missing": None, "refused": "no"}.items():
        text = world if answer is None else f"[driver]\nmemory_v2 = {answer}\n{world}"
        if answer is None:
            driver.with_library(make_library(tmp_path / "r470.so", "nvmlDeviceGetMemoryInfo_v2"))
        found = driver.list(text)["gpus"][0]
        assert found["healthy"] and found["vram_reserved_bytes"] is None, name
        assert found["vram_free_bytes"] == 21 * GIB and found["vram_used_bytes"] == 3 * GIB, name


def test_both_meanings_of_the_second_version(driver):
    for includes in ("yes", "no"):
        found = driver.list(f"[driver]\nv2_used_includes_reserved = {includes}\n" +
                            gpu(0, "total = 24GiB", "reserved = 1GiB", "used = 2GiB"))["gpus"][0]
        assert found["vram_used_bytes"] == 2 * GIB and found["vram_free_bytes"] == 21 * GIB
        assert found["vram_reserved_bytes"] == GIB


@pytest.mark.parametrize("lie", ["free = 25GiB", "free = 16777216GiB", "total = 0"])
def test_memory_that_can_not_be_is_not_shown(driver, lie):
    lines = ["total = 24GiB", lie] if not lie.startswith("total") else [lie, "reserved = 0"]
    answer = driver.list(gpu(0, *lines) + gpu(1, "name = Neighbour", "total = 8GiB", "reserved = 1GiB"))
    sick = answer["gpus"][0]
    assert not sick["healthy"] and sick["vram_total_bytes"] is None and sick["vram_free_bytes"] is None
    check_neighbour(answer["gpus"][1], lie)
    assert driver.host.spawn_refusal("w", "--gpu", "0", "--vram", 1)["code"] == "GPU_UNAVAILABLE"


@pytest.mark.parametrize("stride", [16, 24, 32])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 40])
def test_the_three_strides_of_process_records(driver, tmp_path, stride, count):
    pids = [1, os.getpid(), os.getppid(), *range(300001, 300038)][:count]
    driver.with_library(make_library(tmp_path / "no-details.so", "nvmlDeviceGetRunningProcessDetailList"))
    found = driver.list(f"[driver]\nprocess_stride = {stride}\n" +
                        gpu(0, *(f"process = {pid} {i + 1}MiB" for i, pid in enumerate(pids))))["gpus"][0]
    assert [(p["pid"], p["used_vram_bytes"]) for p in found["processes"]] == [
        (pid, (i + 1) << 20) for i, pid in enumerate(pids)]


def test_processes_whose_memory_nobody_knows(driver):
    for world in ("[driver]\nprocess_bytes = unknown\n" + gpu(0, "process = 1 4GiB"), gpu(0, "process = 1 unknown")):
        found = driver.list(world)["gpus"][0]
        assert [(p["pid"], p["used_vram_bytes"]) for p in found["processes"]] == [(1, None)]


def test_more_processes_than_anybody_expects(driver):
    found = driver.list(gpu(0, *(f"process = {1000 + i} 1MiB" for i in range(300))))["gpus"][0]
    assert len(found["processes"]) == 300


# ---- MIG ----


def test_mig_instances(driver):
    world = gpu(0, "mig = on", "total = 80GiB") + (
        "[mig 0.0]\nuuid = MIG-a\ntotal = 20GiB\ngi = 1\nci = 0\nprocess = 4321 1GiB\n"
        "[mig 0.2]\nuuid = MIG-b\ntotal = 40GiB\ngi = 2\nci = 0\n") + gpu(1)
    answer = driver.list(world)
    by_uuid = {g["uuid"]: g for g in answer["gpus"]}
    assert set(by_uuid) == {UUIDS[0], "MIG-a", "MIG-b", UUIDS[1]}
    assert not by_uuid[UUIDS[0]]["placeable"] and by_uuid[UUIDS[0]]["mig_enabled"]
    for uuid in ("MIG-a", "MIG-b"):
        assert by_uuid[uuid]["mig_instance"] and by_uuid[uuid]["placeable"]
        assert by_uuid[uuid]["parent_uuid"] == UUIDS[0]
    assert by_uuid["MIG-a"]["vram_total_bytes"] == 20 * GIB
    assert [p["pid"] for p in by_uuid["MIG-a"]["processes"]] == [4321]
    assert driver.host.spawn_refusal("w", "--gpu", "0", "--vram", 1)["code"] == "GPU_UNAVAILABLE"
    assert driver.host.spawn_refusal("w", "--gpu", UUIDS[0], "--vram", 1)["code"] == "GPU_UNAVAILABLE"
    assert driver.host.spawn("w", "--gpu", "MIG-b", "--vram", 1).returncode == 0
    assert driver.host.rows()[0]["gpu_id"] == "MIG-b"


def test_mig_device_without_permission(driver):
    world = gpu(0, "mig = on", "return.nvmlDeviceGetMemoryInfo = 4", "return.nvmlDeviceGetMemoryInfo_v2 = 4",
                "return.nvmlDeviceGetMigDeviceHandleByIndex = 4") + "[mig 0.0]\nuuid = MIG-a\n" + gpu(1)
    answer = driver.list(world)
    assert [g["uuid"] for g in answer["gpus"]] == [UUIDS[0], UUIDS[1]] and answer["reason"]


# ---- texts that nobody should trust ----


@pytest.mark.parametrize("name", ["\x1b[31mred\x1b[0m", "caf\u00e9 \u2603", "x" * 95, '"quoted" \\ back', "%s%n%x"])
def test_names_of_all_kinds(driver, name):
    found = driver.list(gpu(0, f"name = {name}"))["gpus"][0]
    assert found["healthy"] and found["name"]
    done = driver.host.run("gpu", "list")
    assert done.returncode == 0 and "\x1b[31m" not in done.stdout


@pytest.mark.parametrize("uuid", ["7", "GPU with blanks", "GPU-\x1b[0m", "x" * 95])
def test_uuids_of_all_kinds(driver, uuid):
    """One that could be taken for an index, or would break an environment, is none."""
    found = driver.list(f"[gpu 0]\nuuid = {uuid}\n")["gpus"][0]
    assert found["uuid"] is None or (found["uuid"] == uuid and uuid == "x" * 95)
    assert found["healthy"] == (found["uuid"] is not None)


# ---- a driver that hangs ----


def test_a_slow_driver_is_waited_for(driver):
    answer = driver.list("[driver]\nhang.nvmlDeviceGetCount_v2 = 300\n" + gpu(0))
    assert len(answer["gpus"]) == 1


def test_a_driver_that_hangs_holds_no_lock(driver):
    """The call blocks, as its page says. Starts and lists beside it do not: the driver is asked before any lock."""
    assert driver.host.run("worker", "list").returncode == 0
    driver.set("[driver]\nhang.nvmlDeviceGetCount_v2 = forever\n" + gpu(0))
    hanging = [driver.host.start("gpu", "list"),
               driver.host.start("worker", "spawn", "fake", "--model", f"file:{driver.host.model}", "--vram", 1)]
    for command in hanging:
        wait_until(lambda c=command: is_mapped(helper_of(c), FAKE_NVML), what="the driver's library")
    for _ in range(3):
        assert driver.host.run("worker", "list").returncode == 0
    cpu = driver.host.directory / "cpu.toml"
    cpu.write_text(driver.host.config.read_text().replace('device = "gpu"', 'device = "cpu"'))
    started = subprocess.run([*driver.host.command()[:1], "--config", cpu, "worker", "spawn", "fake", "--model",
                              f"file:{driver.host.model}", "--id", "beside"], env=driver.host.environment, timeout=PATIENCE_S)
    assert started.returncode == 0
    assert all(command.poll() is None for command in hanging)
    driver.set(gpu(0))  # the driver comes back, and they go on
    assert [command.wait(timeout=PATIENCE_S) for command in hanging] == [0, 0]
    for command in hanging:
        command.communicate()
    assert len(driver.host.rows()) == 2


def is_mapped(pid, library):
    try:
        return str(library.resolve()) in pathlib.Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def helper_of(command):
    """The pool-gpu-probe that a command has started, None while there is none."""
    try:
        children = pathlib.Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
        return next((int(child) for child in children if
                     pathlib.Path(f"/proc/{child}/comm").read_text() == "pool-gpu-probe\n"), None)
    except OSError:
        return None


def test_the_helper_hangs_in_the_command_s_place(driver):
    """The command waits for it and no longer than it wants to: an interrupt ends the command, and the helper with it."""
    driver.set("[driver]\nhang.nvmlInit_v2 = forever\n" + gpu(0))
    command = driver.host.start("gpu", "list")
    wait_until(lambda: helper_of(command), seconds=PATIENCE_S, what="the helper")
    helper = helper_of(command)
    assert not any("libnvidia-ml" in line for line in pathlib.Path(f"/proc/{command.pid}/maps").read_text().splitlines())
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not is_running(helper), seconds=PATIENCE_S, what="the end of the helper")


def test_a_helper_that_dies_is_no_answer(driver):
    driver.set("[driver]\nhang.nvmlInit_v2 = forever\n" + gpu(0))
    command = driver.host.start("--json", "gpu", "list")
    wait_until(lambda: helper_of(command), seconds=PATIENCE_S, what="the helper")
    os.kill(helper_of(command), signal.SIGKILL)
    out, _ = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 7 and json.loads(out)["error"]["code"] == "GPU_UNAVAILABLE"


def test_without_the_helper_the_command_asks_itself(driver, tmp_path):
    """The library and rbees-pool alone, as a package may have them."""
    alone = tmp_path / "alone"
    (alone / "bin").mkdir(parents=True)
    shutil.copy(PROGRAM, alone / "bin" / "rbees-pool")
    driver.set("[driver]\n" + gpu(0))
    done = subprocess.run([alone / "bin" / "rbees-pool", *driver.host.command("gpu", "list", "--json")[1:]],
                          env={**driver.host.environment, "LD_LIBRARY_PATH": str(BUILD / "lib")}, capture_output=True,
                          text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert [g["uuid"] for g in json.loads(done.stdout)["gpus"]] == [UUIDS[0]]
