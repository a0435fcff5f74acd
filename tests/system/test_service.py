"""pool-managerd under a service manager: this test is the manager. It listens on the notification socket, opens sockets and
hands them over, and looks at what the daemon's children are left with.
"""
import json
import os
import pathlib
import signal
import socket
import subprocess

import pytest
from pool_host import BUILD, Host, wait_until
from test_daemon import Daemon

PROGRAM = BUILD / "bin" / "pool-managerd"


class Service(Daemon):
    """Started by a shell that gives it its own pid and the sockets at 3 and up, as systemd does."""

    def __init__(self, host):
        super().__init__(host)
        self.variables = {}
        self.sockets = []

    def launch(self, *arguments, pid="$$"):
        variables = dict(self.variables)
        if self.sockets:
            variables["LISTEN_FDS"] = str(len(self.sockets))
            variables["LISTEN_FDNAMES"] = ":".join("x" for _ in self.sockets)
        # high numbers, so that none of them is in the way of what it is to become
        high = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(self.sockets)]
        redirections = " ".join(f"{i + 3}<&{fd} {fd}<&-" for i, fd in enumerate(high))
        script = f'LISTEN_PID={pid} WATCHDOG_PID=${{WATCHDOG_PID-$$}} exec "$@" {redirections}'
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", script, "bash", PROGRAM, "--config", self.host.config, *arguments],
                env={**self.host.environment, **variables}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=high)
        for fd in high:
            os.close(fd)
        return self.process


@pytest.fixture
def service(tmp_path, ports):
    made = Service(Host(tmp_path, ports))
    yield made
    if made.process and made.process.poll() is None:
        made.kill()
    made.host.stop_everything()
    for opened in made.sockets:
        opened.close()


class Notifications:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(60)
        self.seen = []

    def wait_for(self, line):
        """Returns the message that has it."""
        while True:
            message = self.socket.recv(4096).decode().split("\n")
            self.seen += message
            if line in message:
                return message


