"""The units as they are installed, under a systemd of its own: one that boots in namespaces, on an overlay of this system. A
user `pool`, readiness, restarts that no worker notices, the watchdog, sockets that wait, the journal's fields, and an engine
and a Python program under all that the unit restricts. With POOL_SOAK=1, as root, where such namespaces can be had.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from pool_host import BUILD, tiny_model

ENGINE = os.environ.get("POOL_LLAMA_SERVER")
SYSTEMD = pathlib.Path("/lib/systemd/systemd")
SOCKET = "unix:/run/pool-core/daemon.sock"

pytestmark = [
    pytest.mark.skipif(not os.environ.get("POOL_SOAK"), reason="POOL_SOAK is not set"),
    pytest.mark.skipif(os.geteuid() != 0 or not SYSTEMD.exists(), reason="needs root and systemd"),
]

# Everything that is mounted goes with the namespace.
BOOT = r"""
set -eu
base=$1 build=$2
root=$base/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/shm" "$root/run/lock"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
DESTDIR=$root cmake --install "$build" --prefix /usr/local >"$base/install.log"
install -D "$build/support/fake-worker" "$root/usr/local/bin/fake-worker"
ldconfig -r "$root"
rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/systemd/system/default.target"
ln -s /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
for unit in systemd-logind systemd-udevd systemd-networkd systemd-resolved dbus console-getty; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
chroot "$root" systemd-sysusers
cp -a "$base/files/." "$root/"
chown -R root:root "$root/etc/pool-core" "$root/opt/engine" "$root/opt/program"
cd "$root"
mkdir -p old
pivot_root . old
exec chroot . sh -c 'umount -l /old; ip link set lo up; exec env -i container=test PATH=/usr/bin:/bin:/usr/sbin:/sbin \
    /lib/systemd/systemd --log-target=journal'
"""

PROGRAM = """#!/usr/bin/python3
import ctypes, http.server, mmap, os, sys
from multiprocessing import shared_memory
mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)  # generated code
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(438, libc.syscall(434, os.getpid(), 0), 0, 0) >= 0  # pidfd_getfd
assert libc.mlock(ctypes.create_string_buffer(4096), 4096) == 0
shared = shared_memory.SharedMemory(create=True, size=1 << 20)
shared.close()
shared.unlink()
assert libc.syscall(101, 0, 0, 0, 0) == -1 and ctypes.get_errno() == 1  # ptrace: EPERM
try:
    open("/etc/pool-core/pool.toml", "a")
    sys.exit("the system can be written to")
except OSError:
    pass
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


class Machine:
    def __init__(self, base):
        self.base = base
        self.pid = None

    def run(self, *command, is_fine=True, timeout=120):
        done = subprocess.run(["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w", "--", "/usr/bin/env", "-i",
                               "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", f"POOL_URL={SOCKET}", *command],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0 or not is_fine, (command, done.stdout, done.stderr)
        return done.stdout if is_fine else done

    def show(self, name):
        return self.run("systemctl", "show", "-p", name, "--value", "pool-managerd.service").strip()

    def until(self, is_true, what):
        deadline = time.monotonic() + 120
        while not is_true():
            assert time.monotonic() < deadline, (what, self.run("journalctl", "--no-pager", "-n", "50"))
            time.sleep(0.1)

    def workers(self):
        return {row["worker_id"]: row for row in json.loads(self.run("rbees-pool", "worker", "list", "--json"))["workers"]}

    def spawn(self, backend, worker_id):
        self.run("rbees-pool", "worker", "spawn", backend, "--model", "file:/var/lib/pool-core/models/tiny.gguf", "--id",
                 worker_id, "--wait")

    def journal(self, *fields):
        lines = self.run("journalctl", "-o", "json", "--no-pager", "-u", "pool-managerd.service", *fields).splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def machine(tmp_path):
    for folder in ("root", "upper", "work", "files/etc/pool-core", "files/var/lib/pool-core/models", "files/opt/program",
                   "files/opt/engine", "files/run/systemd/system/pool-managerd.service.d"):
        (tmp_path / folder).mkdir(parents=True)
    files = tmp_path / "files"
    (files / "var/lib/pool-core/models/tiny.gguf").write_bytes(tiny_model())
    (files / "opt/program/program").write_text(PROGRAM)
    (files / "opt/program/program").chmod(0o755)
    (files / "etc/pool-core/pool.toml").write_text(
        '[backends.fake]\ncommand = ["/usr/local/bin/fake-worker", "--port", "{port}", "--host", "{host}", "-m", "{model_path}"]\n'
        'ready.http = "/health"\ndevice = "cpu"\n'
        '[backends.python]\ncommand = ["/opt/program/program", "{port}"]\nready.http = "/"\ndevice = "cpu"\n')
    (files / "run/systemd/system/pool-managerd.service.d/test.conf").write_text("[Service]\nWatchdogSec=5\n")
    made = Machine(tmp_path)
    groups = tmp_path / "groups"
    groups.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "none", groups], check=True)
    own = groups / f"pool-test-{os.getpid()}-{tmp_path.name}"
    own.mkdir()
    script = f'echo $$ >{own}/cgroup.procs; exec unshare --mount --pid --net --uts --ipc --cgroup --fork bash -c "$0" boot "$@"'
    boot = subprocess.Popen(["bash", "-c", script, BOOT, tmp_path, BUILD], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        children = pathlib.Path(f"/proc/{boot.pid}/task/{boot.pid}/children")
        deadline = time.monotonic() + 120
        while True:
            assert boot.poll() is None, boot.stdout.read()
            assert time.monotonic() < deadline
            ids = children.read_text().split()
            if ids and pathlib.Path(f"/proc/{ids[0]}/comm").read_text().strip() == "systemd":
                made.pid = int(ids[0])
                if made.run("systemctl", "is-system-running", is_fine=False).stdout.strip() in ("running", "degraded"):
                    break
            time.sleep(0.1)
        yield made
    finally:
        for pid in children.read_text().split() if boot.poll() is None else ():
            os.kill(int(pid), signal.SIGKILL)
        boot.wait(timeout=60)
        for folder, _, _ in os.walk(own, topdown=False):  # systemd's own groups below it
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        subprocess.run(["umount", groups], check=False)
        for folder in ("upper", "work"):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)


