"""rbees-pool with a daemon: the same commands, the same output and exit statuses as without one, whatever becomes of the
daemon between and during them. Workers are the fake one; what really runs is read from /proc.
"""
import json
import os
import re
import signal
import socket
import subprocess
import threading

import pytest
from pool_host import BUILD, EXIT_STATUS, FAKE_WORKER, PATIENCE_S, is_listening, is_running, ran, wait_until

PROGRAM = BUILD / "bin" / "pool-managerd"


class Daemon:
    """pool-managerd on the state directory of a host, at its default socket and a port that the kernel chooses."""

    def __init__(self, host):
        self.host = host
        self.socket = host.state_dir / "daemon.sock"
        self.log = host.directory / "daemon.log"
        self.process = None
        with open(host.config, "a", encoding="utf-8") as config:
            config.write('[daemon]\nbind = "127.0.0.1:0"\n')

    def begin(self, **environment):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([PROGRAM, "--config", self.host.config],
                                            env={**self.host.environment, **environment},
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self, **environment):
        """Returns when it answers."""
        self.begin(**environment)
        wait_until(self.is_answering, what=f"the daemon ({self.log.read_text()})")
        return self

    def is_answering(self):
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def end(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE_S)

    @property
    def port(self):
        told = lambda: re.findall(r"\(port (\d+)\)", self.log.read_text())
        wait_until(told, what="its port in the log")  # which it writes after it answers
        return int(told()[-1])


@pytest.fixture
def daemon(host):
    made = Daemon(host).start()
    yield made
    made.end()


