"""How GPUs are connected, as `gpu topology`, `gpu show`, `gpu list` and GET /v2/gpus show it: a bridge, NVSwitches, nothing, a driver that
does not know and one that lies; with a daemon and without."""
import json
import subprocess
import sys

import pytest
from pool_host import FAKE_NVML, ROOT, Host, wait_until
from test_daemon import Daemon
from test_openapi import problems, strict

SWITCH = "00000000:C0:00.0"
LINK_FUNCTIONS = ["nvmlDeviceGetNvLinkState", "nvmlDeviceGetNvLinkVersion", "nvmlDeviceGetNvLinkRemotePciInfo_v2",
                  "nvmlDeviceGetNvLinkRemoteDeviceType", "nvmlDeviceGetTopologyCommonAncestor"]


def bus(gpu):
    return f"00000000:{gpu + 1:02X}:00.0"


def links(first, n, rest):
    return "".join(f"nvlink = {number} {rest}\n" for number in range(first, first + n))


def pair(more=""):
    """Two with a bridge of four links and room for two more, one without links on another NUMA node."""
    return ("[driver]\ntopology = 0 1 20\ntopology = 0 2 50\ntopology = 1 2 50\n"
            f"[gpu 0]\n{more}" + links(0, 4, f"1 {bus(1)}") + links(4, 2, "0")
            + "[gpu 1]\n" + links(0, 4, f"1 {bus(0)}") + links(4, 2, "0") + "[gpu 2]\n")


def switched(n, n_links=18):
    return "".join(f"[gpu {gpu}]\n" + links(0, n_links, f"1 {SWITCH} 2") for gpu in range(n))