def test_the_service(machine):
    machine.run("systemd-tmpfiles", "--create")
    machine.run("systemctl", "start", "pool-managerd.service")
    assert machine.show("ActiveState") == "active" and machine.show("StatusText") == "0 workers"
    assert machine.run("stat", "-c", "%U:%G %a", "/run/pool-core/daemon.sock", "/var/lib/pool-core").split("\n")[:2] == [
        "pool:pool 660", "pool:pool 700"]
    machine.spawn("fake", "w")
    pid = machine.workers()["w"]["pid"]
    status = dict(line.split(":\t", 1) for line in machine.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and int(status["CapBnd"], 16) == 0
    assert machine.run("cat", f"/proc/{pid}/oom_score_adj").strip() == "0"
    (ready,) = machine.journal("POOL_EVENT=worker.ready")
    assert ready["POOL_WORKER_ID"] == "w" and ready["_TRANSPORT"] == "journal" and ready["POOL_CORRELATION_ID"]

    def check(what):
        row = machine.workers()["w"]
        assert row["pid"] == pid and row["status"] in ("ready", "idle"), what

    for _ in range(3):
        machine.run("systemctl", "restart", "pool-managerd.service")
        check("restart")
    machine.run("systemctl", "reload", "pool-managerd.service")
    check("reload")
    for how in ("KILL", "STOP"):  # the second: nobody but the watchdog sees it
        n_restarts = int(machine.show("NRestarts"))
        machine.run("systemctl", "kill", "--kill-whom=main", f"--signal=SIG{how}", "pool-managerd.service")
        machine.until(lambda: int(machine.show("NRestarts")) > n_restarts and machine.show("ActiveState") == "active", how)
        check(how)
    machine.run("systemctl", "stop", "pool-managerd.service")
    assert pathlib.Path(machine.run("readlink", f"/proc/{pid}/exe").strip()).name == "fake-worker"

    # systemd's sockets: whoever comes starts the daemon, and waits while it restarts
    machine.run("systemctl", "start", "pool-managerd.socket")
    check("socket")
    restart = machine.run("sh", "-c", "systemctl restart pool-managerd.service & for i in 1 2 3 4 5 6 7 8 9 10; do "
                                      "curl -s http://127.0.0.1:9200/health >/dev/null; [ $? != 7 ] || echo refused; done; wait")
    assert "refused" not in restart

    # who may use it
    machine.run("useradd", "-m", "somebody")
    listing = ("runuser", "-u", "somebody", "--", "rbees-pool", "worker", "list", "--json")
    assert machine.run(*listing, is_fine=False).returncode == 4
    own = ("env", "-u", "POOL_URL", *listing)
    assert json.loads(machine.run(*own))["workers"] == []  # his own pool, which has none
    machine.run("usermod", "-aG", "pool", "somebody")
    for command in (listing, own):
        assert [row["worker_id"] for row in json.loads(machine.run(*command))["workers"]] == ["w"]

    machine.spawn("python", "p")
    if ENGINE:
        folder = pathlib.Path(ENGINE).resolve().parent
        # where its loader is: for the tests' copy somewhere below root's home
        machine.run("sh", "-c", 'd=$1; while [ "$d" != / ]; do chmod a+x "$d"; d=$(dirname "$d"); done', "sh", str(folder))
        machine.run("ln", "-s", str(pathlib.Path(ENGINE).resolve()), "/usr/local/bin/llama-server")
        machine.spawn("cpu", "e")
        port = machine.workers()["e"]["port"]
        said = machine.run("curl", "-s", "-d", '{"prompt":"hello","n_predict":2}', f"http://127.0.0.1:{port}/completion")
        assert json.loads(said)["tokens_predicted"] == 2
    machine.run("systemctl", "restart", "pool-managerd.service")
    check("with others")
    for worker_id in machine.workers():
        machine.run("rbees-pool", "worker", "stop", worker_id)
    assert machine.workers() == {}
    for entry in machine.journal():
        assert "Denied" not in entry.get("MESSAGE", ""), entry


def test_a_configuration_with_a_fault_is_not_tried_again(machine):
    machine.run("sh", "-c", "echo nonsense = 1 >>/etc/pool-core/pool.toml")
    assert machine.run("systemctl", "start", "pool-managerd.service", is_fine=False).returncode != 0
    assert machine.show("ActiveState") == "failed" and machine.show("NRestarts") == "0"
    assert machine.journal("POOL_EVENT=config.error")
