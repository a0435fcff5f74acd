"""A worker that answers is called ready on a GPU only when the driver shows it there, and is unhealthy when it falls off.
The driver is the fake one; what it lists of a worker is what the worker's file of claims says, which tests rewrite.
"""
import json
import os
import pathlib
import signal

import pytest
from pool_host import FAKE_NVML, PATIENCE_S, Host, is_running, wait_until
from test_daemon import Daemon, UnixConnection

GIB, MIB = 1 << 30, 1 << 20
A, B = (f"GPU-fa4e0000-0000-4000-8000-00000000000{n}" for n in (0, 1))
HELD = 600 * MIB  # of the small model and a context: more than half of what is expected

# In a pid namespace of our own the driver's pids are other processes' numbers, and nobody can be told to be missing.
pytestmark = pytest.mark.skipif(os.readlink("/proc/self/ns/pid") != "pid:[4026531836]",
                                reason="in a pid namespace of its own")

MUTE = {
    "lists nobody": ["return.nvmlDeviceGetComputeRunningProcesses_v3 = 4",
                     "return.nvmlDeviceGetRunningProcessDetailList = 4",
                     "return.nvmlDeviceGetGraphicsRunningProcesses_v3 = 4"],
    "hides a process": ["process = 0 3GiB"],
    "lists one that is not to be seen": ["process = 4194303 3GiB"],
}


class Ground:
    """A host with two GPUs. `held`: what its workers claim, as --vram of the fake worker; none: they hold nothing."""

    def __init__(self, directory, ports, held=(), config="", keys=(), driver=()):
        self.claims = directory / "claims"
        self.claims.mkdir()
        self.world = directory / "world"
        self.write_world(keys, driver)
        arguments = ["--vram-claims", str(self.claims)] if held else []
        for claim in held:
            arguments += ["--vram", claim]
        self.host = Host(directory, ports, device="gpu", fake_args=arguments,
                         config=f'{config}[gpu]\ninventory = "nvml:{FAKE_NVML}"\nrefresh_interval_ms = 100\n')
        self.host.environment["FAKE_NVML_CONFIG"] = str(self.world)
        self.daemon = None

    def write_world(self, keys=(), driver=()):
        """`keys` are of the first device."""
        fresh = self.world.with_suffix(".new")
        fresh.write_text("\n".join(["[driver]", f"claims = {self.claims}", *driver,
                                    "[gpu 0]", f"uuid = {A}", "total = 24GiB", *keys,
                                    "[gpu 1]", f"uuid = {B}", "total = 24GiB"]) + "\n")
        fresh.replace(self.world)

    def set_workers(self, line):
        config = self.host.config
        config.write_text(config.read_text().replace("[workers]\n", f"[workers]\n{line}\n"))

    def start_daemon(self):
        self.daemon = self.daemon or Daemon(self.host)
        self.daemon.start()
        wait_until(lambda: len(self.daemon.get("/v2/gpus")[1].get("gpus", [])) == 2, what="a snapshot")
        return self.daemon

    def end(self):
        if self.daemon and self.daemon.process.poll() is None:
            self.daemon.kill()
        self.host.stop_everything()

    def hold(self, pid, **bytes_on):
        """From now on the process holds this of the devices a and b, and nothing else."""
        start = pathlib.Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()[19]
        lines = [f"start {start}", *(f"{ {'a': A, 'b': B}[gpu]} {n}" for gpu, n in bytes_on.items())]
        fresh = self.claims / f".{pid}.test"
        fresh.write_text("\n".join(lines) + "\n")
        fresh.rename(self.claims / str(pid))

    def spawn(self, worker_id, *arguments):
        return self.host.spawn(worker_id, "--gpu", A, "--vram", GIB, *arguments)

    def refusal(self, worker_id, *arguments):
        return self.host.spawn_refusal(worker_id, "--gpu", A, "--vram", GIB, "--wait", *arguments)

    def row(self, worker_id="w"):
        return self.host.json("worker", "show", worker_id)

    def state(self, worker_id="w"):
        row = self.row(worker_id)
        return row["status"], row["healthy"], row["health_reason"]

    def wait_for(self, *state, worker_id="w"):
        wait_until(lambda: self.state(worker_id) == state, what=f"{state}, not {self.state(worker_id)}")

    def told(self, worker_id="w"):
        """What is explained of its presence, oldest first: the message and the facts."""
        records = self.host.json("explain", worker_id)["explanations"]
        return [(r["message"], {f["name"]: f["number"] if f["number"] is not None else f["text"] for f in r["facts"]})
                for r in reversed(records) if r["kind"] == "presence"]


