"""What a GPU reports of itself: XID and ECC errors, through a real libnvidia-ml.so.1 of ours and the real helper, become
an event that names the workers on it, and a cordon where they are serious.
"""
import json
import os
import pathlib
import signal
import uuid

import pytest
from pool_host import FAKE_NVML, Host, is_running, wait_until
from test_daemon import Daemon, UnixConnection

UUIDS = ["GPU-fa4e0000-0000-4000-8000-000000000000", "GPU-fa4e0000-0000-4000-8000-000000000001"]
XID, ECC = 0x8, 0x2


class Driver:
    """The world of the fake driver; its events are numbered and stay."""

    def __init__(self, path):
        self.path = path
        self.events = []
        self.claims = path.with_name("claims")  # what workers hold
        self.claims.mkdir()
        self.keys = [f"claims = {self.claims}"]
        self.devices = [["total = 24GiB"], ["total = 24GiB"]]
        self.write()

    def write(self):
        lines = ["[driver]", *self.keys]
        lines += [f"event = {i + 1} {gpu} {kind} {data}" for i, (gpu, kind, data) in enumerate(self.events)]
        for i, keys in enumerate(self.devices):
            lines += [f"[gpu {i}]", f"uuid = {UUIDS[i]}", *keys]
        new = self.path.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.rename(self.path)

    def tell(self, gpu, kind, data):
        self.events.append((gpu, kind, data))
        self.write()


@pytest.fixture
def driver(tmp_path):
    return Driver(tmp_path / "world")


@pytest.fixture
def daemon(tmp_path, ports, driver):
    host = Host(tmp_path, ports, device="gpu",
                fake_args=("--vram-claims", str(driver.claims), "--vram", f"visible:{1 << 30}"),
                config=f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\nrefresh_interval_ms = 200\n')
    host.environment["FAKE_NVML_CONFIG"] = str(driver.path)
    daemon = Daemon(host)
    daemon.start()
    wait_until(lambda: len(daemon.get("/v2/gpus")[1].get("gpus", [])) == 2, what="a snapshot")
    yield daemon
    if daemon.process.poll() is None:
        daemon.kill()
    host.stop_everything()


class Faults:
    """gpu.fault events, as they come. The helper listens a moment after its first snapshot: until it has told of one,
    a harmless event is repeated.
    """

    def __init__(self, daemon, driver):
        self.connection = UnixConnection(daemon.socket)
        self.connection.request("GET", "/v2/events")
        self.answer = self.connection.getresponse()
        self.connection.sock.settimeout(1)
        self.text = b""
        self.driver = driver

    def next(self):
        """The next one, None when none came for a second."""
        while True:
            while b"\n\n" in self.text:
                event, self.text = self.text.split(b"\n\n", 1)
                fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
                if fields.get(b"event") == b"gpu.fault":
                    return json.loads(fields[b"data"])
            try:
                chunk = self.answer.read1(65536)
            except TimeoutError:
                return None
            assert chunk, "the stream of events ended"
            self.text += chunk

    def wait(self, is_it):
        found = []

        def look():
            fault = self.next()
            if fault and is_it(fault):
                found.append(fault)
            return bool(found)

        wait_until(look, what="a fault")
        return found[0]

    def wait_until_heard(self):
        for _ in range(60):
            self.driver.tell(1, XID, 31)  # a page fault of some program
            fault = self.next()
            if fault:
                assert (fault["gpu_id"], fault["data"], fault["is_serious"]) == (UUIDS[1], 31, False)
                return
        raise AssertionError("the helper does not listen")


@pytest.fixture
def faults(daemon, driver):
    faults = Faults(daemon, driver)
    faults.wait_until_heard()
    return faults


def gpu(daemon, index):
    return next(g for g in daemon.get("/v2/gpus")[1]["gpus"] if g["uuid"] == UUIDS[index])


def begin(daemon, worker_id, index, **fields):
    return daemon.begin(worker_id, gpu_id=index, required_vram_bytes=1 << 20, **fields)


def test_a_serious_xid_cordons_the_gpu_and_names_its_workers(daemon, driver, faults):
    status, worker, _ = begin(daemon, "w", 0, wait=True)
    assert status == 200, worker
    assert begin(daemon, "elsewhere", 1, wait=True)[0] == 200
    driver.tell(0, XID, 79)
    fault = faults.wait(lambda f: f["data"] == 79)
    assert (fault["gpu_id"], fault["kind"], fault["is_serious"], fault["workers"]) == (UUIDS[0], "xid", True, ["w"])
    status, answer, _ = begin(daemon, "late", 0)
    assert (status, answer["error"]["code"]) == (503, "GPU_UNAVAILABLE")
    assert begin(daemon, "fine", 1, wait=True)[0] == 200  # the other one serves on
    assert is_running(worker["pid"])  # nobody stops what runs
    os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: daemon.worker("w")["status"] == "stopped", what="its end")
    assert (daemon.worker("w")["stop_reason"], daemon.worker("w")["exit_signal"]) == ("gpu_lost", 9)