class World:
    """A host whose driver is the fake one, asked by the command line alone or through a daemon."""

    def __init__(self, directory, ports, with_daemon):
        self.file = directory / "world.conf"
        self.set("[driver]\n")
        self.host = Host(directory, ports, device="gpu",
                         config=f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\nrefresh_interval_ms = 250\n')
        self.host.environment |= {"FAKE_NVML_CONFIG": str(self.file), "LC_ALL": "C.UTF-8"}
        self.daemon = Daemon(self.host) if with_daemon else None

    def set(self, text):
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    def show(self, text, n_gpus):
        """Another world, that is seen."""
        self.set(text)
        if self.daemon and not self.daemon.process:
            self.daemon.start()
        wait_until(lambda: len(self.topology()["gpus"]) == n_gpus, what="the world to be seen")

    def topology(self):
        return self.host.json("gpu", "topology")

    def said(self, *command):
        done = self.host.run("gpu", *command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def matrix(self):
        """Rows of the table, without its head: what stands behind the name of a GPU. And all that comes behind the table."""
        lines = self.said("topology").split("\n")
        n = lines.index("")
        return [line.split()[2:] for line in lines[1:n]], lines[n + 1:-1]


@pytest.fixture(params=[False, True], ids=["alone", "daemon"])
def world(request, tmp_path, ports):
    made = World(tmp_path, ports, request.param)
    yield made
    if made.daemon and made.daemon.process:
        made.daemon.kill()
    made.host.stop_everything()


def peers(gpu):
    return {peer["gpu_id"]: (peer["nvlinks"], peer["nvswitch"], peer["common_ancestor"]) for peer in gpu["peers"]}


def test_a_bridge(world):
    world.show(pair(), 3)
    rows, legend = world.matrix()
    assert rows == [["X", "NV4", "SYS", "-", "4/6"], ["NV4", "X", "SYS", "-", "4/6"], ["SYS", "SYS", "X", "-", "0"]]
    assert [line.split()[0] for line in legend] == ["NV#", "SYS"]
    document = world.topology()
    assert set(document) == {"gpus", "source", "reason"} and document["source"] == "nvml"
    first, second, third = document["gpus"]
    assert set(first) == {"gpu_id", "uuid", "name", "pci_bus_id", "numa_node", "mig_enabled", "nvlinks", "peers"}
    assert first["nvlinks"][3] == {"link": 3, "active": True, "version": 6, "remote": "gpu",
                                   "remote_pci_bus_id": second["pci_bus_id"]}
    assert first["nvlinks"][4] == {"link": 4, "active": False, "version": None, "remote": None, "remote_pci_bus_id": None}
    assert peers(first) == {1: (4, False, "multiple"), 2: (0, False, "system")}
    assert peers(third) == {0: (0, False, "system"), 1: (0, False, "system")} and third["nvlinks"] == []
    shown = world.said("show", "1")
    assert "nvlinks:      4 of 6 active\n" in shown and "to GPU 0:     NV4 (4 NVLinks)\n" in shown
    assert "to GPU 2:     SYS (" in shown
    assert [line.split()[-1] for line in world.said("list", "-v").splitlines()] == ["NVLINK", "4/6", "4/6", "0"]


def test_nvswitches(world):
    world.show(switched(8), 8)
    rows, legend = world.matrix()
    for number, row in enumerate(rows):
        assert row == ["NV18"] * number + ["X"] + ["NV18"] * (7 - number) + ["-", "18/18"]
    assert [line.split()[0] for line in legend] == ["NV#"]
    assert all(peers(gpu) == {other["gpu_id"]: (18, True, "hostbridge") for other in world.topology()["gpus"] if other != gpu}
               for gpu in world.topology()["gpus"])
    assert "nvlinks:      18 of 18 active, 18 to NVSwitches\n" in world.said("show", "0")


def test_no_links_and_no_pairs(world):
    world.show("[driver]\ntopology = 0 1 10\n[gpu 0]\n[gpu 1]\n", 2)
    rows, legend = world.matrix()
    assert rows == [["X", "PIX", "-", "0"], ["PIX", "X", "-", "0"]] and [line.split()[0] for line in legend] == ["PIX"]
    assert "nvlinks:      none\n" in world.said("show", "0")
    world.show("[gpu 0]\n" + links(0, 2, f"1 {bus(1)}"), 1)
    said = world.said("topology")
    assert said.startswith("one GPU: ") and "nvlinks:      2 of 2 active, 2 to GPUs that are not listed\n" in said
    world.show("[driver]\n", 0)
    assert world.said("topology").startswith("no GPUs: ")
    assert world.topology()["reason"]


def test_a_divided_device(world):
    world.show(pair("mig = on\n").replace("[gpu 1]", "[mig 0.0]\nuuid = MIG-a\n[gpu 1]"), 3)
    rows, legend = world.matrix()
    assert rows[0] == ["X", "NV4", "SYS", "-", "4/6"] and len(rows) == 3
    assert any(line.startswith("GPU 0 is divided: ") for line in legend)
    assert "nvlinks:      none: " in world.said("show", "MIG-a") and "to GPU" not in world.said("show", "MIG-a")
    instance = next(gpu for gpu in world.host.json("gpu", "list")["gpus"] if gpu["mig_instance"])
    assert (instance["nvlinks"], instance["peers"]) == ([], [])


def test_a_lost_device_stays_where_it_was(world):
    world.show(pair(), 3)
    world.set(pair("lost = yes\n"))
    wait_until(lambda: not world.host.json("gpu", "list")["gpus"][0]["healthy"], what="the loss to be seen")
    document = world.topology()
    # Who asks for the first time learns nothing of it, not even where it was.
    assert peers(document["gpus"][0])[1] == ((4, False, "multiple") if world.daemon else (None, False, None))
    assert (document["gpus"][0]["nvlinks"] is None) == (world.daemon is None)


def test_a_driver_that_lies(world):
    world.show("[gpu 0]\n" + links(0, 4, f"1 {bus(1)} 77") + links(4, 1, f"1 {bus(0)}") + links(5, 1, "1 none 0")
               + links(6, 1, "9") + links(7, 40, f"1 {SWITCH} 2 99999") + "[gpu 1]\n" + links(0, 2, f"1 {bus(0)}"), 2)
    gpu = world.topology()["gpus"][0]
    assert len(gpu["nvlinks"]) == 35 and gpu["nvlinks"][-1]["version"] is None
    assert peers(gpu) == {1: (2, False, "hostbridge")}, "as many as both tell of"
    assert [gpu["healthy"] for gpu in world.host.json("gpu", "list")["gpus"]] == [True, True]


@pytest.mark.parametrize("missing", [*([name] for name in LINK_FUNCTIONS), LINK_FUNCTIONS], ids=[*LINK_FUNCTIONS, "all"])
def test_an_older_driver(tmp_path, ports, missing):
    world = World(tmp_path, ports, False)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run([sys.executable, ROOT / "tests/support/fake_nvml/make-fake-nvml", library, "--without", ",".join(missing),
                    "--from", FAKE_NVML], check=True)
    world.host.config.write_text(world.host.config.read_text().replace(str(FAKE_NVML), str(library)))
    world.show(pair(), 3)
    first = world.topology()["gpus"][0]
    is_told = "nvmlDeviceGetNvLinkState" not in missing
    has_address = is_told and "nvmlDeviceGetNvLinkRemotePciInfo_v2" not in missing
    assert (first["nvlinks"] is not None) == is_told
    assert peers(first)[1][0] == (4 if has_address else None)
    assert peers(first)[1][2] == (None if "nvmlDeviceGetTopologyCommonAncestor" in missing else "multiple")
    rows, _ = world.matrix()
    assert rows[0][1] == ("NV4" if has_address else "-" if len(missing) > 1 else "PXB")
    assert all(gpu["healthy"] for gpu in world.host.json("gpu", "list")["gpus"])


def test_a_file_does_not_tell(tmp_path, ports):
    gpus = tmp_path / "gpus.toml"
    gpus.write_text("".join(f'[[gpus]]\nuuid = "GPU-{i}"\nvram_total_bytes = 1\nnuma_node = {i}\n' for i in range(2)))
    host = Host(tmp_path, ports, config=f'[gpu]\ninventory = "static:{gpus}"\n')
    lines = host.run("gpu", "topology").stdout.split("\n")
    assert lines[1].split() == ["GPU", "0", "X", "-", "0", "-"] and lines[4].startswith("-  ")
    assert all(gpu["nvlinks"] is None and gpu["peers"] == [] for gpu in host.json("gpu", "topology")["gpus"])
    assert "nvlinks" not in host.run("gpu", "show", "0").stdout


def test_over_http(tmp_path, ports):
    world = World(tmp_path, ports, True)
    try:
        world.show(pair(), 3)
        _, document, _ = world.daemon.get("/v2/openapi.json")
        status, answer, _ = world.daemon.get("/v2/gpus/1")
        assert status == 200 and len(answer["gpus"]) == 1 and answer["gpus"][0]["peers"][0]["nvlinks"] == 4
        for path, schema in (("/v2/gpus", "GpuList"), ("/v2/state", "PoolStatusResponse")):
            answer = world.daemon.get(path)[1]
            assert problems(strict(document), {"$ref": f"#/components/schemas/{schema}"}, answer) == []
            assert json.dumps(answer).count('"remote": "gpu"') == 8
    finally:
        world.daemon.kill()
        world.host.stop_everything()


def test_links_do_not_change_with_every_snapshot(tmp_path, ports):
    """The daemon asks for them once: while nobody comes or goes, what a snapshot tells of is what was asked before."""
    world = World(tmp_path, ports, True)
    try:
        world.show(pair(), 3)
        world.set(pair("temperature = 77\n").replace("nvlink = 3 1", "nvlink = 3 0"))
        wait_until(lambda: world.host.json("gpu", "list")["gpus"][0]["temperature_celsius"] == 77, what="another snapshot")
        assert peers(world.topology()["gpus"][0])[1][0] == 4
        world.show(pair().replace("nvlink = 3 1", "nvlink = 3 0") + "[gpu 3]\n", 4)
        assert peers(world.topology()["gpus"][0])[1][0] == 3
    finally:
        world.daemon.kill()
        world.host.stop_everything()
