"""The fakes themselves: a test that relies on a fake is worth what the fake is worth.

The library is used through ctypes as its ABI says, the worker through its command line and HTTP.
POOL_BUILD_DIR names the build folder (default: build/ of this checkout).
"""
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SUPPORT = pathlib.Path(os.environ.get("POOL_BUILD_DIR") or HERE.parents[1] / "build") / "support"
LIBRARY = SUPPORT / "libnvidia-ml.so.1"
WORKER = SUPPORT / "fake-worker"
DEADLINE_S = 20
MIB = 1 << 20
UNKNOWN = 2**64 - 1
GPU0 = "GPU-fa4e0000-0000-4000-8000-000000000000"


def wait_until(condition, what):
    """Polls a condition of another process that has no event to wait for."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.002)


# --- libnvidia-ml.so.1 ------------------------------------------------------------------------------------


class Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class Memory2(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint)] + [
        (name, ctypes.c_ulonglong) for name in ("total", "reserved", "free", "used")
    ]


class Pci(ctypes.Structure):
    _fields_ = [("legacy", ctypes.c_char * 16)]
    _fields_ += [(name, ctypes.c_uint) for name in ("domain", "bus", "device", "device_id", "subsystem_id")]
    _fields_ += [("bus_id", ctypes.c_char * 32)]


class Details(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint), ("mode", ctypes.c_uint), ("count", ctypes.c_uint),
                ("records", ctypes.c_void_p)]


class Event(ctypes.Structure):
    _fields_ = [("device", ctypes.c_void_p), ("type", ctypes.c_ulonglong), ("data", ctypes.c_ulonglong),
                ("gi", ctypes.c_uint), ("ci", ctypes.c_uint)]


class Nvml:
    """The library with a world of its own. Every test gets a fresh copy of the file, so a fresh state."""

    def __init__(self, tmp_path, library=None):
        self.path = tmp_path / "world.conf"
        copy = tmp_path / "libnvidia-ml.so.1"
        copy.write_bytes((library or LIBRARY).read_bytes())
        self.lib = ctypes.CDLL(str(copy))
        os.environ["FAKE_NVML_CONFIG"] = str(self.path)

    def world(self, text):
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.path)

    def __getattr__(self, name):
        return getattr(self.lib, "nvml" + name)

    def start(self, text):
        self.world(text)
        assert self.Init_v2() == 0
        return self

    def gpu(self, index=0):
        handle = ctypes.c_void_p()
        assert self.DeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0
        return handle

    def number(self, function, handle, kind=ctypes.c_uint):
        """(code, value) of a call with one out-parameter."""
        value = kind(77)
        return getattr(self, function)(handle, ctypes.byref(value)), value.value

    def text(self, function, *arguments, size=96):
        buffer = ctypes.create_string_buffer(size)
        code = getattr(self, function)(*arguments, buffer, size)
        return code, buffer.value.decode()

    def memory(self, handle):
        one, two = Memory(), Memory2(version=0x02000028)
        assert self.DeviceGetMemoryInfo(handle, ctypes.byref(one)) == 0
        assert self.DeviceGetMemoryInfo_v2(handle, ctypes.byref(two)) == 0
        return one, two

    def processes(self, handle, stride=24, room=16, function="DeviceGetComputeRunningProcesses_v3"):
        """(code, count, [(pid, bytes)], bytes beyond the records are untouched)."""
        buffer = ctypes.create_string_buffer(b"\xa5" * (32 * room), 32 * room)
        count = ctypes.c_uint(room)
        code = getattr(self, function)(handle, ctypes.byref(count), buffer)
        found = []
        for i in range(min(count.value, room)):
            record = buffer.raw[i * stride : (i + 1) * stride]
            found.append((int.from_bytes(record[:4], "little"), int.from_bytes(record[8:16], "little")))
        rest = buffer.raw[len(found) * stride :]
        return code, count.value, found, rest == b"\xa5" * len(rest)


@pytest.fixture
def nvml(tmp_path):
    yield Nvml(tmp_path)
    os.environ.pop("FAKE_NVML_CONFIG", None)


def test_exports_are_the_list():
    listed = set(re.findall(r"X\((nvml\w+)\)", (HERE / "fake_nvml/functions.h").read_text()))
    command = ["nm", "-D", "--defined-only", LIBRARY]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1] for line in output.splitlines()} == listed
    dynamic = subprocess.run(["objdump", "-p", LIBRARY], capture_output=True, text=True, check=True).stdout
    assert re.search(r"SONAME\s+libnvidia-ml\.so\.1\n", dynamic)


def test_life(nvml):
    count = ctypes.c_uint()
    assert nvml.Init_v2() == 9, "no file: no driver"
    nvml.world("[gpu 0]\n[gpu 1]\n")
    assert nvml.DeviceGetCount_v2(ctypes.byref(count)) == 1, "before init"
    assert nvml.Shutdown() == 1
    assert nvml.Init_v2() == 0 and nvml.InitWithFlags(1) == 0
    assert nvml.Shutdown() == 0
    assert nvml.DeviceGetCount_v2(ctypes.byref(count)) == 0 and count.value == 2
    assert nvml.Shutdown() == 0
    assert nvml.DeviceGetCount_v2(ctypes.byref(count)) == 1
    nvml.lib.nvmlErrorString.restype = ctypes.c_char_p
    assert nvml.lib.nvmlErrorString(15) == b"GPU is lost"
    assert nvml.lib.nvmlErrorString(999) == b"Unknown Error"


def test_identity(nvml):
    nvml.start("[driver]\nversion = 1.2.3\ncuda = 13010\n"
               "[gpu 0]\nname = A card\npci = 0000:3b:00.0\nminor = 4\n[gpu 1]\n")
    gpu = nvml.gpu()
    assert nvml.text("SystemGetDriverVersion") == (0, "1.2.3")
    assert nvml.text("SystemGetDriverVersion", size=5)[0] == 7
    value = ctypes.c_int()
    assert nvml.SystemGetCudaDriverVersion_v2(ctypes.byref(value)) == 0 and value.value == 13010
    assert nvml.text("DeviceGetName", gpu) == (0, "A card")
    assert nvml.text("DeviceGetUUID", gpu) == (0, GPU0)
    assert nvml.number("DeviceGetMinorNumber", gpu) == (0, 4)
    assert nvml.number("DeviceGetIndex", nvml.gpu(1)) == (0, 1)
    pci = Pci()
    assert ctypes.sizeof(pci) == 68 and nvml.DeviceGetPciInfo_v3(gpu, ctypes.byref(pci)) == 0
    assert pci.bus_id == b"00000000:3B:00.0" and pci.legacy == b"0000:3B:00.0" and pci.bus == 0x3B
    again = ctypes.c_void_p()
    for call, key, code in [("ByUUID", GPU0.encode(), 0), ("ByUUID", b"GPU-no", 6), ("ByIndex_v2", 7, 2),
                            ("ByPciBusId_v2", b"0:3B:0.0", 0), ("ByPciBusId_v2", b"3b:0", 0),
                            ("ByPciBusId_v2", b"0:9:9", 6)]:
        assert nvml.__getattr__("DeviceGetHandle" + call)(key, ctypes.byref(again)) == code, (call, key)
        assert code != 0 or again.value == gpu.value
    assert nvml.number("DeviceGetIndex", None)[0] == 2
    assert nvml.number("DeviceGetIndex", ctypes.c_void_p(0x1234))[0] == 2


def test_memory(nvml):
    nvml.start("[gpu 0]\ntotal = 10GiB\nreserved = 1GiB\nused = 2GiB\n")
    one, two = nvml.memory(nvml.gpu())
    assert one.total == one.free + one.used == 10240 * MIB and one.used == 3072 * MIB
    assert two.total == two.reserved + two.free + two.used
    assert (two.used, two.reserved) == (2048 * MIB, 1024 * MIB)
    assert one.free == two.free
    wrong = Memory2(version=0x01000028)
    assert nvml.DeviceGetMemoryInfo_v2(nvml.gpu(), ctypes.byref(wrong)) == 25
    nvml.world("[driver]\nv2_used_includes_reserved = yes\n"
               "[gpu 0]\ntotal = 10GiB\nreserved = 1GiB\nfree = 5\n")
    one, two = nvml.memory(nvml.gpu())
    assert two.used == 1024 * MIB and one.free == two.free == 5
    for said, code in [("no", 13), ("999", 999)]:
        nvml.world("[driver]\nmemory_v2 = %s\n[gpu 0]\n" % said)
        right = Memory2(version=0x02000028)
        assert nvml.DeviceGetMemoryInfo_v2(nvml.gpu(), ctypes.byref(right)) == code


def test_readings_and_their_absence(nvml):
    keys = {"temperature": "DeviceGetTemperature", "power_mw": "DeviceGetPowerUsage",
            "enforced_power_limit_mw": "DeviceGetEnforcedPowerLimit",
            "power_limit_mw": "DeviceGetPowerManagementLimit", "persistence": "DeviceGetPersistenceMode",
            "compute_mode": "DeviceGetComputeMode", "numa_node": "DeviceGetNumaNodeId",
            "retired_pending": "DeviceGetRetiredPagesPendingStatus"}
    values = {key: number for number, key in enumerate(keys, 1)}
    nvml.start("[gpu 0]\n" + "".join("%s = %d\n" % item for item in values.items()))
    gpu = nvml.gpu()

    def read(function):
        value = ctypes.c_uint(77)
        arguments = (gpu, 0) if function == "DeviceGetTemperature" else (gpu,)
        return nvml.__getattr__(function)(*arguments, ctypes.byref(value)), value.value

    assert {key: read(function) for key, function in keys.items()} == {k: (0, v) for k, v in values.items()}
    nvml.world("[gpu 0]\n" + "".join("%s = none\n" % key for key in keys))
    assert {read(function) for function in keys.values()} == {(3, 77)}
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvml.world("[gpu 0]\ncompute_capability = 9.0\nutil_gpu = 30\nutil_memory = 7\n"
               "ecc_volatile_uncorrected = 5\nremapped_rows = 1 2 1 0\n")
    assert nvml.DeviceGetCudaComputeCapability(gpu, ctypes.byref(major), ctypes.byref(minor)) == 0
    assert (major.value, minor.value) == (9, 0)
    rates = (ctypes.c_uint * 2)()
    assert nvml.DeviceGetUtilizationRates(gpu, rates) == 0 and list(rates) == [30, 7]
    errors = ctypes.c_ulonglong()
    assert nvml.DeviceGetTotalEccErrors(gpu, 1, 0, ctypes.byref(errors)) == 0 and errors.value == 5
    rows = [ctypes.c_uint() for _ in range(4)]
    assert nvml.DeviceGetRemappedRows(gpu, *map(ctypes.byref, rows)) == 0
    assert [row.value for row in rows] == [1, 2, 1, 0]


def test_every_function_answers_every_code(nvml):
    names = re.findall(r"X\(nvml(Device\w+)\)", (HERE / "fake_nvml/functions.h").read_text())
    nvml.start("[gpu 0]\n")
    gpu = nvml.gpu()
    room = [ctypes.create_string_buffer(4096) for _ in range(5)]
    for code in (3, 4, 15, 999):
        returns = "".join("return.nvml%s = %d\n" % (name, code) for name in names)
        nvml.world("[driver]\n" + returns + "[gpu 0]\n")
        for name in set(names) - {"DeviceGetTemperatureV"}:
            by = {"DeviceGetHandleByIndex_v2": 0, "DeviceGetHandleByUUID": GPU0.encode(),
                  "DeviceGetHandleByPciBusId_v2": b"1:0", "DeviceGetCount_v2": room[0]}
            first = by.get(name, gpu)
            arguments = [first, 0, 0, 0, room[1]] if "Counter" in name else [first] + room[1:]
            if name in ("DeviceGetTemperature", "DeviceGetClockInfo", "DeviceGetMaxClockInfo"):
                arguments = [gpu, 0, room[1]]
            assert nvml.__getattr__(name)(*arguments) == code, name
    nvml.world("[gpu 0]\nreturn.nvmlDeviceGetName = 4\n[gpu 1]\nlost = yes\n[gpu 2]\n")
    handle = ctypes.c_void_p()
    assert nvml.text("DeviceGetName", gpu)[0] == 4 and nvml.text("DeviceGetUUID", gpu)[0] == 0
    assert nvml.DeviceGetHandleByIndex_v2(1, ctypes.byref(handle)) == 15
    assert nvml.text("DeviceGetName", nvml.gpu(2))[0] == 0, "one lost GPU does not hide the others"


@pytest.mark.parametrize("stride", [16, 24, 32])
def test_process_strides(nvml, stride):
    nvml.start("[driver]\nprocess_stride = %d\n[gpu 0]\nprocess = 11 1GiB\nprocess = 12 unknown\n"
               "process = 13 3\ngraphics_process = 14 4\nmps_process = 15 5\n" % stride)
    gpu = nvml.gpu()
    expected = [(11, 1024 * MIB), (12, UNKNOWN), (13, 3)]
    assert nvml.processes(gpu, stride) == (0, 3, expected, True)
    assert nvml.processes(gpu, stride, room=2) == (7, 3, expected[:2], True)
    assert nvml.processes(gpu, 24, function="DeviceGetComputeRunningProcesses_v2") == (0, 3, expected, True)
    assert nvml.processes(gpu, 16, function="DeviceGetComputeRunningProcesses") == (0, 3, expected, True)
    assert nvml.processes(gpu, stride, function="DeviceGetGraphicsRunningProcesses_v3")[2] == [(14, 4)]
    assert nvml.processes(gpu, stride, function="DeviceGetMPSComputeRunningProcesses_v3")[2] == [(15, 5)]
    count = ctypes.c_uint(0)
    assert nvml.DeviceGetComputeRunningProcesses_v3(gpu, ctypes.byref(count), None) == 7 and count.value == 3
    buffer = ctypes.create_string_buffer(32 * 8)
    details = Details(0x01000018, 3, 8, ctypes.addressof(buffer))
    assert nvml.DeviceGetRunningProcessDetailList(gpu, ctypes.byref(details)) == 0 and details.count == 5
    details.version = 0x01000020
    assert nvml.DeviceGetRunningProcessDetailList(gpu, ctypes.byref(details)) == 25
    nvml.world("[driver]\nprocess_bytes = unknown\n[gpu 0]\nprocess = 11 1GiB\n")
    assert nvml.processes(gpu)[2] == [(11, UNKNOWN)]


def test_mig(nvml):
    nvml.start("[gpu 0]\nmig = on\n[mig 0.0]\nuuid = MIG-a\ntotal = 5GiB\ngi = 3\nci = 1\nprocess = 21 9\n"
               "[mig 0.2]\nuuid = MIG-c\n[gpu 1]\nmig = off\n[gpu 2]\n")
    gpu, mode, pending, mig = nvml.gpu(), ctypes.c_uint(), ctypes.c_uint(), ctypes.c_void_p()
    for index, expected in [(0, (0, 1)), (1, (0, 0)), (2, (3, 0))]:
        mode.value = 0
        code = nvml.DeviceGetMigMode(nvml.gpu(index), ctypes.byref(mode), ctypes.byref(pending))
        assert (code, mode.value) == expected
    assert nvml.number("DeviceGetMaxMigDeviceCount", gpu) == (0, 7)
    codes = [nvml.DeviceGetMigDeviceHandleByIndex(gpu, i, ctypes.byref(mig)) for i in range(8)]
    assert codes == [0, 6, 0, 6, 6, 6, 6, 2]
    assert nvml.DeviceGetMigDeviceHandleByIndex(gpu, 0, ctypes.byref(mig)) == 0
    assert nvml.text("DeviceGetUUID", mig) == (0, "MIG-a")
    assert nvml.number("DeviceIsMigDeviceHandle", mig) == (0, 1)
    assert nvml.number("DeviceGetGpuInstanceId", mig) == (0, 3)
    assert nvml.number("DeviceGetComputeInstanceId", mig) == (0, 1)
    parent = ctypes.c_void_p()
    assert nvml.DeviceGetDeviceHandleFromMigDeviceHandle(mig, ctypes.byref(parent)) == 0
    assert parent.value == gpu.value
    assert nvml.memory(mig)[0].total == 5120 * MIB
    assert nvml.processes(mig)[2] == nvml.processes(gpu)[2] == [(21, 9)]
    assert nvml.DeviceGetUtilizationRates(gpu, ctypes.create_string_buffer(8)) == 3


def test_events(nvml):
    nvml.start("[driver]\nevent = 1 0 8 13\n[gpu 0]\n")
    made, data = ctypes.c_void_p(), Event()
    assert nvml.EventSetCreate(ctypes.byref(made)) == 0
    assert nvml.DeviceRegisterEvents(nvml.gpu(), ctypes.c_ulonglong(8), made) == 0
    assert nvml.EventSetWait_v2(made, ctypes.byref(data), 10) == 10, "events before the set do not count"
    codes = []

    def wait():
        codes.append(nvml.EventSetWait_v2(made, ctypes.byref(data), 20000))

    waiter = threading.Thread(target=wait)
    waiter.start()
    nvml.world("[driver]\nevent = 1 0 8 13\nevent = 2 0 8 79\n[gpu 0]\n")
    waiter.join(DEADLINE_S)
    assert codes == [0] and (data.type, data.data, data.gi) == (8, 79, 0xFFFFFFFF)
    assert nvml.EventSetWait_v2(made, ctypes.byref(data), 10) == 10
    assert nvml.EventSetFree(made) == 0


def test_topology(nvml):
    nvml.start("[driver]\ntopology = 0 1 50\n[gpu 0]\n[gpu 1]\n[gpu 2]\n")
    level = ctypes.c_int()
    for other, expected in [(0, 0), (1, 50), (2, 30)]:
        assert nvml.DeviceGetTopologyCommonAncestor(nvml.gpu(0), nvml.gpu(other), ctypes.byref(level)) == 0
        assert level.value == expected


def test_nvlinks(nvml):
    nvml.start("[gpu 0]\nnvlink = 0 1 0:3b:00.0 2 4\nnvlink = 2 0 none 255 none\n[gpu 1]\n")
    value, pci = ctypes.c_int(77), Pci()

    def asked(function, gpu, link):
        return nvml.__getattr__("DeviceGetNvLink" + function)(nvml.gpu(gpu), link, ctypes.byref(value)), value.value

    assert asked("State", 0, 0) == (0, 1) and asked("State", 0, 2) == (0, 0)
    assert asked("Version", 0, 0) == (0, 4) and asked("RemoteDeviceType", 0, 0) == (0, 2)
    assert nvml.DeviceGetNvLinkRemotePciInfo_v2(nvml.gpu(), 0, ctypes.byref(pci)) == 0 and pci.bus_id == b"00000000:3B:00.0"
    assert asked("Version", 0, 2)[0] == 3 and asked("RemoteDeviceType", 0, 2) == (0, 255)
    assert nvml.DeviceGetNvLinkRemotePciInfo_v2(nvml.gpu(), 2, ctypes.byref(pci)) == 3
    assert [asked("State", 0, link)[0] for link in (1, 3)] == [3, 2], "a hole, and behind the last"
    assert asked("State", 1, 0)[0] == 3, "a board without NVLink"


def test_changes_while_loaded(nvml):
    nvml.start("[gpu 0]\ntemperature = 40\n[gpu 1]\n")
    gpu, second = nvml.gpu(), nvml.gpu(1)
    value = ctypes.c_uint()
    for celsius in (41, 42, 43):
        nvml.world("[gpu 0]\ntemperature = %d\n[gpu 1]\n" % celsius)
        assert nvml.DeviceGetTemperature(gpu, 0, ctypes.byref(value)) == 0 and value.value == celsius
    nvml.world("[gpu 0]\n")
    assert nvml.text("DeviceGetName", second)[0] == 15, "a card that fell off the bus"
    nvml.path.unlink()
    assert nvml.text("DeviceGetName", gpu)[0] == 9


@pytest.mark.parametrize("text", [
    "temperature = 1\n", "[gpu 1]\n", "[gpu 0]\n[gpu 0]\n", "[mig 0.0]\n", "[gpu 0\n", "[what]\n",
    "[gpu 0]\ncolour = 3\n", "[gpu 0]\ntotal = lots\n", "[gpu 0]\ntotal = 99999999999999999999\n",
    "[gpu 0]\ntotal = 99999999999GiB\n", "[gpu 0]\nprocess = 1\n", "[gpu 0]\nreserved = 99GiB\n",
    "[driver]\nreturn.nvmlNoSuch = 3\n", "[driver]\nprocess_stride = 20\n", "[driver]\nhang. = 3\n",
    "[gpu 0]\nuuid = A\n[gpu 1]\nuuid = A\n", "[gpu 0]\npci = x\n", "\x00\xff garbage",
    "[gpu 0]\ncompute_capability = 8\n", "[gpu 0]\nuuid = " + "x" * 200 + "\n",
    "[gpu 0]\nprocess = " + "1 " * 500 + "\n", "=\n", "[gpu 0]\n = \n",
])
def test_malformed_worlds_are_refused_once(nvml, capfd, text):
    nvml.start("[gpu 0]\n")
    gpu = nvml.gpu()
    nvml.world(text)
    assert nvml.text("DeviceGetName", gpu)[0] == nvml.Init_v2() == 999
    assert len(capfd.readouterr().err.splitlines()) == 1
    nvml.world("[gpu 0]\nname = Back\n")
    assert nvml.text("DeviceGetName", gpu) == (0, "Back")


def test_hang(nvml):
    nvml.start("[driver]\nhang.nvmlDeviceGetName = forever\n[gpu 0]\nhang.nvmlDeviceGetUUID = 60\n")
    gpu = nvml.gpu()
    begin = time.monotonic()
    assert nvml.text("DeviceGetUUID", gpu)[0] == 0 and time.monotonic() - begin >= 0.06
    done = threading.Event()
    stuck = threading.Thread(target=lambda: (nvml.text("DeviceGetName", gpu), done.set()), daemon=True)
    stuck.start()
    assert not done.wait(0.1), "a call that hangs does not return"
    assert nvml.text("DeviceGetUUID", gpu)[0] == 0, "and holds nobody else up"
    nvml.world("[gpu 0]\n")
    assert done.wait(DEADLINE_S)


def test_missing_symbols(tmp_path, monkeypatch):
    monkeypatch.delenv("FAKE_NVML_CONFIG", raising=False)  # Nvml sets it
    out = tmp_path / "without.so"
    maker = [sys.executable, HERE / "fake_nvml/make-fake-nvml"]
    missing = "nvmlDeviceGetMemoryInfo_v2,nvmlDeviceGetComputeRunningProcesses"
    subprocess.run([*maker, out, "--from", LIBRARY, "--without", missing], check=True)
    lib = ctypes.CDLL(str(out))
    libc = ctypes.CDLL(None)
    libc.dlsym.restype, libc.dlsym.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
    for name in missing.split(","):
        assert libc.dlsym(lib._handle, name.encode()) is None
    for name in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlInit_v2"):
        assert libc.dlsym(lib._handle, name.encode()) is not None
    (tmp_path / "own").mkdir()
    assert Nvml(tmp_path / "own", out).start("[gpu 0]\n").text("DeviceGetUUID", ctypes.c_void_p())[0] == 2
    bad = subprocess.run([*maker, out, "--from", LIBRARY, "--without", "nvmlNoSuch"], capture_output=True)
    assert bad.returncode != 0


def test_threads(nvml):
    nvml.start("[gpu 0]\ntotal = 10GiB\nreserved = 0\n")
    gpu = nvml.gpu()
    wrong = []

    def ask():
        for _ in range(300):
            one, _ = nvml.memory(gpu)
            if one.total != one.free + one.used:
                wrong.append(one)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(100):
        nvml.world("[gpu 0]\ntotal = 10GiB\nreserved = 0\nused = %dMiB\n" % i)
    for thread in threads:
        thread.join()
    assert not wrong


def test_claims(nvml, tmp_path):
    claims = tmp_path / "claims"
    claims.mkdir()
    world = "[driver]\nclaims = %s\nrelease_delay_ms = %d\n[gpu 0]\nused = 1GiB\n"
    nvml.start(world % (claims, 0))
    gpu = nvml.gpu()
    arguments = ["--never-ready", "--vram-claims", claims]
    with worker(*arguments, "--vram", "0:2GiB", "--vram", GPU0 + ":1MiB") as process:
        wait_until(lambda: nvml.memory(gpu)[1].used == 3073 * MIB, "the claim is seen")
        assert sorted(nvml.processes(gpu)[2]) == [(process.pid, MIB), (process.pid, 2048 * MIB)]
        process.send_signal(signal.SIGSTOP)
        assert nvml.memory(gpu)[1].used == 3073 * MIB
        process.kill()
        wait_until(lambda: nvml.memory(gpu)[1].used == 1024 * MIB, "a zombie holds nothing")
    assert list(claims.iterdir()) == []
    (claims / str(os.getpid())).write_text("start 1\n0 4294967296\n")
    wait_until(lambda: nvml.memory(gpu)[1].used == 1024 * MIB and not list(claims.iterdir()),
               "a reused pid claims nothing")

    nvml.world(world % (claims, 1000))
    with worker(*arguments, "--vram", "visible:1GiB", env={"CUDA_VISIBLE_DEVICES": GPU0 + ",x"}) as process:
        wait_until(lambda: nvml.memory(gpu)[1].used == 2048 * MIB, "the claim by CUDA_VISIBLE_DEVICES")
        process.kill()
        process.wait()
    wait_until(lambda: nvml.processes(gpu)[2] == [], "the dead leave the list")
    seen_dead = time.monotonic()
    assert nvml.memory(gpu)[1].used == 2048 * MIB, "their bytes stay"
    wait_until(lambda: nvml.memory(gpu)[1].used == 1024 * MIB, "for a while")
    assert time.monotonic() - seen_dead >= 0.1
    assert list(claims.iterdir()) == []


# --- fake-worker ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def worker(*arguments, env=None, stdout=subprocess.DEVNULL, **options):
    command = [str(word) for word in (WORKER, "--port", 0, *arguments)]
    process = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=stdout, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def serving(*arguments, **options):
    """A worker and the port it listens on."""
    with worker(*arguments, stdout=subprocess.PIPE, text=True, **options) as process:
        for line in process.stdout:
            found = re.search(r"listening on http://\S+:(\d+)", line)
            if found:
                break
        yield process, int(found[1])
        process.stdout.close()


def ask(port, path, method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for_note(path, name):
    return wait_until(lambda: path.exists() and dict(notes(path)).get(name), name + " is noted")


def notes(path):
    return [(line.split()[0], int(line.split()[1])) for line in path.read_text().splitlines()]


def test_worker_serves(tmp_path):
    stamps = tmp_path / "stamps"
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    engine = ["-m", "a.gguf", "-c", "1024", "-np", "2", "-ngl", "99", "--device", "none"]
    with serving(*engine, "--timestamps", stamps) as (process, port):
        assert ask(port, "/health") == (200, '{"status":"ok"}')
        assert json.loads(ask(port, "/v1/models")[1])["data"][0]["id"] == "a.gguf"
        assert json.loads(ask(port, "/props")[1])["total_slots"] == 2
        for path in ("/v1/completions", "/completion", "/v1/chat/completions"):
            status, body = ask(port, path, "POST", json.dumps({"prompt": "x" * 100000}))
            assert status == 200 and "fake worker" in body and json.loads(body)
        assert ask(port, "/nothing")[0] == 404
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        for _ in range(3):
            connection.request("GET", "/health")
            assert connection.getresponse().read()
        connection.close()
        assert [slot["is_processing"] for slot in json.loads(ask(port, "/slots")[1])] == [False, False]
        assert ask(port, "/fake/busy?ms=60000", "POST")[0] == 200
        assert [slot["is_processing"] for slot in json.loads(ask(port, "/slots")[1])] == [True, False]
        assert "llamacpp:requests_processing 1\n" in ask(port, "/metrics")[1]
        ask(port, "/fake/busy?ms=0", "POST")
        assert "llamacpp:requests_processing 0\n" in ask(port, "/metrics")[1]
        ask(port, "/fake/health?status=500", "POST")
        assert ask(port, "/health")[0] == 500
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    names = [name for name, _ in notes(stamps)]
    assert names == ["main", "listen", "ready", "first_healthy_answer", "signal", "exit"]
    times = [number for name, number in notes(stamps) if name != "signal"]
    assert times == sorted(times)
    assert before <= times[0] and times[-1] <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_worker_readiness(tmp_path):
    stamps = tmp_path / "stamps"
    with serving("--never-ready") as (_, port):
        status, body = ask(port, "/health")
        assert status == 503 and json.loads(body)["error"]["message"] == "Loading model"
        assert ask(port, "/v1/models")[0] == 200 and ask(port, "/v1/completions", "POST", "{}")[0] == 503
    with serving("--ready-after-ms", 200, "--timestamps", stamps) as (_, port):
        wait_until(lambda: ask(port, "/health")[0] == 200, "ready")
        wait_for_note(stamps, "first_healthy_answer")
    times = dict(notes(stamps))
    assert times["ready"] - times["main"] >= 200_000_000 and times["first_healthy_answer"] >= times["ready"]
    with serving("--listen-after-ms", 100, "--timestamps", stamps) as (_, port):
        assert ask(port, "/health")[0] == 200
    times = dict(notes(stamps))
    assert times["listen"] - times["main"] >= 100_000_000


def test_worker_late_answers():
    with serving("--completion-ms", 1000) as (_, port):
        begin = time.monotonic()
        answers = []
        late = threading.Thread(target=lambda: answers.append(ask(port, "/v1/completions", "POST", "{}")))
        late.start()
        wait_until(lambda: json.loads(ask(port, "/slots")[1])[0]["is_processing"], "busy with it")
        late.join(DEADLINE_S)
        assert answers[0][0] == 200 and time.monotonic() - begin >= 1
        assert not json.loads(ask(port, "/slots")[1])[0]["is_processing"]
        ask(port, "/fake/mute?ms=60000", "POST")
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(1)


@pytest.mark.parametrize("arguments, code", [
    (["--exit-at-once"], 1), (["--exit-at-once", "--exit-code", "3"], 3),
    (["--crash-after-ms", "20", "--exit-code", "9"], 9),
    (["--crash-after-ms", "20", "--crash-signal", "KILL"], -9),
    (["--crash-after-ms", "20", "--crash-signal", "SIGSEGV"], -11),
    (["--no-such-option"], 2), (["--port"], 2), (["--ready-after-ms", "soon"], 2), (["--version"], 0),
])
def test_worker_ends(arguments, code):
    with worker(*arguments, stderr=subprocess.DEVNULL) as process:
        assert process.wait(DEADLINE_S) == code


def test_worker_stopping(tmp_path):
    stamps = tmp_path / "stamps"
    with serving("--term-takes-ms", 150, "--timestamps", stamps) as (process, port):
        begin = time.monotonic()
        process.terminate()
        assert process.wait(DEADLINE_S) == 0 and time.monotonic() - begin >= 0.15
    with serving("--ignore-sigterm") as (process, port):
        process.terminate()
        assert ask(port, "/health")[0] == 200, "the signal came first and did nothing"
        ask(port, "/fake/exit?code=4", "POST")
        assert process.wait(DEADLINE_S) == 4


def test_worker_port(tmp_path):
    with serving() as (_, port):
        with worker("--port", port, "--lose-port", stderr=subprocess.PIPE) as loser:
            assert loser.wait(DEADLINE_S) == 98
            assert b"bind: Address already in use\n" in loser.stderr.read()
            loser.stderr.close()
    port = free_port()
    shared = ["--reuseport", "--port", port]
    with serving(*shared) as (_, first), serving(*shared) as (_, second):
        assert first == second == port


def test_worker_stranger(tmp_path):
    port, stamps, log = free_port(), tmp_path / "stamps", tmp_path / "log"
    file = os.open(log, os.O_CREAT | os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    arguments = ["--port", port, "--stranger-port", "--timestamps", stamps]
    with worker(*arguments, stdout=file, stderr=file, env={"POOL_WORKER_ID": "w"}) as process:
        os.close(file)
        stranger = wait_for_note(stamps, "stranger_pid")
        try:
            wait_until(lambda: open_port(port), "the stranger listens")
            assert ask(port, "/health")[0] == 200
            fields = pathlib.Path("/proc/%d/stat" % stranger).read_text().rsplit(")", 1)[1].split()
            assert int(fields[1]) != process.pid and int(fields[3]) != os.getsid(process.pid)
            assert pathlib.Path("/proc/%d/environ" % stranger).read_bytes() == b""
            process.kill()
            process.wait()
            with open(log) as mine:
                fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert ask(port, "/health")[0] == 200
        finally:
            os.kill(stranger, signal.SIGKILL)


def open_port(port):
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True


@pytest.mark.parametrize("options, survives_term", [
    ([], False), (["--grandchildren-leave-session"], False),
    (["--grandchildren-leave-session", "--grandchildren-ignore-sigterm"], True),
])
def test_worker_grandchildren(tmp_path, options, survives_term):
    stamps = tmp_path / "stamps"
    arguments = ["--grandchildren", 3, "--timestamps", stamps, *options]
    with serving(*arguments, start_new_session=True) as (process, _):
        children = [number for name, number in notes(stamps) if name == "grandchild_pid"]
        assert len(children) == 3
        handles = [os.pidfd_open(pid) for pid in children]
        try:
            sessions = {os.getsid(pid) for pid in children}
            assert sessions == (set(children) if options else {process.pid})
            targets = os.readlink("/proc/%d/fd/1" % children[0])
            assert targets == os.readlink("/proc/%d/fd/1" % process.pid), "they keep the inherited stdout"
            process.terminate()
            assert process.wait(DEADLINE_S) == 0
            if not options:
                assert select.select(handles, [], [], DEADLINE_S)[0], "plain children end with the worker"
                return
            assert select.select(handles, [], [], 0.1)[0] == [], "they outlive it"
            signal.pidfd_send_signal(handles[0], signal.SIGTERM)
            is_dead = bool(select.select(handles[:1], [], [], 0.2 if survives_term else DEADLINE_S)[0])
            assert is_dead != survives_term
        finally:
            for handle in handles:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                os.close(handle)


def test_worker_resources(tmp_path):
    claims = tmp_path / "claims"
    claims.mkdir()
    growing = ["--vram-claims", claims, "--vram", "1:1000", "--vram-growth-ms", 100]
    with serving("--take-memory", "32MiB", *growing) as (process, _):
        status = pathlib.Path("/proc/%d/status" % process.pid).read_text()
        assert int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) >= 32 * 1024
        claim = claims / str(process.pid)
        sizes = set()
        wait_until(lambda: sizes.add(int(claim.read_text().split()[-1])) or 1000 in sizes, "it has grown")
        assert len(sizes) > 1 and claim.read_text().startswith("start ")
    log = tmp_path / "log"
    with open(log, "wb") as file:
        with worker("--flood-log", 300000, stdout=file):
            wait_until(lambda: log.stat().st_size >= 300000, "the log is full")
    assert log.stat().st_size < 301000
    slowly = ["--flood-log", "9MiB", "--flood-log-rate", 100000, "--crash-after-ms", 200]
    with open(log, "wb") as file, worker(*slowly, stdout=file) as process:
        process.wait(DEADLINE_S)
    assert 1000 < log.stat().st_size < 100000


def test_worker_words(tmp_path):
    def run(*arguments, **env):
        command = [WORKER, *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=DEADLINE_S)

    assert run("--version").stdout == "version: 1 (fake-worker)\n"
    assert run("--list-devices").stdout == "Available devices:\n  (none)\n"
    cuda = "Available devices:\n  CUDA0: Fake GPU (24576 MiB, 24000 MiB free)\n"
    assert run("--list-devices", "--fake-cuda-device").stdout == cuda
    assert run("--list-devices", FAKE_WORKER_CUDA="1").stdout == cuda
    said = run("--print-env", "--print-args", "--say", "CUDA error: out of memory", "--exit-at-once", A="b c")
    assert said.stdout.splitlines()[-2:] == ["env A=b c", "CUDA error: out of memory"]
    assert "arg 3 --say" in said.stdout
    assert run("serve", "model", FAKE_WORKER_ARGS="--exit-at-once --exit-code 5").returncode == 5


# --- make-tiny-gguf ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, files", [
    ([], ["t.gguf"]), (["--arch", "qwen2", "--f32"], ["t.gguf"]),
    (["--shards", "2"], ["t-00001-of-00002.gguf", "t-00002-of-00002.gguf"]),
])
def test_tiny_gguf(tmp_path, options, files):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        command = [sys.executable, HERE / "make-tiny-gguf", "t.gguf", *options]
        subprocess.run(command, cwd=tmp_path / folder, check=True, stdout=subprocess.DEVNULL)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == files
    for name in files:
        data = (tmp_path / "one" / name).read_bytes()
        assert data[:8] == b"GGUF\3\0\0\0" and data == (tmp_path / "two" / name).read_bytes()


# --- get-llama-server -------------------------------------------------------------------------------------


def get_llama_server(cache, **env):
    env = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(cache), **env}
    command = [HERE / "get-llama-server"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=DEADLINE_S)


def test_llama_server_that_is_installed(tmp_path):
    found = get_llama_server(tmp_path, POOL_LLAMA_SERVER=str(WORKER))
    assert (found.returncode, found.stdout) == (0, "%s\n" % WORKER)
    assert "version: 1 (fake-worker)" in found.stderr
    for wrong in (tmp_path / "nothing", "/bin/false", tmp_path):
        found = get_llama_server(tmp_path, POOL_LLAMA_SERVER=str(wrong))
        assert (found.returncode, found.stdout) == (1, "") and str(wrong) in found.stderr
    assert not list(tmp_path.iterdir()), "nothing was fetched"


def test_llama_server_from_the_cache(tmp_path):
    folder = tmp_path / "pool-core/llama-server/1.0"
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin/llama-server"
    program.symlink_to(WORKER)
    (folder / ".complete").touch()
    (folder.parent / "current").symlink_to("1.0")
    found = get_llama_server(tmp_path)
    assert (found.returncode, found.stdout) == (0, "%s\n" % program)