def test_a_fault_of_a_program_is_told_and_no_more(daemon, driver, faults):
    driver.tell(0, XID, 13)
    fault = faults.wait(lambda f: f["data"] == 13)
    assert fault["is_serious"] is False and fault["gpu_id"] == UUIDS[0]
    assert begin(daemon, "w", 0, wait=True)[0] == 200


def test_an_ecc_error_is_told_by_event_or_by_counter(daemon, driver, faults):
    driver.devices[0].append("ecc_volatile_uncorrected = 1")
    driver.write()  # nobody tells, but it is counted
    fault = faults.wait(lambda f: f["kind"] == "ecc_uncorrected")
    assert (fault["gpu_id"], fault["is_serious"]) == (UUIDS[0], True)
    assert begin(daemon, "w", 0)[1]["error"]["code"] == "GPU_UNAVAILABLE"
    driver.tell(1, ECC, 0)
    fault = faults.wait(lambda f: f["kind"] == "ecc_uncorrected" and f["gpu_id"] == UUIDS[1])
    assert begin(daemon, "w", 1)[1]["error"]["code"] == "GPU_UNAVAILABLE"


def test_events_are_heard_while_the_readings_hang(daemon, driver, faults):
    driver.keys.append("hang.nvmlDeviceGetMemoryInfo_v2 = forever")
    driver.tell(0, XID, 79)
    assert faults.wait(lambda f: f["data"] == 79)["is_serious"] is True
    assert daemon.get("/health")[0] == 200


# ---- a helper that can not be killed ----

FREEZER = pathlib.Path("/sys/fs/cgroup/freezer")  # of version 1: what is frozen there does not die of SIGKILL


@pytest.fixture
def freezer():
    path = FREEZER / f"pool-test-{uuid.uuid4().hex}"
    try:
        path.mkdir()
    except OSError:
        pytest.skip("nothing can be frozen here")
    yield path
    (path / "freezer.state").write_text("THAWED")
    wait_until(lambda: (path / "cgroup.procs").read_text() == "", what="the end of what was frozen")
    path.rmdir()


def helper_of(daemon):
    for child in pathlib.Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split():
        if pathlib.Path(f"/proc/{child}/comm").read_text() == "pool-gpu-probe\n":
            return int(child)
    return None


@pytest.mark.skipif(not os.environ.get("POOL_SOAK"), reason="waits until a driver is late: POOL_SOAK=1")
def test_a_helper_that_can_not_be_killed_keeps_nothing(daemon, freezer):
    """As one whose thread is stuck in a driver: the GPU is stale, another helper comes, and the daemon can be killed and
    started again: its locks, sockets and ports are its own."""
    status, worker, _ = begin(daemon, "w", 0, wait=True)
    assert status == 200, worker
    stuck = helper_of(daemon)
    (freezer / "cgroup.procs").write_text(str(stuck))
    (freezer / "freezer.state").write_text("FROZEN")
    wait_until(lambda: not gpu(daemon, 0)["healthy"], what="a GPU that is called stale")
    assert gpu(daemon, 0)["health_reason"].startswith("stale")
    assert begin(daemon, "late", 0)[1]["error"]["code"] == "GPU_UNAVAILABLE"
    wait_until(lambda: gpu(daemon, 0)["healthy"], what="an answer of another helper")
    assert is_running(stuck) and daemon.worker("w")["pid"] == worker["pid"]
    daemon.kill()
    assert is_running(stuck)
    daemon.start()
    wait_until(lambda: len(daemon.get("/v2/gpus")[1].get("gpus", [])) == 2, what="a snapshot")
    assert daemon.worker("w")["pid"] == worker["pid"] and helper_of(daemon) != stuck
    assert begin(daemon, "another", 0, wait=True)[0] == 200
