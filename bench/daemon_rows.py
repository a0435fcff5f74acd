"""The rows of the daemon: one that runs, beside programs that do the same work with less, and beside those that others use
for it: nginx for static bytes, supervisord for processes, llama-server as a router of models. Each pair is measured by turns.
"""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import xmlrpc.client

HERE = pathlib.Path(__file__).resolve().parent
run = sys.modules["__main__"]  # bench/run: rows, the ground, and what is measured with
IDLE_S, MANY_IDLE_S, SCRAPE_S = 30, 20, 10
N_WORKERS, N_MANY, N_SLOW = 64, 1000, 102
MIB = 1 << 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def peers():
    """Folder with bin/nginx and bin/supervisord, or None: their rows are left out then."""
    done = subprocess.run([HERE / "get-peers"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"\n{done.stderr.strip()}", file=sys.stderr)
        return None
    return pathlib.Path(done.stdout.strip())


def router():
    """llama-server, or None."""
    named = os.environ.get("POOL_LLAMA_SERVER")
    return shutil.which(named) if named else None


def memory(pid):
    """(private, resident) bytes of one process. Private is what it has written: clean pages of a library that nobody else
    happens to use at the moment are the page cache's."""
    found = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            name, size = line.split()[:2]
            found[name] = int(size) * 1024
    return found["Private_Dirty:"], found["Rss:"]


def cpu_s(pid):
    """CPU time a process has used, to the nanosecond: the clock of another process (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def cpu_percent(pids, seconds):
    before, since = [cpu_s(pid) for pid in pids], time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - since
    return [(cpu_s(pid) - b) / elapsed * 100 for pid, b in zip(pids, before)]


def wait_for_answer(port, process, path="/health"):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise run.CannotMeasure(f"{process.args[0]} has ended: {process.returncode}")
        try:
            return get(port, path)
        except OSError:
            time.sleep(0.01)
    raise run.CannotMeasure(f"{process.args[0]} does not answer")


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@contextlib.contextmanager
def server(command, port, **options):
    """A program that serves while the block runs."""
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, **options)
    try:
        wait_for_answer(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Daemon:
    def __init__(self, ground):
        self.ground, self.port = ground, free_port()
        self.config = ground.config()
        self.state = self.config.replace("pool-", "state-").removesuffix(".toml")
        with open(self.config, "a", encoding="utf-8") as file:
            file.write(f'[daemon]\nbind = "127.0.0.1:{self.port}"\nsocket = "{ground.folder}/d.sock"\n')

    def command(self):
        return [os.path.join(run.BUILD, "bin", "pool-managerd"), "--config", self.config, "--log-level", "error"]

    def runs(self):
        return server(self.command(), self.port)

    def post(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        if answer.status >= 300:
            raise run.CannotMeasure(f"{path}: {said}")
        return said

    @contextlib.contextmanager
    def workers(self, n, backend):
        """So many of them, all ready, while the block runs."""
        pids = []
        try:
            for i in range(n):
                request = {"backend": backend, "model_ref": self.ground.model_ref(), "worker_id": f"w{i}",
                           "required_vram_bytes": MIB}
                if backend == "fake_gpu":
                    request["gpu_id"] = str(i % run.N_GPUS)
                pids.append(self.post("/v2/workers/start", request)["pid"])
            deadline = time.monotonic() + 120
            while json.loads(get(self.port, "/v2/workers")[1])["workers"][-1]["status"] == "spawning" or any(
                    w["status"] == "spawning" for w in json.loads(get(self.port, "/v2/workers")[1])["workers"]):
                if time.monotonic() > deadline:
                    raise run.CannotMeasure("not every worker is ready")
                time.sleep(0.1)
            yield pids
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)


def linked(port):
    return [run.program("linked"), port]


def supervisord(peer_folder, folder, port, programs=""):
    config = pathlib.Path(folder, "supervisord.conf")
    config.write_text(
        f"[inet_http_server]\nport = 127.0.0.1:{port}\n[supervisord]\nnodaemon = true\nlogfile = /dev/null\n"
        f"logfile_maxbytes = 0\npidfile = {folder}/supervisord.pid\n[rpcinterface:supervisor]\n"
        f"supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n{programs}")
    return ["/usr/bin/python3", peer_folder / "bin/supervisord", "-n", "-c", config]


def nginx(peer_folder, folder, port, body):
    root = pathlib.Path(folder, "nginx")
    root.mkdir(exist_ok=True)
    (root / "state.json").write_bytes(body)
    config = root / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log /dev/null;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; keepalive_requests 1000000000; sendfile on; tcp_nopush on; open_file_cache max=10;\n"
        f"client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d;\n"
        f"scgi_temp_path {root}/e; default_type application/json;\n"
        f'server {{ listen 127.0.0.1:{port}; root {root}; location /health {{ return 200 "ok"; }} }} }}\n')
    return [peer_folder / "bin/nginx", "-p", root, "-e", "/dev/null", "-c", config]


# ---- from exec to the first answer, and memory ----


def rows_daemon(ground):
    daemon, linked_port, peer_folder, llama = Daemon(ground), free_port(), peers(), router()
    commands = [["daemon", daemon.port, *daemon.command()], ["linked", linked_port, *linked(linked_port)]]
    if peer_folder:
        port = free_port()
        commands.append(["supervisord", port, *supervisord(peer_folder, ground.folder, port)])
    if llama:
        port = free_port()
        commands.append(["router", port, llama, "--port", port, "--models-dir", ground.folder])
    words = []
    for command in commands:
        words += (["--"] if words else []) + command
    series = run.measure("first_answer", 15, *words)
    what = "daemon: exec -> first answer"
    yield run.at_most("daemon-start", what, series["daemon"][0], "the same libraries, and a constant answer",
                      series["linked"][0], 2)
    for name, text in (("supervisord", "supervisord"), ("router", "llama-server as a router")):
        if name in series:
            yield run.row(f"daemon-start-{name}", what, series["daemon"][0], text, series[name][0])

    with contextlib.ExitStack() as stack:
        pid = stack.enter_context(daemon.runs()).pid
        bare = stack.enter_context(server(linked(linked_port), linked_port)).pid
        get(daemon.port, "/v2/state")
        time.sleep(3)  # the first looks at the GPUs are over
        private, resident = memory(pid)
        bare_private, bare_resident = memory(bare)
        made = run.row("daemon-private", "daemon, idle: private memory", private, "the same libraries, and a constant answer",
                       bare_private, "<= 4 MiB", private <= 4 * MIB, unit="bytes")
        yield made
        made = run.row("daemon-resident", "daemon, idle: resident memory", resident,
                       "the same libraries, and a constant answer", bare_resident, "<= 1.3 x", unit="bytes")
        made["is_met"] = made["ratio"] <= 1.3
        yield made
        if peer_folder:
            port = free_port()
            other = stack.enter_context(server(supervisord(peer_folder, ground.folder, port), port)).pid
            yield run.row("daemon-resident-supervisord", "the same", resident, "supervisord", memory(other)[1], unit="bytes")
        if llama:
            port = free_port()
            other = stack.enter_context(server([llama, "--port", port, "--models-dir", ground.folder], port)).pid
            yield run.row("daemon-resident-router", "the same", resident, "llama-server as a router", memory(other)[1],
                          unit="bytes")


# ---- what is asked most ----


def load_rows(prefix, what, subject, others, limit):
    """subject, others: (name, text, pid, port, path), the first of the others with a target."""
    words = []
    for name, _, pid, port, path in (subject, *others):
        words += [name, pid, port, path]
    series = run.measure("http_load", 16, 15, 2000, *words)
    for i, (name, text, *_) in enumerate(others):
        ours, theirs = series[subject[0]][0], series[name][0]
        speed = theirs / ours
        made = run.row(prefix if i == 0 else f"{prefix}-{name}", what, ours, text, theirs)
        if i == 0:
            made["target"], made["is_met"] = f">= {limit} x its speed", speed >= limit
        yield made
        ours, theirs = series[subject[0] + "_cpu"][0], series[name + "_cpu"][0]
        yield run.row(f"{prefix}-{name}-cpu", "the same in CPU time of the server", ours, text, theirs)


def rows_health(ground):
    daemon, linked_port, peer_folder, llama = Daemon(ground), free_port(), peers(), router()
    with contextlib.ExitStack() as stack:
        pid = stack.enter_context(daemon.runs()).pid
        bare = stack.enter_context(server(linked(linked_port), linked_port)).pid
        others = [("linked", "libmicrohttpd that answers a constant", bare, linked_port, "/health")]
        if peer_folder:
            port = free_port()
            other = stack.enter_context(server(nginx(peer_folder, ground.folder, port, b"{}"), port)).pid
            others.append(("nginx", "nginx, a constant", other, port, "/health"))
        if llama:
            port = free_port()
            other = stack.enter_context(server([llama, "--port", port, "--models-dir", ground.folder], port)).pid
            others.append(("router", "llama-server as a router, /health", other, port, "/health"))
        yield from load_rows("health", "GET /health, 16 connections", ("daemon", "", pid, daemon.port, "/health"), others, 0.8)


def rows_state(ground):
    daemon, peer_folder = Daemon(ground), peers()
    with daemon.runs() as process, daemon.workers(N_WORKERS, "fake_gpu"):
        _, body = get(daemon.port, "/v2/state")
        if peer_folder:
            port = free_port()
            with server(nginx(peer_folder, ground.folder, port, body), port) as other:
                yield from load_rows(
                    "state", f"GET /v2/state, {run.N_GPUS} GPUs and {N_WORKERS} workers, 16 connections",
                    ("daemon", "", process.pid, daemon.port, "/v2/state"),
                    [("nginx", f"nginx, the same {len(body) / 1024:.0f} KiB from a file", other.pid, port, "/state.json")], 0.7)
        time.sleep(2)
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        helpers = [int(c) for c in children if "gpu-probe" in pathlib.Path("/proc", c, "comm").read_text()]
        percent, *probe = cpu_percent([process.pid, *helpers], IDLE_S)
        yield run.row("state-idle", f"daemon, {N_WORKERS} ready workers: CPU over {IDLE_S} s", percent,
                      "pool-gpu-probe, which it starts", probe[0] if probe else None, "<= 0.2 % of a core", percent <= 0.2,
                      unit="percent")
        used = scraped_percent(daemon.port, process.pid)
        yield run.row("state-metrics", "the same, scraped 10 times a second", used, "the same, idle", percent, "<= 1 % more",
                      used - percent <= 1, unit="percent")


def scraped_percent(port, pid):
    """CPU of the daemon while it is scraped as Prometheus does it: over a connection that is kept."""
    scraper = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    before, since = cpu_s(pid), time.monotonic()
    for i in range(SCRAPE_S * 10):
        scraper.request("GET", "/metrics")
        scraper.getresponse().read()
        time.sleep(max(0.0, since + (i + 1) / 10 - time.monotonic()))
    return (cpu_s(pid) - before) / (time.monotonic() - since) * 100


def rows_thousand(ground):
    daemon = Daemon(ground)
    with contextlib.ExitStack() as stack:
        with daemon.runs():
            stack.enter_context(daemon.workers(N_MANY, "fake"))
        since = time.monotonic_ns()
        process = stack.enter_context(daemon.runs())  # another one, which adopts them
        adopted_ns = time.monotonic_ns() - since
        n = len(json.loads(get(daemon.port, "/v2/workers")[1])["workers"])
        if n != N_MANY:
            raise run.CannotMeasure(f"{n} of {N_MANY} workers are there")
        yield run.row("thousand-adopt", f"daemon, {N_MANY} workers: exec -> first answer, all adopted", adopted_ns, "", None)
        for _ in range(5):
            get(daemon.port, "/v2/state")
        time.sleep(12)  # each was looked at
        private, resident = memory(process.pid)
        yield run.row("thousand-private", f"daemon, {N_MANY} workers: private memory", private, "resident", resident, "<= 24 MiB",
                      private <= 24 * MIB, unit="bytes")
        percent = cpu_percent([process.pid], MANY_IDLE_S)[0]
        yield run.row("thousand-idle", f"daemon, {N_MANY} ready workers: CPU over {MANY_IDLE_S} s", percent, "", None,
                      unit="percent")
        series = run.measure("http_load", 1, 10, 100, "state", process.pid, daemon.port, "/v2/state", "health", process.pid,
                             daemon.port, "/health")
        yield run.row("thousand-state", f"GET /v2/state, {N_MANY} workers, one connection", series["state"][0], "GET /health",
                      series["health"][0])
        slow = []
        try:
            for i in range(1024 - 16):
                slow.append(socket.create_connection(("127.0.0.1", daemon.port)))
                if i < N_SLOW:
                    slow[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    slow[-1].sendall(b"GET /v2/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            series = run.measure("http_load", 8, 10, 500, "crowd", process.pid, daemon.port, "/health")
            again = run.measure("http_load", 8, 10, 500, "crowd", process.pid, daemon.port, "/health")
            yield run.row("thousand-crowd", f"GET /health among 1000 connections, {N_SLOW} of them slow readers",
                          min(series["crowd"][0], again["crowd"][0]), "", None)
        finally:
            for connection in slow:
                connection.close()


# ---- workers, by the API ----


def rows_api(ground):
    daemon, peer_folder = Daemon(ground), peers()
    with daemon.runs():
        series = run.measure("daemon_workers", daemon.port, ground.model_ref(), run.fake_worker(), ground.folder, 60)
    start, bare, request, ready, killed, event, settled, bare_killed = (
        series[name][0] for name in ("start", "bare", "request", "ready", "killed", "event", "settled", "bare_killed"))
    yield run.at_most("api-start", "POST /v2/workers/start -> main() of the worker", start,
                      "posix_spawn -> main(), and a loopback request", bare + request, 1.5)
    yield run.row("api-ready", "start of 50 ms: first healthy answer -> event", ready, "", None, "<= 2 ms", ready <= 2_000_000)
    yield run.row("api-event", "pidfd of a killed worker readable -> event", event, "", None, "<= 1 ms", event <= 1_000_000)
    yield run.row("api-killed", "SIGKILL -> event", killed, "poll() on a pidfd", bare_killed)
    yield run.row("api-settled", "SIGKILL -> event: nothing of it is left", settled, "poll() on a pidfd", bare_killed)
    if not peer_folder:
        return
    port, stamps = free_port(), os.path.join(ground.folder, "supervisord.stamps")
    program = (f"[program:w]\ncommand = {run.fake_worker()} --port 0 --timestamps {stamps} --crash-after-ms 60000\n"
               "autostart = false\nautorestart = false\nstartsecs = 0\nstdout_logfile = NONE\nstderr_logfile = NONE\n")
    with server(supervisord(peer_folder, ground.folder, port, program), port):
        starts, kills = supervise_by_peer(port, stamps)
    yield run.row("api-start-supervisord", "POST /v2/workers/start -> main() of the worker", start,
                  "supervisord: startProcess -> main()", starts)
    yield run.row("api-killed-supervisord", "SIGKILL -> event", killed, "supervisord: SIGKILL -> getProcessInfo says so", kills)


def read_stamp(path, name):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            for line in file:
                if line.startswith(name + " ") and line.endswith("\n"):
                    return int(line.split()[1])
        time.sleep(0.001)
    raise run.CannotMeasure(f"no {name} of the fake worker")


def supervise_by_peer(port, stamps):
    remote = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}/RPC2").supervisor
    starts, kills = [], []
    for _ in range(20):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stamps)
        since = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        remote.startProcess("w", False)
        starts.append(read_stamp(stamps, "main") - since)
        pid = remote.getProcessInfo("w")["pid"]
        since = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.kill(pid, 9)
        while remote.getProcessInfo("w")["statename"] in ("RUNNING", "STARTING"):
            pass
        kills.append(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - since)
    return sorted(starts)[len(starts) // 2], sorted(kills)[len(kills) // 2]


GROUPS = {
    "daemon": rows_daemon,
    "health": rows_health,
    "state": rows_state,
    "thousand": rows_thousand,
    "api": rows_api,
}
