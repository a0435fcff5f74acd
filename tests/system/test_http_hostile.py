"""Hostile clients against the running daemon: what its routes make of bytes that the tests of the HTTP server let through, over
TCP and the Unix socket. The list of ambiguous requests is in tests/unit/managerd/test_http_hostile.c.
"""
import json
import os
import random
import re
import socket
import threading

import pytest
from pool_host import Host, wait_until
from test_daemon import Daemon, UnixConnection

SOAK = bool(os.environ.get("POOL_SOAK"))
N_STREAMS = 10_000 if SOAK else 1000
N_CONNECTIONS = 1024  # the server's limit
# What the daemon or its HTTP library may say to bytes that mean nothing. Never 500.
STATUSES = {100, 200, 202, 304, 400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 431, 501, 502, 503, 504, 505, 507}


@pytest.fixture
def daemon(tmp_path, ports):
    made = Daemon(Host(tmp_path, ports))
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()
    made.host.stop_everything()


def port_of(daemon):
    return int(re.findall(r"\(port (\d+)\)", daemon.log.read_text())[-1])


def connect(daemon, is_unix=False):
    if is_unix:
        connection = UnixConnection(daemon.socket)
        connection.connect()
        made = connection.sock
    else:
        made = socket.create_connection(("127.0.0.1", port_of(daemon)))
    made.settimeout(60)
    return made


def read_all(connection):
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def say(daemon, data, is_unix=False):
    """Everything that comes back until the daemon closes."""
    with connect(daemon, is_unix) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has closed already; what it said is still there
        return read_all(connection)


def request(method, path, body=b"", *fields):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


# One for each route, none of which starts a worker.
PATTERNS = [
    request("GET", path) for path in (
        "/health", "/metrics", "/v2/state", "/v2/gpus", "/v2/gpus/0", "/v2/models", "/v2/models/tiny", "/v2/workers?all=1",
        "/v2/workers/w", "/v2/workers/w/logs?tail=5", "/v2/workers/w/logs?follow=1", "/v2/events", "/v2/openapi.json",
        "/v2/explain/x")
] + [
    request("GET", "/v2/events", b"", "Last-Event-ID: abc-1"),
    request("GET", "/v2/state", b"", 'If-None-Match: "a-1"'),
    request("POST", "/v2/workers/start", b'{"backend": "none", "model_ref": "tiny", "env": {"A": "b"}, "wait": true}'),
    request("POST", "/v2/workers/check", b'{"backend": "fake", "model_ref": "hf:a/b::file=c", "extra_args": ["x"]}'),
    request("POST", "/v2/workers/stop", b'{"worker_id": "w", "grace_ms": 5, "force": false}'),
    request("POST", "/v2/workers/w/drain", b'{"timeout_ms": 5}'),
    request("PUT", "/v2/gpus/0/cordon"), request("DELETE", "/v2/gpus/0/cordon"),
    request("POST", "/v2/models/tiny/verify"), request("PUT", "/v2/models/tiny/stage"),
    request("POST", "/v2/internal/workers/ready", b'{"worker_id": "w", "token": "t"}'),
]
PIECES = [b"\r\n", b"\n", b"\0", b"%00", b"%2e%2e%2f", b"../", b'"', b"\\u0000", b"\\ud800", b"\xff\xfe", b"\xc0\xaf", b"[" * 50,
          b"9" * 40, b"-1", b"1e999", b"null", b"{}", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n",
          b"Host: evil\r\n", b"Origin: http://evil\r\n", b"A" * 3000, "é€".encode()]


def make_stream(chance):
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(1, 600))
    data = bytearray(b"".join(chance.choices(PATTERNS, k=chance.choice((1, 1, 2, 3)))))
    for _ in range(chance.randrange(5)):
        at = chance.randrange(len(data))
        how = chance.randrange(4)
        if how == 0:
            data[at] = chance.randrange(256)
        elif how == 1:
            data[at:at] = chance.choice(PIECES)
        elif how == 2:
            del data[at:at + chance.randrange(1, 12)]
        else:
            data[at] ^= 1 << chance.randrange(8)
        data = data or bytearray(b"\n")
    return bytes(data)


def test_streams_of_chance(daemon):
    chance = random.Random(20240607)
    for i in range(N_STREAMS):
        stream = make_stream(chance)
        said = say(daemon, stream, is_unix=i % 2 == 1)
        assert daemon.process.poll() is None, (stream, daemon.log.read_text())
        assert said == b"" or said.startswith(b"HTTP/1."), (stream, said)
        statuses = {int(s) for s in re.findall(rb"(?:^|\r\n\r\n|\n|\})HTTP/1\.[01] (\d{3}) ", said)}
        assert statuses <= STATUSES, (stream, said)
    assert daemon.get("/health")[0] == 200
    assert daemon.host.processes() == {}
    assert "Sanitizer" not in daemon.log.read_text()


@pytest.mark.parametrize("body, code", [
    (b"\xff\xfe{}", 400), (b'{"backend": "\xc0\x80"}', 400), (b'{"backend": "\xed\xa0\x80"}', 400),
    (b'{"backend": "a\\u0000b", "model_ref": "x"}', 400), (b"[" * 100_000, 400), (b'{"a":' * 100_000, 400),
    (b'{"backend": "fake", "backend": "fake", "model_ref": "x"}', 400), (b'{"backend": "' + b"x" * 900_000 + b'"}', 400),
    (b'{"port": 1e400}', 400), (b'{"port": 99999999999999999999}', 400), (b"x" * (1 << 20), 400), (b"x" * ((1 << 20) + 1), 413),
    (b"", 400), (b"null", 400), (b"{}x", 400),
], ids=range(15))
def test_bodies_that_are_no_request(daemon, body, code):
    for path in ("/v2/workers/start", "/v2/workers/check", "/v2/workers/stop"):
        status, answer, _ = daemon.ask("POST", path, body)
        assert status == code and answer["error"]["code"] in ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE"), (path, answer)
    assert daemon.host.processes() == {}


