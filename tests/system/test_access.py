"""Who may do what: tokens over TCP, the peer's user over the Unix socket, what each scope may put into a request, pages of
foreign origins, and that no token ever shows anywhere.
"""
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import threading

import pytest
from pool_host import BUILD, ROOT, Host, wait_until
from test_daemon import Daemon

PROGRAM = BUILD / "bin" / "pool-managerd"
NOBODY = 65534
TOKENS = {scope: f"{scope}-{secrets.token_urlsafe(24)}" for scope in ("read", "operate", "admin")}


def token_line(scope, name, token):
    return f"{scope} {name} {hashlib.sha256(token.encode()).hexdigest()}\n"


class GuardedDaemon(Daemon):
    """A daemon with a token of each scope, asked over TCP unless a test says otherwise."""

    def __init__(self, host, port, bind="127.0.0.1"):
        super().__init__(host)
        self.port = port
        self.tokens = host.directory / "tokens"
        self.write_tokens(*(token_line(scope, f"the-{scope}er", token) for scope, token in TOKENS.items()))
        text = host.config.read_text().replace('bind = "127.0.0.1:0"',
                                               f'bind = "{bind}:{port}"\ntoken_file = "{self.tokens}"')
        host.config.write_text(text)
        host.environment["POOL_LOG_LEVEL"] = "debug"

    def write_tokens(self, *lines):
        self.tokens.touch(mode=0o600)
        self.tokens.write_text("# scope name sha256\n" + "".join(lines))

    def tcp(self, method, path, token=None, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = f"Bearer {TOKENS.get(token, token)}"
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(body)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        is_json = answer.getheader("Content-Type", "").startswith("application/json")
        return answer.status, json.loads(data) if is_json and data else data, dict(answer.getheaders())

    def raw(self, *lines):
        """The status of an answer to these lines."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
            return int(connection.makefile("rb").readline().split()[1])

    def tcp_start(self, token, worker_id, **fields):
        return self.tcp("POST", "/v2/workers/start", token,
                        {"backend": "fake", "model_ref": f"file:{self.host.model}", "worker_id": worker_id, **fields})

    def reload(self):
        """Returns when the daemon has told what came of it."""
        told = self.log.read_text().count('"event":"tokens')
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log.read_text().count('"event":"tokens') > told, 60, "the reload")


@pytest.fixture
def guarded(tmp_path, ports):
    host = Host(tmp_path, (ports[0], ports[1] - 1))
    daemon = GuardedDaemon(host, ports[1])
    daemon.start()
    yield daemon
    log = daemon.log.read_text()
    if daemon.process.poll() is None:
        daemon.kill()
    host.stop_everything()
    for token in TOKENS.values():
        assert token not in log


def code(answer):
    return answer[1]["error"]["code"]


# ---- tokens ----


def test_what_each_scope_may_do(guarded):
    """No answer before the token is known, but for the liveness of the daemon."""
    rows = [("GET", "/v2/state", None), ("GET", "/metrics", None), ("GET", "/v2/workers", None),
            ("GET", "/v2/gpus", None), ("GET", "/v2/models", None)]
    change = ("POST", "/v2/workers/stop", {"worker_id": "none"})
    for method, path, body in [*rows, change, ("GET", "/nothing", None), ("PUT", "/v2/state", None)]:
        status, answer, headers = guarded.tcp(method, path, body=body)
        assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED"), path
        assert headers["WWW-Authenticate"] == 'Bearer realm="pool-managerd"'
    assert guarded.tcp("GET", "/health")[0] == guarded.tcp("GET", "/health", "wrong")[0] == 200
    for token in TOKENS:
        for method, path, _ in rows:
            assert guarded.tcp(method, path, token)[0] == 200, (token, path)
        assert guarded.tcp("GET", "/nothing", token)[0] == 404
        assert guarded.tcp("PUT", "/v2/state", token)[0] == 405
    status, answer, headers = guarded.tcp(change[0], change[1], "read", change[2])
    assert (status, answer["error"]["code"]) == (403, "PERMISSION_DENIED")
    assert answer["error"]["details"] == {"required_scope": "operate", "scope": "read"}
    assert 'error="insufficient_scope"' in headers["WWW-Authenticate"]
    for token in ("operate", "admin"):
        assert code(guarded.tcp(change[0], change[1], token, change[2])) == "WORKER_NOT_FOUND"


def test_what_is_no_token(guarded):
    good = TOKENS["admin"]
    for wrong in ("wrong", good[:-1], good + "x", good.swapcase(), hashlib.sha256(good.encode()).hexdigest(), "x" * 5000):
        status, answer, headers = guarded.tcp("GET", "/v2/state", wrong)
        assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED"), wrong
        assert headers["WWW-Authenticate"].endswith('error="invalid_token"')
    for field in ("Bearer", "Bearer ", f"Basic {good}", good, f"Bearer{good}", f"Bearer {good} {good}", f"Token {good}"):
        assert guarded.tcp("GET", "/v2/state", Authorization=field)[0] == 401, field
    for field in (f"bearer {good}", f"BEARER  {good}"):
        assert guarded.tcp("GET", "/v2/state", Authorization=field)[0] == 200, field
    assert guarded.tcp("GET", f"/v2/state?access_token={good}")[0] == 401
    twice = (f"Authorization: Bearer {good}", "Authorization: Bearer wrong")
    assert guarded.raw("GET /v2/state HTTP/1.1", "Host: localhost", *twice) == 400
    assert guarded.raw("GET /v2/state HTTP/1.1", "Host: localhost", *reversed(twice)) == 400


def test_reload(guarded):
    """A token comes, one goes and takes its open streams with it, and a file with a fault changes nothing."""
    late = "late-" + secrets.token_urlsafe(16)
    stream = socket.create_connection(("127.0.0.1", guarded.port), timeout=60)
    stream.sendall(f"GET /v2/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['read']}\r\n\r\n".encode())
    assert stream.recv(15) == b"HTTP/1.1 200 OK"
    other = socket.create_connection(("127.0.0.1", guarded.port), timeout=60)
    other.sendall(f"GET /v2/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['admin']}\r\n\r\n".encode())
    assert other.recv(15) == b"HTTP/1.1 200 OK"
    assert guarded.tcp("GET", "/v2/state", late)[0] == 401
    guarded.write_tokens(token_line("operate", "late", late), token_line("admin", "the-adminer", TOKENS["admin"]))
    guarded.reload()
    assert guarded.tcp("GET", "/v2/state", late)[0] == 200
    assert guarded.tcp("GET", "/v2/state", "read")[0] == 401
    while stream.recv(65536):  # ends
        pass
    stream.close()
    for text in ("", "admin a b\n", token_line("admin", "x", late) * 2):
        guarded.write_tokens(text)
        guarded.reload()
        assert guarded.tcp("GET", "/v2/state", late)[0] == 200
    guarded.write_tokens(token_line("admin", "x", "other"))
    guarded.tokens.chmod(0o640)
    guarded.reload()
    assert guarded.tcp("GET", "/v2/state", late)[0] == 200
    guarded.tokens.unlink()
    guarded.reload()
    assert guarded.tcp("GET", "/v2/state", late)[0] == 200
    # A token that has less than it had is as good as gone for what is open.
    guarded.write_tokens(token_line("read", "the-adminer", TOKENS["admin"]))
    guarded.reload()
    while other.recv(65536):
        pass
    other.close()
    assert guarded.tcp("GET", "/v2/state", "admin")[0] == 200
    assert guarded.tcp("POST", "/v2/workers/stop", "admin", {"worker_id": "w"})[0] == 403
    assert late not in guarded.log.read_text()


def refused_start(host, *arguments):
    done = subprocess.run([PROGRAM, "--config", host.config, *arguments], env=host.environment, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_starts_that_are_refused(tmp_path, ports):
    """A daemon that was to have tokens does not come up without them, and none is open to other hosts without."""
    host = Host(tmp_path, ports)
    Daemon(host)
    for bind in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0"):
        assert "daemon.token_file" in refused_start(host, "--bind", bind)
    daemon = GuardedDaemon(host, 0)
    good = daemon.tokens.read_text()
    for text in ("", "admin a b\n", good + good.splitlines()[1]):
        daemon.tokens.write_text(text)
        refused_start(host)
    daemon.tokens.write_text(good)
    for mode in (0o640, 0o604, 0o660):
        daemon.tokens.chmod(mode)
        refused_start(host)
    daemon.tokens.unlink()
    refused_start(host)
    daemon.tokens.mkdir(mode=0o700)
    refused_start(host)
    daemon.tokens.rmdir()
    os.mkfifo(daemon.tokens, 0o600)
    refused_start(host)
    if os.geteuid() == 0:
        daemon.tokens.unlink()
        daemon.tokens.write_text(good)
        daemon.tokens.chmod(0o600)
        os.chown(daemon.tokens, NOBODY, -1)
        refused_start(host)


def test_an_address_of_the_network(tmp_path, ports):
    """With tokens other addresses can be bound; it answers to its own names and to no others."""
    host = Host(tmp_path, (ports[0], ports[1] - 1))
    host.config.write_text(host.config.read_text().replace("[pool]", '[pool]\nadvertise_host = "gpu-7.example"'))
    daemon = GuardedDaemon(host, ports[1], "0.0.0.0")
    daemon.start()
    try:
        for name in (f"127.0.0.1:{daemon.port}", "localhost", "gpu-7.example", socket.gethostname()):
            assert daemon.tcp("GET", "/v2/state", "read", Host=name)[0] == 200, name
            assert daemon.tcp("GET", "/v2/state", Host=name)[0] == 401, name
        for name in ("evil.example", "gpu-8.example", "gpu-7.example.evil.example", "192.0.2.1"):
            assert daemon.tcp("GET", "/health", "read", Host=name)[0] == 403, name
    finally:
        daemon.kill()


def test_the_documented_way_to_make_a_token(guarded, tmp_path):
    """The commands of docs/daemon.md as they stand there, with another file."""
    lines = [line[2:] for line in (ROOT / "docs" / "daemon.md").read_text().splitlines() if line.startswith("$ ")]
    make, add = (next(line for line in lines if line.startswith(word)) for word in ("openssl rand", "printf"))
    add = add.replace("sudo tee -a /etc/pool-core/tokens", f"tee -a {guarded.tokens}")
    subprocess.run(["sh", "-euc", f"umask 077; {make}; {add}"], check=True, env={**os.environ, "HOME": str(tmp_path)},
                   stdout=subprocess.DEVNULL)
    token = tmp_path / ".pool-token"
    done = guarded.host.run("--url", f"http://127.0.0.1:{guarded.port}", "--token-file", token, "worker", "list")
    assert done.returncode == 4, done.stderr
    guarded.reload()
    done = guarded.host.run("--url", f"http://127.0.0.1:{guarded.port}", "--token-file", token, "worker", "list")
    assert done.returncode == 0, done.stderr


# ---- what a request may hold ----


def evil_library(tmp_path):
    """A library that writes a file when a program loads it."""
    marker = tmp_path / "was-loaded"
    source = tmp_path / "evil.c"
    source.write_text('#include <fcntl.h>\n__attribute__((constructor)) static void load(void)\n'
                      f'{{ (void)!open("{marker}", O_CREAT | O_WRONLY, 0600); }}\n')
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "evil.so", source], check=True)
    return tmp_path / "evil.so", marker


def environment(pid):
    return pathlib.Path("/proc", str(pid), "environ").read_bytes().decode().split("\0")


def test_only_admin_may_say_anything(guarded, tmp_path):
    """Arguments, variables and files of one's own, over every way in; the fake worker shows that admin's arrive."""
    library, marker = evil_library(tmp_path)
    secret = tmp_path / "secret.gguf"
    secret.write_bytes(guarded.host.model.read_bytes())
    link = guarded.host.models / "link.gguf"
    link.symlink_to(secret)
    hostile = [({"extra_args": ["--flood-log", "1"]}, "extra_args[0]"),
               ({"extra_args": ["/etc/passwd"]}, "extra_args[0]"),
               ({"extra_args": [""]}, "extra_args[0]"),
               ({"extra_args": ["-1"]}, "extra_args[0]"),
               ({"env": {"LD_PRELOAD": str(library)}}, "env.LD_PRELOAD"),
               ({"env": {"PATH": str(tmp_path)}}, "env.PATH"),
               ({"env": {"LLAMA_ARG_TOOLS": "exec_shell_command"}}, "env.LLAMA_ARG_TOOLS")]
    for path in ("/v2/workers/start", "/v2/workers/check"):
        request = {"backend": "fake", "model_ref": f"file:{guarded.host.model}", "worker_id": "w"}
        for fields, field in hostile:
            status, answer, _ = guarded.tcp("POST", path, "operate", {**request, **fields})
            assert (status, answer["error"]["code"]) == (400, "INVALID_REQUEST"), fields
            assert answer["error"]["details"]["field"] == field
            assert guarded.tcp("POST", path, "read", {**request, **fields})[0] == 403
            assert guarded.tcp("POST", path, None, {**request, **fields})[0] == 401
        for model in (secret, link, f"{guarded.host.models}/../secret.gguf", "/etc/passwd"):
            status, answer, _ = guarded.tcp("POST", path, "operate", {**request, "model_ref": f"file:{model}"})
            assert status in (400, 403, 404) and "secret" not in json.dumps(answer).replace(str(model), ""), answer
        for field in ("command", "program", "shell", "ready", "stop_signal", "cwd", "log_path"):
            status, answer, _ = guarded.tcp("POST", path, "admin", {**request, field: "x"})
            assert (status, answer["error"]["details"]["field"]) == (400, field)
    assert not marker.exists() and guarded.host.processes() == {}
    status, answer, _ = guarded.tcp_start("admin", "w", wait=True, env={"LD_PRELOAD": str(library)},
                                          extra_args=["--say", "hello"], model_ref=f"file:{secret}")
    assert status == 200 and answer["status"] == "ready", answer
    assert f"LD_PRELOAD={library}" in environment(answer["pid"])
    assert "hello" in guarded.tcp("GET", "/v2/workers/w/logs", "read")[1].decode().split("\n")
    status, answer, _ = guarded.tcp_start("operate", "plain", wait=True)
    assert status == 200
    # nothing of admin's is left for the next one
    assert not any(variable.startswith("LD_PRELOAD=") for variable in environment(answer["pid"]))
    assert code(guarded.tcp_start("operate", "w2", env={"LD_PRELOAD": str(library)})) == "INVALID_REQUEST"


ENGINE = os.environ.get("POOL_LLAMA_SERVER")


@pytest.mark.skipif(not ENGINE, reason="POOL_LLAMA_SERVER does not name a llama-server")
def test_the_real_engine_and_hostile_requests(tmp_path, ports):
    """What llama-server would do for anybody who could tell it: load a library, write files, run tools, listen to the
    network. Refused below admin with nothing started; for admin it is shown to happen, so that the refusals count."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "llama-server").symlink_to(pathlib.Path(shutil.which(ENGINE)).resolve())
    host = Host(tmp_path, (ports[0], ports[1] - 1))
    host.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    daemon = GuardedDaemon(host, ports[1])
    daemon.start()
    library, marker = evil_library(tmp_path)
    saved = tmp_path / "saved"
    saved.mkdir()
    arguments = [["--slot-save-path", str(saved)], [f"--slot-save-path={saved}"], ["--api-key-file", "/etc/passwd"],
                 ["-m", "/etc/passwd"], ["--model", "/etc/passwd"], ["--host", "0.0.0.0"], ["--port", "1"],
                 ["--hf-repo", "evil/model"], ["--model-url", "http://192.0.2.1/x"], ["--lora", "/etc/passwd"],
                 ["--log-file", str(saved / "log")], ["--path", "/etc"], ["--chat-template-file", "/etc/passwd"],
                 ["--rpc", "192.0.2.1:1"], ["--mlock"], ["-ngl", "99"], ["--props"], ["--tools", "all"],
                 ["-t", "1", "--log-file", str(saved / "log")], ["-t", "1", "2"], ["--alias", "--log-file"],
                 ["--alias=a", str(saved / "log")], ["-c", "999999"], ["-np", "64"], ["--override-tensor", "x=CUDA1"]]
    variables = ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GLIBC_TUNABLES", "LLAMA_ARG_TOOLS", "LLAMA_ARG_HOST",
                 "LLAMA_ARG_PORT", "LLAMA_ARG_MODEL", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_HF_REPO", "LLAMA_ARG_N_GPU_LAYERS",
                 "LLAMA_ARG_CTX_SIZE", "LLAMA_ARG_STATIC_PATH", "LLAMA_LOG_FILE", "LLAMA_API_KEY", "HF_TOKEN", "HOME",
                 "CUDA_VISIBLE_DEVICES", "POOL_WORKER_ID", "POOL_STATE_ID", "http_proxy"]
    try:
        for extra in arguments:
            answer = daemon.tcp_start("operate", "w", backend="cpu", extra_args=extra)
            assert (answer[0], code(answer)) == (400, "INVALID_REQUEST"), extra
        for name in variables:
            answer = daemon.tcp_start("operate", "w", backend="cpu", env={name: str(library)})
            assert (answer[0], code(answer)) == (400, "INVALID_REQUEST"), name
        assert host.processes() == {} and not marker.exists() and list(saved.iterdir()) == []
        # what is on the list is taken by the engine
        status, answer, _ = daemon.tcp_start("operate", "good", backend="cpu", wait=True,
                                             extra_args=["-t", "1", "--alias", "tiny", "--temp", "-1", "--no-warmup"])
        assert status == 200, answer
        status, answer, _ = daemon.tcp_start("admin", "evil", backend="cpu", wait=True,
                                             extra_args=["--slot-save-path", f"{saved}/"], env={"LD_PRELOAD": str(library)})
        assert status == 200, answer
        assert marker.exists()
        connection = http.client.HTTPConnection("127.0.0.1", answer["port"], timeout=60)
        for path, body in (("/completion", {"prompt": "hello", "n_predict": 2, "id_slot": 0}),
                           ("/slots/0?action=save", {"filename": "written-for-a-client"})):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            done = connection.getresponse()
            assert done.status == 200, done.read()
            done.read()
        assert (saved / "written-for-a-client").exists()
    finally:
        daemon.kill()
        host.stop_everything()


