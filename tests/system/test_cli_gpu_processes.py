"""rbees-pool gpu processes with a driver that lists a worker and a stranger: with a daemon and without."""
import os
import pwd
import subprocess

import pytest
from pool_host import FAKE_NVML, Host, wait_until
from test_cli_daemon import Daemon

pytestmark = pytest.mark.skipif(os.stat("/proc/self/ns/pid").st_ino != 0xEFFFFFFC,
                                reason="a driver's pids mean nothing in a pid namespace of our own")
MIB = 1 << 20
UUID = "GPU-00000000-0000-4000-8000-000000000001"


@pytest.fixture(params=["alone", "daemon"])
def ground(request, tmp_path, ports):
    world = tmp_path / "world.conf"
    world.write_text(f"[gpu 0]\nuuid = {UUID}\ntotal = 24GiB\n")
    host = Host(tmp_path, ports, config=f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\nrefresh_interval_ms = 100\n')
    host.environment["FAKE_NVML_CONFIG"] = str(world)
    daemon = Daemon(host).start() if request.param == "daemon" else None
    yield host, world
    if daemon:
        daemon.end()
    host.stop_everything()


def test_whose_they_are(ground):
    host, world = ground
    assert host.spawn("mine", "--wait").returncode == 0
    (row,) = host.rows()
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        fresh = world.with_suffix(".new")
        fresh.write_text(world.read_text() + f"process = {row['pid']} 100MiB\nprocess = {stranger.pid} 200MiB\n")
        fresh.replace(world)
        wait_until(lambda: len(host.json("gpu", "processes")["processes"]) == 2, what="the driver's processes")
        document = host.json("gpu", "processes")
        assert document["silent_gpus"] == []
        by_pid = {process["pid"]: process for process in document["processes"]}
        me = pwd.getpwuid(os.getuid()).pw_name
        ours, theirs = by_pid[row["pid"]], by_pid[stranger.pid]
        assert ours["worker_id"] == "mine" and ours["used_vram_bytes"] == 100 * MIB and "fake-worker" in ours["command"]
        assert theirs == {"gpu_id": 0, "gpu_uuid": UUID, "pid": stranger.pid, "used_vram_bytes": 200 * MIB, "graphics": False,
                          "worker_id": None, "user": me, "command": "sleep 1000"}
        lines = host.run("gpu", "processes", "0").stdout.splitlines()
        assert len(lines) == 3 and sum("mine" in line for line in lines) == 1
        assert host.refusal("gpu", "processes", "1")["code"] == "GPU_NOT_FOUND"
    finally:
        stranger.kill()
        stranger.wait()