def test_a_page_of_another_origin_gets_nothing(daemon):
    """What a browser sends for fetch(), a form, an <img>, an EventSource, and after a name was rebound."""
    origin = "Origin: http://evil.example"
    start = b'{"backend": "fake", "model_ref": "file:%s"}' % str(daemon.host.model).encode()
    attempts = [
        request("GET", "/v2/state", b"", origin), request("GET", "/metrics", b"", origin), request("GET", "/v2/events", b"", origin),
        request("GET", "/v2/state", b"", "Origin: null"), request("GET", "/health", b"", origin),
        request("OPTIONS", "/v2/workers/start", b"", origin, "Access-Control-Request-Method: POST",
                "Access-Control-Request-Headers: content-type"),
        request("POST", "/v2/workers/start", start, origin),
        request("POST", "/v2/workers/start", start).replace(b"application/json", b"text/plain"),
        request("POST", "/v2/workers/start", start).replace(b"application/json", b"application/x-www-form-urlencoded"),
        request("POST", "/v2/workers/start", start).replace(b"application/json", b"multipart/form-data; boundary=x"),
        request("GET", "/v2/state").replace(b"localhost", b"evil.example:%d" % port_of(daemon)),
        request("POST", "/v2/workers/start", start).replace(b"localhost", b"evil.example"),
    ]
    for attempt in attempts:
        said = say(daemon, attempt)
        assert re.match(rb"HTTP/1\.1 4(03|15|05) ", said), (attempt, said)
        assert b"access-control-allow" not in said.lower()
        assert b"pool_id" not in said and b"pool_mgr" not in said
    assert daemon.host.processes() == {}


def test_what_is_behind_a_broken_request_is_not_done(daemon):
    start = request("POST", "/v2/workers/start",
                    b'{"backend": "fake", "model_ref": "file:%s"}' % str(daemon.host.model).encode())
    head = b"POST /v2/workers/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for broken in (
            head + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            head + b"Content-Length: 0\r\nContent-Length: 300\r\n\r\n",
            head + b"Content-Length: 0 \r\n\r\n", head + b"Content-Length: +0\r\n\r\n", head + b"Content-Length: 0,0\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", head + b"Transfer-Encoding: chunked\n\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", head + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n0;\n\r\n\r\n", head + b"X: a\r\n folded\r\n\r\n", head + b" X: a\r\n\r\n",
            head + b"Host: localhost\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n", b"GET /health\r\n\r\n",
            b"GET /health HTTP/1.1\nHost: localhost\n\n", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n"):
        said = say(daemon, broken + start)
        assert b'"worker_id"' not in said, (broken, said)
    assert daemon.host.processes() == {} and daemon.get("/v2/workers?all=1")[1] == {"workers": []}


def test_too_many_connections_and_slow_readers(daemon):
    """Every place is taken, a tenth by readers of events that do not read: those within are served, the others told so."""
    daemon.begin("w", wait=True)
    taken = [connect(daemon) for _ in range(N_CONNECTIONS)]
    try:
        slow = taken[::10]
        for connection in slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request("GET", "/v2/events"))
            assert connection.recv(1) == b"H"
        for connection in taken[1::100]:
            connection.sendall(request("GET", "/health"))
            assert connection.recv(64).startswith(b"HTTP/1.1 200 ")
        # One more, from another path into the daemon: refused with the code, and told when to come back.
        for is_unix in (False, True):
            said = say(daemon, request("GET", "/health"), is_unix)
            assert said.startswith(b"HTTP/1.1 503 ") and b'"OVERLOADED"' in said and b"\r\nRetry-After: " in said
    finally:
        for connection in taken:
            connection.close()
    wait_until(lambda: daemon.get("/health")[0] == 200, 60, "a free place")
    assert daemon.worker("w")["status"] == "ready"


def test_clients_that_leave_while_they_wait(daemon):
    """They cost nothing: the starts go on, and their places are free again."""
    body = {"backend": "fake", "model_ref": f"file:{daemon.host.model}", "wait": True, "extra_args": ["--never-ready"]}
    waiting = []
    for i in range(8):
        connection = UnixConnection(daemon.socket)
        threading.Thread(target=connection.request, args=(
            "POST", "/v2/workers/start", json.dumps({**body, "worker_id": f"w{i}"}),
            {"Content-Type": "application/json"})).start()
        waiting.append(connection)
    wait_until(lambda: len(daemon.get("/v2/workers")[1]["workers"]) == 8, 60, "the starts")

    def n_connections():
        return int(re.search(rb"pool_mgr_http_connections (\d+)", daemon.get("/metrics")[1])[1])

    wait_until(lambda: n_connections() == 9, 60, "nothing but those who wait")
    for connection in waiting:
        connection.close()
    wait_until(lambda: n_connections() == 1, 60, "the end of their connections")
    assert {w["status"] for w in daemon.get("/v2/workers")[1]["workers"]} == {"spawning"}
    for i in range(8):
        assert daemon.stop(f"w{i}", force=True)[0] == 200
    assert daemon.host.processes() == {}