@pytest.fixture
def make(tmp_path, ports):
    made = []

    def make_ground(**options):
        made.append(Ground(tmp_path, ports, **options))
        return made[-1]

    yield make_ground
    for ground in made:
        ground.end()


@pytest.fixture(params=["alone", "daemon"])
def make_both(request, make):
    """The same ground without a daemon and with one."""
    def make_ground(**options):
        ground = make(**options)
        if request.param == "daemon":
            ground.start_daemon()
        return ground

    return make_ground


ABSENT = ("spawning", False, "not_on_gpu")
WELL = ("ready", True, None)
OFF = ("ready", False, "not_on_gpu")


def test_on_its_gpu(make_both):
    ground = make_both(held=[f"visible:{HELD}"])
    assert ground.spawn("w", "--wait").returncode == 0
    assert ground.state() == WELL and ground.told() == []


def test_one_that_holds_nothing_is_not_ready(make_both):
    ground = make_both()
    error = ground.refusal("w", "--start-timeout", 5000)
    details = error["details"]
    assert error["code"] == "WORKER_START_TIMEOUT" and details["health_reason"] == "not_on_gpu"
    assert details["device"] == A and details["seen_vram_bytes"] == 0 and details["last_status_code"] == 200
    assert 0 < details["least_vram_bytes"] < details["expected_vram_bytes"] < GIB  # the estimate, not what was asked for
    row = ground.host.all_rows()["w"]
    assert (row["status"], row["stop_reason"]) == ("stopped", "start_timeout")
    assert (row["healthy"], row["health_reason"]) == (False, "not_on_gpu")
    assert ground.host.processes() == {}
    ((message, facts),) = ground.told()
    assert A in message and facts["device"] == A
    assert (facts["expected_bytes"], facts["least_bytes"], facts["seen_bytes"]) == (
        details["expected_vram_bytes"], details["least_vram_bytes"], 0)


def test_a_bare_context_is_not_enough_for_a_large_model(make):
    """As much as an engine takes that looked at the device and went on with the CPU."""
    ground = make(held=[f"visible:{250 * MIB}"])
    assert ground.refusal("w", "--start-timeout", 5000)["details"]["seen_vram_bytes"] == 250 * MIB


def test_ready_when_it_comes(make_both):
    """It answers and is not there: it is starting, and says why. Then it is there, and ready."""
    ground = make_both()
    assert ground.spawn("w").returncode == 0
    ground.wait_for(*ABSENT)
    if not ground.daemon:  # a command that waits goes on from there
        waiting = ground.host.start("worker", "wait", "w")
    ground.hold(ground.row()["pid"], a=HELD)
    if not ground.daemon:
        assert waiting.wait(timeout=PATIENCE_S) == 0
        waiting.communicate()
    ground.wait_for(*WELL)
    assert ground.row()["ready_at"] is not None
    first, last = ground.told()
    assert first[0].startswith("it is not on its GPU") and last[0].startswith("it is on its GPU again")
    assert last[1]["seen_bytes"] == HELD


def test_a_look_makes_ready_only_what_is_there(make):
    """Nobody waits and no daemon runs: worker list settles."""
    ground = make()
    assert ground.spawn("w").returncode == 0
    wait_until(lambda: ground.host.rows()[0]["health_reason"] == "not_on_gpu", what="the verdict")
    ground.hold(ground.row()["pid"], a=HELD)
    wait_until(lambda: ground.host.rows()[0]["status"] == "ready", what="readiness")
    assert ground.state() == WELL


def test_on_another_gpu(make_both):
    ground = make_both(held=[f"{B}:{HELD}"])
    assert ground.spawn("w").returncode == 0
    ground.wait_for(*ABSENT)
    ((message, facts),) = ground.told()
    assert (facts["device"], facts["seen_bytes"]) == (A, 0)
    assert (facts["elsewhere_device"], facts["elsewhere_bytes"]) == (B, HELD) and B in message


