"""Where a daemon may find itself: the first process of a container, who is given every orphan, and whose workers die
with it; and a kernel that does not tell how somebody else's child ended.
"""
import ctypes
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys

import pytest
from pool_host import BUILD, Host, is_running, wait_until
from test_daemon import DAEMON, Daemon

OLD_KERNEL = BUILD / "support" / "without-pidfd-info"
PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def daemon(tmp_path, ports):
    daemon = Daemon(Host(tmp_path, ports))
    yield daemon
    if daemon.process and daemon.process.poll() is None:
        daemon.kill()
    daemon.host.stop_everything()


# ---- PID 1 ----

def can_unshare():
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False)
    return done.returncode == 0


needs_unshare = pytest.mark.skipif(not can_unshare(), reason="no pid namespace can be made here")


def contain(daemon):
    """From now on the daemon is started as the first process of a pid namespace. Returns a way to its pid out here."""
    daemon.command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", str(DAEMON)]


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def namespace_of(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def states_within(pid):
    """State letters of all that is in a process's pid namespace, seen from here."""
    wanted = namespace_of(pid)
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and namespace_of(entry) == wanted:
            try:
                found[int(entry)] = pathlib.Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
    return found


@needs_unshare
def test_the_first_process_reaps_orphans_and_nothing_else(daemon):
    contain(daemon)
    daemon.start()
    first = children(daemon.process.pid)[0]
    # A worker's child leaves its session, outlives it for a moment and ends as an orphan.
    for i in range(3):
        status, answer, _ = daemon.begin(f"w{i}", "--stranger-port", "--helper-life-ms", 1500, "--never-ready")
        assert status == 202, answer
    status, dies, _ = daemon.begin("dies", "--never-ready", "--crash-after-ms", 300, "--exit-code", 7, wait=True)
    assert status == 502 and dies["error"]["details"]["exit_code"] == 7
    status, _, _ = daemon.begin("falls", "--crash-after-ms", 500, "--crash-signal", "SEGV", wait=True)
    assert status == 200
    wait_until(lambda: daemon.worker("falls")["status"] == "stopped", what="its end")
    assert (daemon.worker("falls")["stop_reason"], daemon.worker("falls")["exit_signal"]) == ("signalled", 11)
    for i in range(3):
        assert daemon.stop(f"w{i}", force=True)[0] == 200
    wait_until(lambda: "Z" not in states_within(first).values() and len(states_within(first)) <= 2,
               what=f"nobody is left but the daemon and its helper ({states_within(first)})")


@needs_unshare
def test_the_control_groups_of_the_host_are_left_alone(daemon):
    """The first process of a pid namespace, and no container of its own: the host's groups are not its to divide."""
    mine = pathlib.Path("/proc/self/cgroup").read_text()
    contain(daemon)
    daemon.start()
    first = children(daemon.process.pid)[0]
    assert daemon.begin("w", wait=True)[0] == 200
    for pid in states_within(first):
        assert pathlib.Path(f"/proc/{pid}/cgroup").read_text() == mine


@needs_unshare
def test_workers_that_died_with_a_container_are_lost(daemon):
    contain(daemon)
    daemon.start()
    for i in range(3):
        assert daemon.begin(f"w{i}", wait=True)[0] == 200
    daemon.kill()  # unshare takes the namespace with it
    wait_until(lambda: daemon.host.processes() == {}, what="the end of the namespace")
    daemon.start()
    assert daemon.get("/v2/workers")[1] == {"workers": []}
    ended = {w["worker_id"]: w["stop_reason"] for w in daemon.get("/v2/workers?all=1")[1]["workers"]}
    assert ended == {"w0": "lost", "w1": "lost", "w2": "lost"}
    status, answer, _ = daemon.begin("w0", wait=True)  # the id and the port are free again
    assert status == 200, answer


# ---- a kernel that tells less ----

@pytest.fixture
def subreaper():
    """This process is given the orphans, and says when their zombies go."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def forget_inodes(daemon):
    """Before Linux 6.9 a pidfd had no inode of its own, and rows have none."""
    with sqlite3.connect(daemon.host.state_dir / "pool.db") as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(worker)")]
        assert "pidfd_inode" in columns
        database.execute("UPDATE worker SET pidfd_inode = 0")


def adopt_on_an_old_kernel(daemon, *arguments):
    daemon.start()
    pid = daemon.begin("w", *arguments, wait=True)[1]["pid"]
    daemon.kill()
    forget_inodes(daemon)
    daemon.command = [str(OLD_KERNEL), str(DAEMON)]
    daemon.start()
    assert daemon.worker("w")["pid"] == pid and daemon.worker("w")["status"] == "ready"
    return pid


def test_the_helper_plays_an_old_kernel():
    script = ("import fcntl, os, errno\nfd = os.pidfd_open(os.getpid())\n"
              "try:\n    fcntl.ioctl(fd, 0xC040FF0B, bytes(64)); print('answers')\n"
              "except OSError as error:\n    print(errno.errorcode[error.errno])\n")
    done = subprocess.run([OLD_KERNEL, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ENOTTY"


def test_an_old_kernel_has_the_exit_code_in_the_zombie(daemon, subreaper):
    """The zombie stays, for this process does not reap it: its line in /proc has the code."""
    pid = adopt_on_an_old_kernel(daemon)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: daemon.worker("w")["status"] == "stopped", what="its end")
    ended = daemon.worker("w")
    assert ended["stop_reason"] in ("exited", "signalled")
    assert (ended.get("exit_code"), ended.get("exit_signal")) in ((0, None), (None, signal.SIGTERM))


def test_an_old_kernel_without_a_zombie_does_not_tell(daemon, subreaper):
    """The orphan is reaped by the kernel as it ends: nobody knows how, and nobody waits for an answer."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        pid = adopt_on_an_old_kernel(daemon)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: daemon.worker("w")["status"] == "stopped", what="its end")
        ended = daemon.worker("w")
        assert ended["stop_reason"] == "lost" and not is_running(pid)
        assert ended.get("exit_code") is None and ended.get("exit_signal") is None
        assert daemon.get("/health")[0] == 200
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_an_old_kernel_starts_and_stops_as_any_other(daemon):
    daemon.command = [str(OLD_KERNEL), str(DAEMON)]
    daemon.start()
    status, answer, _ = daemon.begin("w", "--never-ready", "--crash-after-ms", 100, "--exit-code", 7, wait=True)
    assert status == 502 and answer["error"]["details"]["exit_code"] == 7
    assert daemon.begin("v", wait=True)[0] == 200
    assert daemon.stop("v")[1]["stop_reason"] == "requested"
    assert daemon.host.processes() == {}


# ---- a full disk ----

def can_mount():
    done = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True,
                          check=False)
    return done.returncode == 0


