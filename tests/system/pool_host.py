"""A host of its own for a test: state directory, configuration, rbees-pool, and a look at what really runs.

What runs is read from /proc and from the kernel's socket table, never from the program under test.
"""
import functools
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("POOL_BUILD_DIR", ROOT / "build"))
PROGRAM = BUILD / "bin" / "rbees-pool"
FAKE_WORKER = BUILD / "support" / "fake-worker"
FAKE_NVML = BUILD / "support" / "libnvidia-ml.so.1"

# How long anything may take on a machine that is busy with something else. It ends a test that hangs, and asserts nothing.
PATIENCE_S = 120

# The exit status of each error, by the contract.
EXIT_STATUS = {"NOT_FOUND": 3, 
    "INTERNAL": 1,
    "INVALID_REQUEST": 2, "INVALID_CONFIG": 2,
    "NOT_FOUND": 3, "MODEL_NOT_FOUND": 3, "WORKER_NOT_FOUND": 3, "GPU_NOT_FOUND": 3, "BACKEND_NOT_FOUND": 3,
    "PERMISSION_DENIED": 4,
    "ALREADY_EXISTS": 5, "CONFLICT": 5,
    "MODEL_INCOMPATIBLE": 6, "MODEL_UNVERIFIED": 6, "MODEL_CORRUPT": 6,
    "INSUFFICIENT_VRAM": 7, "INSUFFICIENT_MEMORY": 7, "INSUFFICIENT_DISK": 7, "GPU_UNAVAILABLE": 7,
    "PORT_UNAVAILABLE": 7, "BACKEND_UNAVAILABLE": 7, "REGISTRY_UNAVAILABLE": 7, "OVERLOADED": 7,
    "WORKER_START_FAILED": 8, "WORKER_START_TIMEOUT": 8, "DEADLINE_EXCEEDED": 8,
    "UNIMPLEMENTED": 9,
    "CANCELLED": 130,
}


@functools.cache
def tiny_model():
    """Made once a run: it takes longer than most tests."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "tiny.gguf")
        subprocess.run([ROOT / "tests/support/make-tiny-gguf", path], check=True, stdout=subprocess.DEVNULL)
        return path.read_bytes()


def ran(rows):
    """Rows of workers without the starts whose starter was killed before there was a process."""
    return [row for row in rows if (row["stop_reason"], row["pid"]) != ("start_failed", None)]


class Host:
    """One state directory with its configuration; workers are the fake one unless a test says otherwise."""

    def __init__(self, directory, ports, fake_args=(), config="", device="cpu"):
        self.directory = pathlib.Path(directory)
        self.ports = ports
        self.state_dir = self.directory / "state"
        self.models = self.directory / "models"
        self.models.mkdir(exist_ok=True)
        self.model = self.models / "tiny.gguf"
        self.model.write_bytes(tiny_model())
        command = [str(FAKE_WORKER), "--port", "{port}", "--host", "{host}", "-m", "{model_path}", *fake_args]
        self.config = self.directory / "pool.toml"
        self.config.write_text(
            f'[pool]\nstate_dir = "{self.state_dir}"\nmodels_dirs = ["{self.models}"]\n'
            f'[workers]\nport_range = "{ports[0]}-{ports[1]}"\n'
            f"[backends.fake]\ncommand = {json.dumps(command)}\n"
            f'ready.http = "/health"\ndevice = "{device}"\n{config}')
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("POOL_", "XDG_", "HF_"))}
        # The GPUs of tests have the same names on every host of a test: they must not see each other's promises.
        self.environment["POOL_GPU_LOCK_DIR"] = str(self.directory / "gpu-locks")

    def gate(self, name):
        """A file for the fake worker's --...-when options: it waits until open_gate(name)."""
        return self.directory / f"gate-{name}"

    def open_gate(self, name):
        self.gate(name).touch()

    def command(self, *arguments):
        return [str(PROGRAM), "--config", str(self.config), *map(str, arguments)]

    def start(self, *arguments, **options):
        return subprocess.Popen(self.command(*arguments), env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def run(self, *arguments, timeout=PATIENCE_S, environment=None):
        """`environment`: variables to be added, or to be left out where they are None."""
        variables = {k: v for k, v in {**self.environment, **(environment or {})}.items() if v is not None}
        return subprocess.run(self.command(*arguments), env=variables, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout)

    def json(self, *arguments, timeout=PATIENCE_S):
        done = self.run(*arguments, "--json", timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def refusal(self, *arguments, timeout=PATIENCE_S, environment=None):
        """The error of a command that must fail; its exit status is the one of its code."""
        done = self.run("--json", *arguments, timeout=timeout, environment=environment)
        assert done.returncode != 0, done.stdout
        error = json.loads(done.stdout)["error"]
        assert done.returncode == EXIT_STATUS[error["code"]], error
        return error

    def all_rows(self):
        """worker id -> row, the stopped ones too."""
        return {row["worker_id"]: row for row in reversed(self.json("worker", "list", "--all")["workers"])}

    def rows(self):
        return self.json("worker", "list")["workers"]

    def spawn(self, worker_id, *arguments):
        return self.run("worker", "spawn", "fake", "--model", f"file:{self.model}", "--id", worker_id, *arguments)

    def spawn_refusal(self, worker_id, *arguments, **options):
        return self.refusal("worker", "spawn", "fake", "--model", f"file:{self.model}", "--id", worker_id,
                            *arguments, **options)

    def log(self, worker_id):
        return self.state_dir / "logs" / f"{worker_id}.log"

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


def listening(port, host="127.0.0.1"):
    """A socket of ours that listens there; to be closed, or used with `with`."""
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stranger.bind((host, port))
    stranger.listen()
    return stranger


def wait_until(is_true, seconds=PATIENCE_S, what="it"):
    """Looks every few milliseconds, up to a deadline; for what has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds} s"
        time.sleep(0.005)