@pytest.mark.parametrize("how", MUTE)
def test_a_driver_that_does_not_tell_convicts_nobody(make_both, how):
    ground = make_both(keys=MUTE[how])
    assert ground.spawn("w", "--wait").returncode == 0
    assert ground.state() == WELL and ground.told() == []


def test_a_driver_that_does_not_tell_how_much(make_both):
    ground = make_both(held=[f"visible:{HELD}"], driver=["process_bytes = unknown"])
    assert ground.spawn("w", "--wait").returncode == 0
    assert ground.state() == WELL and ground.told() == []


def take_from_nobody(ground):
    """3 GiB of the first device are gone, and nobody is listed for them."""
    ground.write_world(keys=["used = 3GiB"])
    wait_until(lambda: ground.host.json("gpu", "list")["gpus"][0]["vram_used_bytes"] == 3 * GIB, what="a snapshot")


def test_memory_that_went_to_nobody_may_be_its_own(make_both):
    """As with MPS, or an engine in a container: what is gone since its start is listed of nobody."""
    ground = make_both()
    gate = ground.host.gate("ready")
    assert ground.spawn("w", "--arg", "--ready-when", "--arg", gate).returncode == 0
    take_from_nobody(ground)
    ground.host.open_gate("ready")
    ground.wait_for(*WELL)
    assert ground.told() == []


def test_memory_that_was_gone_before_is_not(make_both):
    ground = make_both()
    take_from_nobody(ground)
    assert ground.spawn("w").returncode == 0
    ground.wait_for(*ABSENT)


def test_known_to_be_absent_until_it_is_seen(make):
    """What can not be told acquits nobody who was known to be absent."""
    ground = make()
    ground.start_daemon()
    assert ground.spawn("w", "--start-timeout", 5000).returncode == 0
    wait_until(lambda: ground.told(), what="the verdict")
    ground.write_world(keys=MUTE["lists nobody"])
    wait_until(lambda: ground.row()["status"] == "stopped", what="the end of its time")
    assert ground.row()["stop_reason"] == "start_timeout" and ground.row()["health_reason"] == "not_on_gpu"


def test_it_falls_off_and_comes_back(make):
    ground = make(held=[f"visible:{HELD}"])
    daemon = ground.start_daemon()
    assert ground.spawn("w", "--wait").returncode == 0
    wait_until(lambda: ground.row()["peak_vram_bytes"] == HELD, what="the peak")
    pid = ground.row()["pid"]
    ground.hold(pid, a=MIB)  # it sleeps: its model is given back, a context is left
    wait_until(lambda: daemon.get("/v2/gpus")[1]["gpus"][0]["processes"][0]["used_vram_bytes"] == MIB, what="a snapshot")
    ground.hold(pid, b=HELD)
    ground.wait_for(*OFF)
    events = daemon.log.read_text()
    assert "worker.not_on_gpu" in events and "pool_mgr_workers_unhealthy 1" in daemon.get("/metrics")[1].decode()
    assert daemon.get("/v2/state")[1]["workers"][0]["health_reason"] == "not_on_gpu"
    (_, facts), = ground.told()
    assert (facts["device"], facts["seen_bytes"], facts["elsewhere_bytes"]) == (A, 0, HELD)
    ground.hold(pid, a=HELD)
    ground.wait_for(*WELL)
    assert [message.split(":")[0] for message, _ in ground.told()] == ["it is not on its GPU", "it is on its GPU again"]
    assert is_running(pid)


def test_looks_at_its_health_do_not_say_where_it_is(make):
    ground = make(held=[f"visible:{HELD}"])
    ground.set_workers("health_interval_ms = 100")
    ground.start_daemon()
    assert ground.spawn("w", "--wait").returncode == 0
    row = ground.row()
    ground.hold(row["pid"])
    ground.wait_for(*OFF)
    os.kill(row["pid"], signal.SIGSTOP)  # now it does not answer either, and that is said
    wait_until(lambda: "readiness path" in (ground.row()["health_reason"] or ""), what="the other reason")
    assert ground.row()["healthy"] is False
    os.kill(row["pid"], signal.SIGCONT)
    ground.wait_for(*OFF)
    ground.hold(row["pid"], a=HELD)
    ground.wait_for(*WELL)