@pytest.mark.skipif(not can_mount(), reason="nothing can be mounted here")
def test_on_a_full_disk_a_stop_acts_first_and_is_recorded_later(daemon):
    state = daemon.host.state_dir
    daemon.command = ["unshare", "--mount", "sh", "-c", f'mkdir -p {state} && mount -t tmpfs -o size=3m,mode=700 tmpfs '
                      f'{state} && exec "$@"', "sh", str(DAEMON)]
    daemon.start()
    inside = pathlib.Path(f"/proc/{daemon.process.pid}/root{state}")
    pids = [daemon.begin(worker_id, wait=True)[1]["pid"] for worker_id in ("stopped", "killed")]
    try:
        with open(inside / "ballast", "wb", buffering=0) as ballast:
            with pytest.raises(OSError):
                while True:
                    ballast.write(bytes(4096))
        assert daemon.stop("stopped", wait=False)[0] in (200, 202)
        os.kill(pids[1], signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, pids)), what="the end of both")
        (inside / "ballast").unlink()
        wait_until(lambda: daemon.get("/v2/workers")[1]["workers"] == [], what="their records")
        reasons = {w["worker_id"]: w["stop_reason"] for w in daemon.get("/v2/workers?all=1")[1]["workers"]}
        assert reasons == {"stopped": "requested", "killed": "signalled"}
    finally:
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)
