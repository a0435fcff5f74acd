"""A host of its own for a test: state directory, configuration, rbees-pool, and a look at what really runs.

What runs is read from /proc and from the kernel's socket table, never from the program under test.
"""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("POOL_BUILD_DIR", ROOT / "build"))
PROGRAM = BUILD / "bin" / "rbees-pool"
FAKE_WORKER = BUILD / "support" / "fake-worker"


class Host:
    """One state directory with its configuration; workers are the fake one unless a test says otherwise."""

    def __init__(self, directory, ports, fake_args=(), config="", device="cpu"):
        self.directory = pathlib.Path(directory)
        self.state_dir = self.directory / "state"
        self.models = self.directory / "models"
        self.models.mkdir(exist_ok=True)
        self.model = self.models / "tiny.gguf"
        subprocess.run([ROOT / "tests/support/make-tiny-gguf", self.model], check=True, stdout=subprocess.DEVNULL)
        command = [str(FAKE_WORKER), "--port", "{port}", "--host", "{host}", "-m", "{model_path}", *fake_args]
        self.config = self.directory / "pool.toml"
        self.config.write_text(
            f'[pool]\nstate_dir = "{self.state_dir}"\nmodels_dirs = ["{self.models}"]\n'
            f'[workers]\nport_range = "{ports[0]}-{ports[1]}"\n'
            f"[backends.fake]\ncommand = {json.dumps(command)}\n"
            f'ready.http = "/health"\ndevice = "{device}"\n{config}')
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("POOL_", "XDG_", "HF_"))}

    def command(self, *arguments):
        return [str(PROGRAM), "--config", str(self.config), *map(str, arguments)]

    def start(self, *arguments, **options):
        return subprocess.Popen(self.command(*arguments), env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def run(self, *arguments, timeout=60):
        return subprocess.run(self.command(*arguments), env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout)

    def json(self, *arguments, timeout=60):
        done = self.run(*arguments, "--json", timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def rows(self):
        return self.json("worker", "list")["workers"]

    def spawn(self, worker_id, *arguments):
        return self.run("worker", "spawn", "fake", "--model", f"file:{self.model}", "--id", worker_id, *arguments)

    # what really is

    def processes(self):
        """pid -> worker id of everything that runs and carries this state directory's id. Zombies do not run."""
        try:
            wanted = b"POOL_STATE_ID=" + (self.state_dir / "state-id").read_bytes().strip()
        except FileNotFoundError:
            return {}
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                variables = pathlib.Path("/proc", entry, "environ").read_bytes().split(b"\0")
                if wanted in variables and is_running(int(entry)):
                    ids = [v for v in variables if v.startswith(b"POOL_WORKER_ID=")]
                    found[int(entry)] = ids[0].split(b"=", 1)[1].decode()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def stop_everything(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def is_running(pid):
    try:
        stat = pathlib.Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def is_listening(port, host="127.0.0.1"):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def wait_until(is_true, seconds=20, what="it"):
    """Looks every few milliseconds, up to a deadline; for what has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds} s"
        time.sleep(0.005)