def shape(value):
    """The names and kinds in a document: what a script relies on."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def outline(text):
    """A text for people without what changes from moment to moment."""
    return re.sub(r"[█▒▓░#=.\-]{5,}|[0-9a-f]{8}-[0-9a-f-]{27}|\d[\d.,:TZ-]*( ?([KMGT]i)?B)?|\s+", " ", text).split()


def both(daemon, *arguments):
    """What a command does with a daemon, and then without; the daemon runs again afterwards."""
    asked = daemon.host.run(*arguments)
    assert daemon.end() == -signal.SIGKILL
    alone = daemon.host.run(*arguments)
    daemon.start()
    return asked, alone


def spawn_arguments(host, worker_id, *arguments):
    return ("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", worker_id, *arguments)


@pytest.mark.parametrize("command", [
    ("worker", "list"), ("worker", "list", "--all"), ("worker", "show", "one"), ("worker", "show", "gone"),
    ("worker", "logs", "one"), ("worker", "logs", "gone", "--tail", "1"), ("worker", "wait", "one"), ("status",),
    ("explain", "one"), ("explain", "gone"),
    ("gpu", "list"), ("models", "list"), ("config", "show"),
    ("worker", "spawn", "fake", "--model", "MODEL", "--id", "new", "--label", "a=b", "--dry-run", "--", "--verbose"),
])
def test_output_is_the_same_with_and_without_a_daemon(daemon, command):
    host = daemon.host
    command = [f"file:{host.model}" if word == "MODEL" else word for word in command]
    assert host.spawn("one", "--wait", "--label", "team=x").returncode == 0
    assert host.spawn("gone", "--wait").returncode == 0
    assert host.run("worker", "stop", "gone").returncode == 0
    asked, alone = both(daemon, *command)
    assert asked.returncode == alone.returncode == 0, asked.stderr + alone.stderr
    assert outline(asked.stdout) == outline(alone.stdout)
    assert asked.stderr == alone.stderr
    asked, alone = both(daemon, "--json", *command)
    assert shape(json.loads(asked.stdout)) == shape(json.loads(alone.stdout))


@pytest.mark.parametrize("command, code", [
    (("worker", "show", "nobody"), "WORKER_NOT_FOUND"),
    (("worker", "show", "a/../b"), "INVALID_REQUEST"),
    (("worker", "stop", "nobody"), "WORKER_NOT_FOUND"),
    (("worker", "stop", "gone"), "CONFLICT"),
    (("worker", "logs", "nobody"), "WORKER_NOT_FOUND"),
    (("worker", "wait", "nobody"), "WORKER_NOT_FOUND"), (("explain", "nobody"), "NOT_FOUND"),
    (("explain", "a/../b"), "INVALID_REQUEST"),
    (("worker", "wait", "gone"), "WORKER_START_FAILED"),
    (("worker", "spawn", "none", "--model", "MODEL"), "BACKEND_NOT_FOUND"),
    (("worker", "spawn", "fake", "--model", "nothing"), "MODEL_NOT_FOUND"),
    (("worker", "spawn", "fake", "--model", "MODEL", "--id", "one"), "ALREADY_EXISTS"),
    (("worker", "spawn", "fake", "--model", "MODEL", "--vram", "999TiB"), "INSUFFICIENT_MEMORY"),
    (("worker", "spawn", "fake", "--model", "MODEL", "--vram", "999TiB", "--dry-run"), "INSUFFICIENT_MEMORY"),
    (("worker", "spawn", "fake", "--model", "MODEL", "--id", "bad id"), "INVALID_REQUEST"),
])
def test_refusals_are_the_same_with_and_without_a_daemon(daemon, command, code):
    host = daemon.host
    command = [f"file:{host.model}" if word == "MODEL" else word for word in command]
    assert host.spawn("one", "--wait").returncode == 0
    assert host.spawn("gone", "--wait").returncode == 0
    assert host.run("worker", "stop", "gone").returncode == 0
    asked, alone = both(daemon, "--json", *command)
    asked_error, alone_error = json.loads(asked.stdout)["error"], json.loads(alone.stdout)["error"]
    assert asked_error["code"] == alone_error["code"] == code
    assert asked.returncode == alone.returncode == EXIT_STATUS[code]
    assert asked_error["retriable"] == alone_error["retriable"]
    assert shape(asked_error["details"]) == shape(alone_error["details"])


@pytest.mark.parametrize("arguments, code", [
    (("--", "--never-ready", "--crash-after-ms", "50", "--exit-code", "7"), "WORKER_START_FAILED"),
    (("--start-timeout", "300", "--", "--never-ready"), "WORKER_START_TIMEOUT"),
])
def test_a_start_that_fails_tells_the_same(daemon, arguments, code):
    host = daemon.host
    asked = host.spawn_refusal("with", "--wait", *arguments)
    daemon.end()
    alone = host.spawn_refusal("without", "--wait", *arguments)
    assert asked["code"] == alone["code"] == code
    asked["details"].pop("exit_signal", None)  # a daemon also says by what it ended what took too long
    assert shape(asked["details"]) == shape(alone["details"])
    assert asked["correlation_id"] and "correlation_id" not in alone
    assert host.processes() == {} and host.rows() == []


def test_waiting_for_a_start_that_somebody_else_began(daemon):
    host = daemon.host
    assert host.spawn("late", "--", "--ready-after-ms", "300").returncode == 0
    assert host.json("worker", "wait", "late")["status"] == "ready"
    assert host.spawn("bad", "--", "--never-ready", "--crash-when", host.gate("crash"), "--exit-code", "7").returncode == 0
    waiting = host.start("--json", "worker", "wait", "bad")
    wait_until(lambda: blocks_interrupts(waiting.pid), what="the wait")
    host.open_gate("crash")
    error = json.loads(waiting.communicate(timeout=PATIENCE_S)[0])["error"]
    assert waiting.returncode == EXIT_STATUS["WORKER_START_FAILED"]
    assert error["code"] == "WORKER_START_FAILED" and error["details"]["exit_code"] == 7
    assert error["details"]["log_tail"]


@pytest.mark.parametrize("command", ["spawn", "wait"])
def test_an_interrupted_wait_leaves_the_worker(daemon, command):
    host = daemon.host
    words = spawn_arguments(host, "slow", "--wait", "--", "--ready-when", str(host.gate("ready")))
    if command == "wait":
        assert host.run(*[word for word in words if word != "--wait"]).returncode == 0
        words = ("worker", "wait", "slow")
    waiting = host.start(*words, "--json") if command == "wait" else host.start("--json", *words)
    wait_until(lambda: "slow" in host.processes().values(), what="the worker")
    wait_until(lambda: blocks_interrupts(waiting.pid), what="the wait")
    waiting.send_signal(signal.SIGINT)
    out, _ = waiting.communicate(timeout=PATIENCE_S)
    error = json.loads(out)["error"]
    assert waiting.returncode == 130 and error["code"] == "CANCELLED" and "slow" in error["message"]
    host.open_gate("ready")
    assert host.json("worker", "wait", "slow")["status"] == "ready"
    assert host.run("worker", "stop", "slow").returncode == 0 and host.processes() == {}


def blocks_interrupts(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)", status.read(), re.M)
    return bool(int(blocked[1], 16) & 1 << (signal.SIGINT - 1))


def test_stops(daemon):
    host = daemon.host
    for worker_id in ("a", "b", "c"):
        assert host.spawn(worker_id, "--wait", "--", "--ignore-sigterm").returncode == 0
    assert host.json("worker", "stop", "a", "--force")["exit_signal_name"] == "SIGKILL"
    assert host.json("worker", "stop", "b", "--grace", "100")["stop_reason"] == "requested"
    row = host.json("worker", "stop", "c", "--no-wait", "--grace", "200")
    assert row["status"] == "stopping"
    wait_until(lambda: host.rows() == [], what="the end of c")  # the daemon kills what nobody waits for
    assert host.processes() == {}
    assert {row["stop_reason"] for row in host.all_rows().values()} == {"requested"}


@pytest.mark.parametrize("address", ["unix", "http"])
def test_a_daemon_that_is_named(daemon, address):
    """Its paths are not taken for ours: logs come over the API."""
    host = daemon.host
    url = f"unix:{daemon.socket}" if address == "unix" else f"http://127.0.0.1:{daemon.port}/"
    elsewhere = {"POOL_URL": url, "POOL_STATE_DIR": str(host.directory / "elsewhere")}
    ask = lambda *words: host.run(*words, environment=elsewhere)
    host.config.write_text(re.sub(r"(?m)^state_dir = .*\n", "", host.config.read_text()))
    done = ask(*spawn_arguments(host, "w", "--wait"))
    assert done.returncode == 0, done.stderr
    assert ask("worker", "logs", "w").stdout == host.log("w").read_text()
    assert ask("worker", "logs", "w", "--tail", "1").stdout == host.log("w").read_text().splitlines(True)[-1]
    assert json.loads(ask("worker", "logs", "w", "--json").stdout)["lines"] == host.log("w").read_text().splitlines()
    assert url in ask("status").stdout
    assert json.loads(ask("worker", "list", "--url", url, "--json").stdout)["workers"][0]["worker_id"] == "w"
    followed = subprocess.Popen(host.command("worker", "logs", "w", "-f", "--tail", "0"),
                                env={**host.environment, **elsewhere}, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: blocks_interrupts(followed.pid), what="following")
    log = host.log("w").read_text()
    assert ask("worker", "stop", "w").returncode == 0
    out, _ = followed.communicate(timeout=PATIENCE_S)
    assert followed.returncode == 0 and log + out == host.log("w").read_text()
    assert not (host.directory / "elsewhere").exists()


def test_following_a_log_while_daemons_come_and_go(daemon):
    host = daemon.host
    assert host.spawn("w", "--wait").returncode == 0
    followed = host.start("worker", "logs", "w", "--follow")
    wait_until(lambda: blocks_interrupts(followed.pid), what="following")
    daemon.end()
    daemon.start()  # who reads a log keeps no daemon from starting
    daemon.end(signal.SIGTERM)
    assert host.run("worker", "stop", "w").returncode == 0
    out, errors = followed.communicate(timeout=PATIENCE_S)
    assert followed.returncode == 0, errors
    assert out == host.log("w").read_text()


def test_nothing_is_lost_when_the_daemon_is_killed_between_commands(daemon):
    host = daemon.host
    for n in range(3):
        assert host.spawn(f"w{n}", "--wait").returncode == 0
        daemon.end()
        assert [row["worker_id"] for row in host.rows()] == [f"w{k}" for k in range(n + 1)]
        daemon.start()
        assert [row["worker_id"] for row in host.rows()] == [f"w{k}" for k in range(n + 1)]
    assert sorted(host.processes().values()) == ["w0", "w1", "w2"]
    for n in range(3):
        daemon.end()
        if n % 2:
            daemon.start()
        assert host.json("worker", "stop", f"w{n}")["stop_reason"] == "requested"
    assert host.processes() == {} and host.rows() == []


@pytest.mark.parametrize("arguments", [[], ["--wait"]])
def test_a_start_whose_daemon_died_before_there_was_a_process_is_made_again(host, arguments):
    daemon = Daemon(host).start(LD_PRELOAD=str(BUILD / "support" / "dies-at-spawn.so"),
                                DIES_AT_SPAWN_OF=str(FAKE_WORKER))
    done = host.spawn("w", *arguments)
    assert daemon.process.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    assert done.returncode == 0, done.stderr
    assert list(host.processes().values()) == ["w"]
    first, second = host.json("worker", "list", "--all")["workers"]
    undone = min(first, second, key=lambda row: row["pid"] or 0)
    assert (undone["pid"], undone["status"], undone["stop_reason"]) == (None, "stopped", "start_failed")
    assert host.run("worker", "wait", "w").returncode == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_two_terminals_while_daemons_come_and_go(daemon, how):
    """Every command does what it was asked, once: no worker is lost or doubled, and none is told a lie."""
    host = daemon.host
    problems = []
    is_over = threading.Event()

    def work(name):
        for n in range(8):
            worker_id = f"{name}{n}"
            done = host.spawn(worker_id, *(["--wait"] if n % 2 else []))
            running = list(host.processes().values()).count(worker_id)
            if done.returncode != 0 or running != 1:
                problems.append(("spawn", worker_id, running, done.returncode, done.stderr))
            rows = host.run("worker", "list", "--json")
            if rows.returncode != 0 or worker_id not in [r["worker_id"] for r in json.loads(rows.stdout)["workers"]]:
                problems.append(("list", worker_id, rows.returncode, rows.stdout, rows.stderr))
            done = host.run("worker", "stop", worker_id)
            if done.returncode != 0 or worker_id in host.processes().values():
                problems.append(("stop", worker_id, done.returncode, done.stderr))

    def come_and_go():
        while not is_over.is_set():
            daemon.end(how)
            daemon.start()

    changing = threading.Thread(target=come_and_go)
    terminals = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in (changing, *terminals):
        thread.start()
    for thread in terminals:
        thread.join()
    is_over.set()
    changing.join()
    assert problems == []
    assert host.processes() == {} and host.rows() == []
    ends = {row["worker_id"]: row["stop_reason"] for row in host.all_rows().values()}
    assert ends == {f"{name}{n}": "requested" for name in "ab" for n in range(8)}
    assert len(ran(host.json("worker", "list", "--all")["workers"])) == len(ends)


def test_local_means_local(daemon):
    host = daemon.host
    for command in (("worker", "list"), ("status",), ("worker", "stop", "w")):
        assert host.refusal(*command, "--local")["code"] == "CONFLICT"
    assert host.refusal("worker", "list", "--local", "--url", "http://127.0.0.1:1")["code"] == "INVALID_REQUEST"
    assert host.run("gpu", "list", "--local").returncode == 0
    assert host.refusal("worker", "list", "--local", environment={"POOL_URL": "http://127.0.0.1:1"})["code"] == "CONFLICT"
    daemon.end(signal.SIGTERM)
    assert host.run("worker", "list", "--local").returncode == 0


def test_another_state_directory_is_not_asked_of_this_daemon(daemon, tmp_path):
    host = daemon.host
    assert host.spawn("w", "--wait").returncode == 0
    socket_of_first = {"POOL_DAEMON_SOCKET": str(daemon.socket)}
    done = host.run("worker", "list", "--json", "--state-dir", tmp_path / "other", environment=socket_of_first)
    assert done.returncode == 0 and json.loads(done.stdout) == {"workers": []}


def test_a_socket_that_was_left_behind(daemon):
    host = daemon.host
    assert host.spawn("w", "--wait").returncode == 0
    daemon.end()
    assert daemon.socket.exists()
    assert [row["worker_id"] for row in host.rows()] == ["w"]
    assert host.run("worker", "stop", "w").returncode == 0


def loaded_libraries(host, *arguments):
    done = host.run(*arguments, environment={"LD_DEBUG": "files"})
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_libcurl_is_loaded_for_a_daemon_alone(daemon):
    host = daemon.host
    assert "libcurl" in loaded_libraries(host, "worker", "list")
    for command in (("--version",), ("config", "show"), ("models", "list")):
        assert "libcurl" not in loaded_libraries(host, *command)
    daemon.end()
    for command in (("worker", "list"), ("status",), ("gpu", "list")):
        assert "libcurl" not in loaded_libraries(host, *command)


# ---- what answers is no daemon ----

class Stranger:
    """Listens, says the same to everybody, and keeps the connection or closes it."""

    def __init__(self, text, keeps_open=False):
        self.text, self.keeps_open, self.kept = text, keeps_open, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            try:
                connection.recv(65536)
                connection.sendall(self.text)
            except OSError:
                pass
            if self.keeps_open:
                self.kept.append(connection)
            else:
                connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.kept:
            connection.close()


def answer(status, body):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


@pytest.mark.parametrize("text", [
    b"", b"\0\1\2\3" * 100, b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    answer("200 OK", "<html>"), answer("200 OK", "[]"), answer("200 OK", '{"workers": 3}'),
    answer("404 Not Found", "<html>nothing here</html>"), answer("500 Oh", '{"error": "no"}'),
    answer("302 Found\r\nLocation: file:///etc/passwd", ""),
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
], ids=lambda text: text[:24].decode("latin-1").strip())
@pytest.mark.parametrize("command", ["list", "spawn"])
def test_what_answers_is_no_daemon(host, text, command):
    words = ("worker", "list") if command == "list" else spawn_arguments(host, "w", "--wait")
    with Stranger(text) as stranger:
        error = host.refusal("--url", stranger.url, *words)
    assert error["code"] == "REGISTRY_UNAVAILABLE"
    assert stranger.url in error["message"]
    assert not host.state_dir.exists()


def test_an_answer_without_end(host):
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    with Stranger(head + b" " * (70 << 20)) as stranger:
        error = host.refusal("--url", stranger.url, "worker", "list")
    assert error["code"] == "REGISTRY_UNAVAILABLE" and "bytes" in error["message"]


def test_nobody_answers(host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", f"unix:{host.directory}/none.sock"):
        for words in (("worker", "list"), ("status",), ("gpu", "list"), spawn_arguments(host, "w")):
            error = host.refusal("--url", url, *words)
            assert error["code"] == "REGISTRY_UNAVAILABLE" and url in error["message"]
    assert not host.state_dir.exists()


@pytest.mark.parametrize("url", ["", "x", "https://127.0.0.1:1", "http://", "http://:80", "http://h:0", "http://h:99999",
                                 "http://h:1/path", "http://u:p@h:1", "http://h?x", "unix:", "unix:relative",
                                 "unix:/" + "x" * 200, "http://" + "x" * 2000, "http://[::1", "http://h:1 2"])
def test_addresses_that_are_none(host, url):
    error = host.refusal("worker", "list", "--url", url)
    assert error["code"] == "INVALID_REQUEST" and error["details"]["field"] == "url"


def test_silence_has_an_end(daemon):
    """One that hangs, at its socket and as a stranger; one whose socket is not where it is looked for."""
    host = daemon.host
    moved = {**host.environment, "POOL_DAEMON_SOCKET": str(host.directory / "moved.sock")}
    words = spawn_arguments(host, "w", "--wait")
    with Stranger(b"", keeps_open=True) as stranger:
        elsewhere = subprocess.Popen(host.command("--json", "worker", "list"), env=moved, stdout=subprocess.PIPE)
        slow = host.start("--json", "--url", stranger.url, "worker", "list")
        assert elsewhere.wait(timeout=PATIENCE_S) == EXIT_STATUS["CONFLICT"]
        assert "moved.sock" in json.loads(elsewhere.stdout.read())["error"]["message"]
        daemon.process.send_signal(signal.SIGSTOP)
        hanging = host.start("--json", *words)
        for command in (slow, hanging):
            out, _ = command.communicate(timeout=PATIENCE_S)
            assert json.loads(out)["error"]["code"] == "DEADLINE_EXCEEDED"
            assert command.returncode == EXIT_STATUS["DEADLINE_EXCEEDED"]
    daemon.process.send_signal(signal.SIGCONT)
    assert host.rows() == [] and host.processes() == {}


def test_a_proxy_of_the_environment_is_not_used(daemon):
    with Stranger(answer("200 OK", "{}")) as stranger:
        done = daemon.host.run("worker", "list", "--url", f"http://127.0.0.1:{daemon.port}",
                               environment={"http_proxy": stranger.url, "ALL_PROXY": stranger.url})
    assert done.returncode == 0, done.stderr