# ---- who comes without a token ----


def test_another_user_on_the_socket_operates(tmp_path, ports):
    """Whoever the socket lets in is told apart by the kernel: not the daemon's user, so not admin."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can be somebody else")
    host = Host(tmp_path, ports)
    daemon = Daemon(host)
    daemon.start()
    try:
        mode = os.stat(daemon.socket).st_mode & 0o777
        assert mode == 0o660
        for folder in tmp_path.parents:
            if str(folder).startswith("/tmp/"):
                folder.chmod(folder.stat().st_mode | 0o011)
        tmp_path.chmod(0o711)
        os.chown(daemon.socket, -1, NOBODY)
        script = (
            "import http.client, json, socket, sys\n"
            "for body in json.load(sys.stdin):\n"
            "    c = http.client.HTTPConnection('localhost')\n"
            f"    c.sock = socket.socket(socket.AF_UNIX); c.sock.connect({daemon.socket!r})\n"
            "    c.request('POST', '/v2/workers/check', json.dumps(body), {'Content-Type': 'application/json'})\n"
            "    a = c.getresponse(); print(a.status, json.loads(a.read()).get('error', {}).get('code'))\n")
        request = {"backend": "fake", "model_ref": f"file:{host.model}"}
        bodies = [request, {**request, "extra_args": ["--say", "x"]}, {**request, "env": {"LD_PRELOAD": "x"}}]

        def ask(*prefix):
            done = subprocess.run([*prefix, "/usr/bin/python3", "-c", script], input=json.dumps(bodies), text=True,
                                  capture_output=True, timeout=60)
            return done.stdout.split("\n")[:-1] or done.stderr

        nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        assert ask() == ["200 None"] * 3
        assert ask(*nobody) == ["200 None", "400 INVALID_REQUEST", "400 INVALID_REQUEST"]
        os.chown(daemon.socket, -1, 0)
        assert "PermissionError" in ask(*nobody)
        assert os.stat(host.state_dir).st_mode & 0o777 == 0o700
    finally:
        daemon.kill()


def test_loopback_without_tokens_operates(tmp_path, ports):
    host = Host(tmp_path, (ports[0], ports[1] - 1))
    daemon = GuardedDaemon(host, ports[1])
    host.config.write_text("\n".join(line for line in host.config.read_text().split("\n") if "token_file" not in line))
    daemon.start()
    try:
        for token in (None, "admin"):  # there is nothing to compare it with
            assert daemon.tcp("GET", "/v2/state", token)[0] == 200
            assert code(daemon.tcp_start(token, "w", extra_args=["--say", "x"])) == "INVALID_REQUEST"
        daemon.process.send_signal(signal.SIGHUP)  # nothing to read
        assert daemon.tcp("GET", "/v2/state")[0] == 200
    finally:
        daemon.kill()
        host.stop_everything()


def test_a_page_of_a_foreign_origin_gets_nothing(guarded):
    """As browsers send it: rebound names, other origins, forms and embedded resources; with and without a token."""
    host = f"localhost:{guarded.port}"
    foreign = [{"Host": "evil.example"}, {"Host": f"evil.example:{guarded.port}"}, {"Host": "localhost.evil.example"},
               {"Host": host, "Origin": "https://evil.example"}, {"Host": host, "Origin": "null"},
               {"Host": host, "Origin": f"https://{host}.evil.example"}, {"Host": host, "Origin": "http://localhost:1"},
               {"Host": host, "Origin": f"http://127.0.0.1:{guarded.port}"},
               {"Host": host, "Sec_Fetch_Site": "cross-site"}, {"Host": host, "Sec_Fetch_Site": "same-site"}]
    for headers in foreign:
        for method, path, body in (("GET", "/v2/state", None), ("GET", "/health", None), ("GET", "/metrics", None),
                                   ("POST", "/v2/workers/stop", {"worker_id": "w"}), ("OPTIONS", "/v2/workers/stop", None)):
            for token in (None, "admin"):
                status, answer, answered = guarded.tcp(method, path, token, body, **headers)
                assert (status, answer["error"]["code"]) == (403, "PERMISSION_DENIED"), (headers, path)
                assert not any(name.lower().startswith("access-control-") for name in answered)
    for own in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}, {"Host": host, "Sec_Fetch_Site": "same-origin"},
                {"Host": host, "Sec_Fetch_Site": "none"}):
        assert guarded.tcp("GET", "/v2/state", "read", **own)[0] == 200, own
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        status, answer, _ = guarded.tcp("POST", "/v2/workers/stop", "admin", {"worker_id": "w"}, Content_Type=kind)
        assert (status, answer["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE"), kind


# ---- the command line ----


@contextlib.contextmanager
def listening_socket(path):
    """Yields what the first client of a Unix socket sends."""
    got = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve():
            client, _ = server.accept()
            with client:
                got.append(client.recv(65536))
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"workers\":[]}")

        thread = threading.Thread(target=serve)
        thread.start()
        yield got
        thread.join(timeout=60)


def test_the_command_line_sends_a_token(guarded, tmp_path):
    url = f"http://127.0.0.1:{guarded.port}"
    host = guarded.host
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(TOKENS["operate"] + "\n")
    done = host.run("--json", "--url", url, "worker", "list")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (4, "UNAUTHENTICATED")
    ways = [{"environment": {"POOL_TOKEN": TOKENS["operate"]}}, {"environment": {"POOL_TOKEN_FILE": str(file)}},
            {"arguments": ["--token-file", file]},
            {"arguments": ["--token-file", file], "environment": {"POOL_TOKEN": "wrong"}}]
    for way in ways:
        done = host.run("--url", url, *way.get("arguments", ()), "worker", "list", "--json",
                        environment=way.get("environment"))
        assert done.returncode == 0 and json.loads(done.stdout)["workers"] == [], done.stderr
    environment = {"POOL_URL": url, "POOL_TOKEN": TOKENS["operate"]}
    spawn = ("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait")
    assert host.run(*spawn, environment=environment).returncode == 0
    assert host.refusal(*spawn, "--arg", "--x", environment=environment)["code"] == "INVALID_REQUEST"
    assert host.run("worker", "stop", "w", environment=environment).returncode == 0
    file.chmod(0o644)
    done = host.run("--json", "--url", url, "--token-file", file, "worker", "list")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "INVALID_CONFIG")
    for bad in ("two words", "tab\t", "x" * 4097):
        done = host.run("--json", "--url", url, "worker", "list", environment={"POOL_TOKEN": bad})
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "INVALID_CONFIG"), bad
        assert bad not in done.stdout + done.stderr
    with listening_socket(tmp_path / "other.sock") as got:
        host.run("--url", f"unix:{tmp_path}/other.sock", "worker", "list", environment={"POOL_TOKEN": TOKENS["admin"]})
    assert got and TOKENS["admin"].encode() not in got[0] and b"uthorization" not in got[0]


def test_no_token_reaches_a_worker(guarded):
    """Neither the daemon's environment nor a client's."""
    assert guarded.tcp_start("admin", "w", wait=True)[0] == 200
    for pid in guarded.host.processes():
        variables = "\n".join(environment(pid))
        assert "TOKEN" not in variables and "POOL_LOG_LEVEL" not in variables
        for token in TOKENS.values():
            assert token not in variables
