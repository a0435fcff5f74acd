"""rbees-pool events: what is told, in order, across daemons that come and go, and what is not a daemon."""
import json
import queue
import signal
import socketserver
import subprocess
import threading

import pytest
from test_cli_daemon import Daemon

DEADLINE_S = 60


@pytest.fixture
def daemon(host):
    made = Daemon(host).start()
    yield made
    made.end()


class Following:
    """`rbees-pool events` while it runs; lines come out of it as they are printed."""

    def __init__(self, host, *arguments):
        self.process = subprocess.Popen(host.command("events", *arguments), env=host.environment,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.notices = queue.Queue(), queue.Queue()
        for pipe, to in ((self.process.stdout, self.lines), (self.process.stderr, self.notices)):
            threading.Thread(target=lambda pipe=pipe, to=to: [to.put(line) for line in pipe], daemon=True).start()

    def next(self):
        return json.loads(self.lines.get(timeout=DEADLINE_S))

    def until(self, event_type, worker_id):
        """All up to and with this one."""
        seen = []
        while not seen or (seen[-1]["type"], seen[-1]["data"].get("worker_id")) != (event_type, worker_id):
            seen.append(self.next())
        return seen

    def end(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=DEADLINE_S)


def is_told(following, host, worker_id):
    """Starts workers until one is told: only then it is certain that the following has begun."""
    for n in range(100):
        name = f"{worker_id}-{n}"
        assert host.spawn(name, "--wait").returncode == 0
        assert host.run("worker", "stop", name, "--force").returncode == 0
        try:
            first = json.loads(following.lines.get(timeout=1))
        except queue.Empty:
            continue
        return [first, *following.until("worker.stopped", name)] if first["type"] != "worker.stopped" else [first]
    raise AssertionError("nothing was told")


def test_events_across_daemons(daemon):
    host = daemon.host
    following = Following(host, "--json")
    is_told(following, host, "warm")
    assert host.spawn("one", "--wait").returncode == 0
    seen = following.until("worker.ready", "one")
    last_id = seen[-1]["id"]
    daemon.end()  # killed: the worker lives on
    assert "waiting for it" in following.notices.get(timeout=DEADLINE_S)
    daemon.start()
    assert host.run("worker", "stop", "one").returncode == 0
    after = following.until("worker.stopped", "one")
    assert following.end() == 0
    ids = [event["id"] for event in [*seen, *after] if event["type"] != "reset"]
    assert len(ids) == len(set(ids)), "an event was told twice"
    assert ids[0].rsplit("-", 1)[0] != ids[-1].rsplit("-", 1)[0]  # of two daemons
    assert last_id in ids
    # and all of the second daemon's: from the first one on, without a hole
    epoch = ids[-1].rsplit("-", 1)[0]
    numbers = [int(id_.rsplit("-", 1)[1]) for id_ in ids if id_.startswith(epoch)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_since_type_and_count(daemon):
    host = daemon.host
    for name in ("one", "two"):
        assert host.spawn(name, "--wait").returncode == 0
    epoch = host.json("status")["generation"].rsplit("-", 1)[0]
    done = host.run("events", "--json", "--since", f"{epoch}-0", "--type", "worker.ready", "--count", "2")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["type"], event["data"]["worker_id"]) for event in events] == [("worker.ready", "one"), ("worker.ready", "two")]
    done = host.run("events", "--since", f"{epoch}-0", "--type", "worker", "-n", "1")
    assert done.returncode == 0 and "worker." in done.stdout and "one" in done.stdout
    done = host.run("events", "--since", "another-epoch-7", "--type", "worker.ready", "-n", "2")
    assert done.returncode == 0 and done.stdout.count("worker.ready") == 2


def test_without_a_daemon(host):
    assert host.refusal("events")["code"] == "REGISTRY_UNAVAILABLE"
    assert host.refusal("events", "--url", f"unix:{host.directory}/none.sock")["code"] == "REGISTRY_UNAVAILABLE"
    assert host.refusal("events", "--since", "x" * 200)["details"]["field"] == "since"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " + b"x" * (5 << 20),
                                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"nonsense\r\n\r\n"],
                         ids=["endless", "404", "nonsense"])
def test_what_is_no_daemon(host, answer):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            try:
                self.wfile.write(answer)
            except OSError:
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert host.refusal("events", "--url", f"http://127.0.0.1:{server.server_address[1]}")["code"] == "REGISTRY_UNAVAILABLE"
        server.shutdown()


def test_hostile_events(host):
    """What an event holds never drives the terminal."""
    body = b"event: worker.\x1b[31m\ndata: {\"x\": \"\x1b]0;evil\x07\"}\n\nevent: other\ndata: plain \x1b[2J\n\n"

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for json_flag in ([], ["--json"]):
            done = host.run("events", "-n", "2", *json_flag, "--url", f"http://127.0.0.1:{server.server_address[1]}")
            assert done.returncode == 0 and len(done.stdout.splitlines()) == 2 and "\x1b" not in done.stdout, done.stderr
        server.shutdown()


