"""A daemon that was given a control group (v2, marked as systemd marks what it delegates): it leaves it for a leaf, and
each worker has one of its own, with everything that it ever started in it.
"""
import os
import pathlib
import signal
import uuid

import pytest
from pool_host import Host, is_running, wait_until
from test_daemon import DAEMON, Daemon



def hierarchy():
    """Where v2 is mounted, None when it is not."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" - ")
        if fields[1].startswith("cgroup2 "):
            return pathlib.Path(fields[0].split()[4])
    return None


@pytest.fixture
def group():
    """A delegated control group; gone, with all that is in it, at the end."""
    root = hierarchy()
    path = root / f"pool-test-{uuid.uuid4().hex}" if root else None
    try:
        path.mkdir()
        os.setxattr(path, "user.delegate", b"1")
    except (OSError, AttributeError):
        if path and path.exists():
            path.rmdir()
        pytest.skip("no control group (v2) can be made here")
    yield path
    (path / "cgroup.kill").write_text("1")
    wait_until(lambda: "populated 0" in (path / "cgroup.events").read_text(), what="an empty group")
    for folder in [*(p for p in path.iterdir() if p.is_dir()), path]:
        folder.rmdir()


@pytest.fixture
def daemon(tmp_path, ports, group):
    """Its backend `escapes` waits for a word in a FIFO, then leaves a process that has nothing of a worker any more."""
    word = tmp_path / "word"
    os.mkfifo(word)
    script = (f'read word < {word}; setsid -f env -i sleep 600 > /dev/null 2>&1 < /dev/null; '
              f'exec sleep 600')
    host = Host(tmp_path, ports, config=f'[backends.escapes]\ncommand = ["/bin/sh", "-c", "{script}"]\n'
                                        'ready.http = "/health"\ndevice = "cpu"\n')
    daemon = Daemon(host)
    daemon.command = ["/bin/sh", "-c", f'echo 0 > {group}/cgroup.procs && exec "$@"', "sh", str(DAEMON)]
    daemon.word = word
    daemon.start()
    yield daemon
    if daemon.process.poll() is None:
        daemon.kill()
    host.stop_everything()


def group_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::") for line in lines if line.startswith("0::"))


def folders(group):
    return sorted(p.name for p in group.iterdir() if p.is_dir())


def is_bare_sleep(pid):
    try:
        return (pathlib.Path(f"/proc/{pid}/comm").read_text() == "sleep\n" and
                pathlib.Path(f"/proc/{pid}/environ").read_bytes() == b"")
    except OSError:
        return False


def escape(daemon, worker_id):
    """Starts one that leaves a process behind; returns (main, the one that nothing but its group tells of)."""
    status, worker, _ = daemon.begin(worker_id, backend="escapes")
    assert status == 202, worker
    main = worker["pid"]
    assert f"/worker-{worker_id}." in group_of(main)  # the answer comes when that is done
    daemon.word.write_text("go\n")
    members = hierarchy() / group_of(main).lstrip("/") / "cgroup.procs"
    found = []

    def look():
        """Two are left when the helpers that made it have ended: the main one and a sleep with no variables at all."""
        others = [int(pid) for pid in members.read_text().split() if int(pid) != main]
        found[:] = [pid for pid in others if is_bare_sleep(pid)]
        return len(others) == len(found) == 1

    wait_until(look, what="the one that escapes")
    return main, found[0]


def test_each_has_a_group_of_its_own(daemon, group):
    assert group_of(daemon.process.pid).endswith(f"/{group.name}/pool-managerd")
    pids = {f"w{i}": daemon.begin(f"w{i}", wait=True)[1]["pid"] for i in range(2)}
    for worker_id, pid in pids.items():
        assert f"/{group.name}/worker-{worker_id}." in group_of(pid)
    assert len(set(map(group_of, pids.values()))) == 2
    assert daemon.stop("w0")[0] == 200
    assert [name.split(".")[0] for name in folders(group)] == ["pool-managerd", "worker-w1"]
    os.kill(pids["w1"], signal.SIGKILL)
    wait_until(lambda: folders(group) == ["pool-managerd"], what="the end of the group")


def test_what_escapes_everything_else_is_ended(daemon, group):
    main, other = escape(daemon, "w")
    assert daemon.stop("w", force=True)[0] == 200
    assert not is_running(main) and not is_running(other)
    assert folders(group) == ["pool-managerd"]


def test_what_is_left_of_one_that_ended_is_ended(daemon):
    main, other = escape(daemon, "w")
    os.kill(main, signal.SIGKILL)
    wait_until(lambda: daemon.worker("w")["status"] == "stopped", what="its end")
    assert not is_running(other)


def test_groups_outlive_the_daemon_and_are_taken_over(daemon, group):
    main, other = escape(daemon, "w")
    assert daemon.begin("gone", wait=True)[0] == 200
    gone = daemon.worker("gone")["pid"]
    daemon.kill()
    os.kill(gone, signal.SIGKILL)
    wait_until(lambda: not is_running(gone))
    (group / "worker-old.1").mkdir()  # of a worker that nobody knows any more
    daemon.start()
    assert is_running(main) and is_running(other)
    assert [name.split(".")[0] for name in folders(group)] == ["pool-managerd", "worker-w"]
    assert daemon.stop("w", force=True)[0] == 200
    assert not is_running(main) and not is_running(other)


def test_a_group_that_was_not_given_is_left_alone(daemon, group):
    daemon.kill()
    os.removexattr(group, "user.delegate")
    leaf = group / "pool-managerd"
    wait_until(lambda: leaf.joinpath("cgroup.procs").read_text() == "", what="the end of its helper")
    leaf.rmdir()
    daemon.start()
    assert group_of(daemon.process.pid).endswith(f"/{group.name}")
    pid = daemon.begin("w", wait=True)[1]["pid"]
    assert group_of(pid) == group_of(daemon.process.pid) and folders(group) == []
    assert daemon.stop("w")[0] == 200


def test_the_root_of_a_container_is_given_without_a_mark(daemon, group):
    """Namespaces of its own for groups, mounts and processes, as a container has them; nobody marked anything."""
    daemon.kill()
    leaf = group / "pool-managerd"
    wait_until(lambda: leaf.joinpath("cgroup.procs").read_text() == "", what="the end of its helper")
    leaf.rmdir()
    os.removexattr(group, "user.delegate")
    root = hierarchy()
    inside = f'umount {root} && mount -t cgroup2 none {root} && exec "$@"'
    daemon.command = ["/bin/sh", "-c", f'echo 0 > {group}/cgroup.procs && exec unshare --cgroup --mount --pid --fork '
                      f'--kill-child --mount-proc sh -c \'{inside}\' sh "$@"', "sh", str(DAEMON)]
    daemon.start()
    assert daemon.begin("w", wait=True)[0] == 200
    assert [name.split(".")[0] for name in folders(group)] == ["pool-managerd", "worker-w"]
    worker = next(p for p in group.iterdir() if p.name.startswith("worker-w."))
    assert len((worker / "cgroup.procs").read_text().split()) == 1
    assert daemon.stop("w")[0] == 200
    assert folders(group) == ["pool-managerd"]