@pytest.fixture(params=["path", "abstract"])
def notifications(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@pool-test-{os.getpid()}-{tmp_path.name}"
    made = Notifications(address)
    made.address = address
    yield made
    made.socket.close()


def variables_of(pid):
    return pathlib.Path("/proc", str(pid), "environ").read_text(errors="replace").split("\0")


def children_of(pid):
    return [int(p) for task in pathlib.Path("/proc", str(pid), "task").iterdir()
            for p in (task / "children").read_text().split()]


def test_a_life_as_it_is_told(service, notifications):
    service.variables = {"NOTIFY_SOCKET": notifications.address, "WATCHDOG_USEC": "200000"}
    service.launch()
    ready = notifications.wait_for("READY=1")
    assert "STATUS=0 workers" in ready
    assert service.get("/health")[0] == 200  # at once: ready is not said before it is true
    for _ in range(3):
        notifications.wait_for("WATCHDOG=1")
    assert service.begin("w", wait=True)[0] == 200
    notifications.wait_for("STATUS=1 workers")
    # nobody below hears of what was meant for the daemon
    below = [*service.host.processes(), *children_of(service.process.pid)]
    assert len(below) >= 2
    for pid in below:
        names = {variable.split("=")[0] for variable in variables_of(pid)}
        assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
    service.process.send_signal(signal.SIGHUP)
    reloading = notifications.wait_for("RELOADING=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in reloading)
    notifications.wait_for("READY=1")
    service.process.send_signal(signal.SIGTERM)
    notifications.wait_for("STOPPING=1")
    assert service.process.wait(timeout=60) == 0


def test_a_loop_that_stands_still_gives_no_sign_of_life(service, notifications):
    """It is stopped as a whole, which stops its loop; what was sent before is read away first."""
    service.variables = {"NOTIFY_SOCKET": notifications.address, "WATCHDOG_USEC": "100000"}
    service.launch()
    notifications.wait_for("WATCHDOG=1")
    service.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, service.process.pid, os.WSTOPPED)
    notifications.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            notifications.socket.recv(4096)
    notifications.socket.settimeout(1)  # twenty times the interval
    with pytest.raises(TimeoutError):
        notifications.socket.recv(4096)
    service.process.send_signal(signal.SIGCONT)
    notifications.socket.settimeout(60)
    notifications.wait_for("WATCHDOG=1")


def test_a_watchdog_of_somebody_else(service, notifications):
    service.variables = {"NOTIFY_SOCKET": notifications.address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    service.launch()
    notifications.wait_for("READY=1")
    for _ in range(20):
        assert service.get("/health")[0] == 200
    service.process.send_signal(signal.SIGTERM)
    notifications.wait_for("STOPPING=1")
    assert "WATCHDOG=1" not in notifications.seen


def test_a_manager_that_is_gone_or_none(service, tmp_path):
    """Nobody listens there: the daemon lives all the same. What cannot be a socket is refused."""
    service.variables = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "10000"}
    service.launch()
    wait_until(service.is_answering, 60, "the daemon")
    assert service.kill(signal.SIGTERM) == 0
    for wrong in ("relative", "@", "/" + "x" * 108):
        service.variables = {"NOTIFY_SOCKET": wrong}
        assert service.launch().wait(timeout=60) == 2, wrong


def opened(address, family=socket.AF_INET, kind=socket.SOCK_STREAM, is_listening=True):
    made = socket.socket(family, kind)
    made.bind(address)
    if is_listening:
        made.listen()
    return made


def status_of(connection):
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return int(connection.makefile("rb").readline().split()[1])


def test_sockets_that_are_handed_over(service, tmp_path):
    """They take the place of the configured ones, survive the daemon, and keep who comes while there is none."""
    path = tmp_path / "handed-over.sock"
    taken = opened(("127.0.0.1", 0))  # the configured address, which is not to be had
    service.host.config.write_text(service.host.config.read_text().replace(
        'bind = "127.0.0.1:0"', f'bind = "127.0.0.1:{taken.getsockname()[1]}"'))
    service.sockets = [opened(("127.0.0.1", 0)), opened(str(path), socket.AF_UNIX), opened(("::1", 0), socket.AF_INET6)]
    places = [(s.family, s.getsockname()[:2] if s.family != socket.AF_UNIX else str(path)) for s in service.sockets]

    def connected(place):
        made = socket.socket(place[0])
        made.settimeout(60)
        made.connect(place[1])
        return made

    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
        waiting = [connected(place) for place in places]  # nobody is there yet
        service.launch()
        for connection in waiting:
            with connection:
                assert status_of(connection) == 200
        assert not pathlib.Path(service.socket).exists()  # the configured one was not made
        service.kill(how)
        assert path.exists()
    # by the handed over Unix socket the daemon's user is admin
    service.launch()
    service.socket = str(path)
    status, answer, _ = service.begin("w", "--say", "x", wait=True)
    assert (status, answer["status"]) == (200, "ready"), answer
    for pid in service.host.processes():
        inside = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        inodes = {f"socket:[{os.fstat(s.fileno()).st_ino}]" for s in service.sockets}
        assert not inodes & set(inside)
    taken.close()


def test_handed_over_to_somebody_else(service):
    """Another's pid: the descriptors are not looked at, the configured sockets are used."""
    service.sockets = [opened(("127.0.0.1", 0))]
    service.launch(pid="1")
    wait_until(service.is_answering, 60, "the daemon")


def test_sockets_that_are_none(service, tmp_path):
    wrong = [opened(("127.0.0.1", 0), kind=socket.SOCK_DGRAM, is_listening=False),
             opened(("127.0.0.1", 0), is_listening=False), opened(str(tmp_path / "d"), socket.AF_UNIX, socket.SOCK_DGRAM, False)]
    for one in wrong:
        service.sockets = [one]
        assert service.launch().wait(timeout=60) == 2
        one.close()
    service.sockets = []
    for n in ("17", "-1", "x", "1"):  # nothing is open at 3
        service.variables = {"LISTEN_FDS": n}
        assert service.launch().wait(timeout=60) == 2, n


def test_a_reachable_socket_needs_tokens(service, tmp_path):
    service.sockets = [opened(("0.0.0.0", 0))]
    assert service.launch().wait(timeout=60) == 2
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"read r {'ab' * 32}\n")
    service.variables = {"POOL_DAEMON_TOKEN_FILE": str(tokens)}
    service.launch()
    with socket.create_connection(("127.0.0.1", service.sockets[0].getsockname()[1]), timeout=60) as connection:
        assert status_of(connection) == 200
    assert json.loads(service.log.read_text().splitlines()[-1])["level"] != "error"


def test_check(service, tmp_path):
    """Says what is wrong with configuration and tokens; starts nothing, opens nothing."""
    def check(*arguments):
        return subprocess.run([PROGRAM, "--config", service.host.config, "--check", *arguments], capture_output=True,
                              env=service.host.environment, timeout=60).returncode

    assert check() == 0 and check("--bind", "127.0.0.1:1") == 0
    assert not service.host.state_dir.exists() and not pathlib.Path(service.socket).exists()
    assert check("--bind", "0.0.0.0:1") == check("--log-level", "loud") == check("--nonsense") == check("--bind") == 2
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    service.host.environment["POOL_DAEMON_TOKEN_FILE"] = str(tokens)
    assert check() == 2
    tokens.write_text(f"admin a {'ab' * 32}\n")
    assert check() == check("--bind", "0.0.0.0:1") == 0