def test_stopped_where_that_is_asked_for(make):
    ground = make(held=[f"visible:{HELD}"])
    ground.set_workers('on_unhealthy = "stop"')
    ground.start_daemon()
    assert ground.spawn("w", "--wait").returncode == 0
    ground.hold(ground.row()["pid"])
    wait_until(lambda: ground.row()["status"] == "stopped", what="the stop")
    row = ground.row()
    assert (row["stop_reason"], row["health_reason"]) == ("unhealthy", "not_on_gpu")


def test_only_said_where_that_is_asked_for(make_both):
    ground = make_both(config='not_on_gpu = "warn"\n')
    assert ground.spawn("w", "--wait").returncode == 0
    ground.wait_for("ready", True, "not_on_gpu")
    ((_, facts),) = ground.told()
    assert facts["seen_bytes"] == 0
    if ground.daemon:
        wait_until(lambda: "worker.not_on_gpu" in ground.daemon.log.read_text(), what="a line in the log")
        ground.hold(ground.row()["pid"], a=HELD)
        ground.wait_for(*WELL)


def test_nothing_is_learned_from_one_that_is_not_there(make_both):
    ground = make_both(held=[f"visible:{250 * MIB}"], config='not_on_gpu = "warn"\n')
    assert ground.spawn("w", "--wait").returncode == 0
    ground.wait_for("ready", True, "not_on_gpu")
    planned = ground.host.json("worker", "spawn", "fake", "--model", f"file:{ground.host.model}", "--gpu", A, "--dry-run")
    assert planned["need"]["measured_bytes"] is None
    assert ground.host.json("models", "learned", "list")["learned"] == []


def test_each_device_of_several(make_both):
    """One share is missing, and is there later."""
    ground = make_both(held=[f"visible:{HELD}"])
    arguments = ("--gpu", f"{A},{B}", "--split", "1,1", "--vram", 2 * GIB)
    assert ground.host.spawn("w", *arguments).returncode == 0
    ground.wait_for(*ABSENT)
    ((message, facts),) = ground.told()
    assert (facts["device"], facts["seen_bytes"], facts["device_2"], facts["seen_bytes_2"]) == (A, HELD, B, 0)
    assert A in message and B in message
    ground.hold(ground.row()["pid"], a=HELD, b=HELD)
    ground.wait_for(*WELL)


def test_the_next_daemon_goes_on(make):
    """One that served and one that started, when the daemon was killed: what becomes of each is seen by the next."""
    ground = make()
    daemon = ground.start_daemon()
    assert ground.spawn("served").returncode == 0
    ground.hold(ground.row("served")["pid"], a=HELD)
    ground.wait_for(*WELL, worker_id="served")
    assert ground.spawn("started").returncode == 0
    ground.wait_for(*ABSENT, worker_id="started")
    daemon.kill()
    ground.hold(ground.row("served")["pid"])
    daemon.start()
    ground.wait_for(*OFF, worker_id="served")
    assert ground.state("started") == ABSENT
    daemon.kill()
    daemon.start()
    # what is known is not forgotten by being proven to answer
    assert ground.state("served") == OFF
    for worker_id in ("served", "started"):
        ground.hold(ground.row(worker_id)["pid"], a=HELD)
        ground.wait_for(*WELL, worker_id=worker_id)


def test_heard_by_who_listens(make):
    """The events: the change of the worker, and the explanation with the numbers."""
    ground = make(held=[f"visible:{HELD}"])
    daemon = ground.start_daemon()
    assert ground.spawn("w", "--wait").returncode == 0
    connection = UnixConnection(daemon.socket)
    connection.request("GET", "/v2/events")
    stream = connection.getresponse()
    ground.hold(ground.row()["pid"])
    seen, kind = {}, None
    while not {"worker.ready", "explain.presence"} <= seen.keys():
        line = stream.readline().decode().strip()
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: ") and kind:
            document = json.loads(line[6:])
            if kind == "explain.presence" or (kind == "worker.ready" and document["health_reason"] == "not_on_gpu"):
                seen[kind] = document
    connection.close()
    assert seen["worker.ready"]["healthy"] is False
    assert seen["explain.presence"]["worker_id"] == "w"
