"""What the checks stand on: a state directory with a daemon, our command line, nvidia-smi, and the report."""
import datetime
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
DAEMON = BUILD / "bin" / "pool-managerd"
SUPPORT = BUILD / "support"
MIB = 1 << 20
PATIENCE_S = 120

# A context of CUDA and its modules: 100 to 600 MiB on the drivers that we know; less than this beside what was allocated.
CONTEXT_MAX_BYTES = 1024 * MIB

# What two looks at a GPU that others use too may differ by.
TOLERANCE_BYTES = 64 * MIB


class Report:
    """Told on the terminal as it comes, and kept as Markdown."""

    def __init__(self):
        self.failed, self.n_passed, self.lines = [], 0, []

    def section(self, title):
        print(title)
        self.lines += ["", f"### {title}", ""]

    def note(self, text):
        print(f"  {text}")
        self.lines.append(f"- {text}")

    def check(self, is_right, text):
        print(f"  {'ok  ' if is_right else 'FAIL'} {text}")
        self.lines.append(f"- {'ok' if is_right else '**FAILED**'}: {text}")
        if is_right:
            self.n_passed += 1
        else:
            self.failed.append(text)

    def table(self, head, rows):
        cells = [head, ["---"] * len(head), *rows]
        self.lines += ["", *("| " + " | ".join(map(str, row)) + " |" for row in cells), ""]
        for row in [head, *rows]:
            print("  " + "  ".join(f"{str(cell):>16}" for cell in row))

    def markdown(self, title):
        today = datetime.date.today().isoformat()
        verdict = f"{self.n_passed} passed, {len(self.failed)} failed"
        return "\n".join([f"## {title}", "", f"{today}: {verdict}.", *self.lines, ""])


def wait_until(is_true, seconds=PATIENCE_S):
    """What is_true gave at last; falsy when it never did."""
    deadline = time.monotonic() + seconds
    while True:
        value = is_true()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.01)


def ask_smi(query, fields):
    done = subprocess.run(["nvidia-smi", f"--query-{query}={','.join(fields)}", "--format=csv,noheader,nounits"],
                          capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return [dict(zip(fields, (value.strip() for value in line.split(",")))) for line in done.stdout.splitlines() if line]


def used_by_smi(uuid):
    return next(int(gpu["memory.used"]) * MIB for gpu in ask_smi("gpu", ("uuid", "memory.used")) if gpu["uuid"] == uuid)


class Ground:
    """A pool of its own: its daemon runs from __enter__ to __exit__, its workers are all gone afterwards."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.config = self.folder / "pool.toml"
        self.log = self.folder / "daemon.log"
        self.state = self.folder / "state"
        self.model = self.folder / "models" / "tiny.gguf"
        self.model.parent.mkdir()
        subprocess.run([ROOT / "tests/support/make-tiny-gguf", self.model], check=True, stdout=subprocess.DEVNULL)
        command = [str(SUPPORT / "cuda-worker"), "--port", "{port}", "--host", "{host}"]
        text = (f'[pool]\nstate_dir = "{self.state}"\nmodels_dirs = ["{self.model.parent}"]\n'
                f'[daemon]\nbind = "127.0.0.1:0"\n[gpu]\nvram_headroom_bytes = 0\nrefresh_interval_ms = 500\n'
                f"[backends.cuda-worker]\ncommand = {json.dumps(command)}\nready.http = \"/\"\ndevice = \"gpu\"\n")
        passed = [name for name in ("FAKE_NVML_CONFIG", "FAKE_CUDA_CLAIMS", "FAKE_CUDA_CONTEXT_BYTES", "LD_LIBRARY_PATH")
                  if name in os.environ]
        text += "".join(f'env.{name} = "{os.environ[name]}"\n' for name in passed)
        self.config.write_text(text)
        self.daemon = None

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.daemon = subprocess.Popen([DAEMON, "--config", self.config], stdin=subprocess.DEVNULL, stdout=log,
                                           stderr=log)
        if not wait_until(self.is_answering):
            raise RuntimeError(f"the daemon does not answer: {self.log.read_text()}")
        return self

    def is_answering(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.state / "daemon.sock")) == 0

    def __exit__(self, *_):
        for row in self.ask("worker", "list")["workers"]:
            self.run("worker", "stop", row["worker_id"], "--force")
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(timeout=PATIENCE_S)

    def run(self, *words):
        return subprocess.run([PROGRAM, "--config", self.config, *map(str, words), "--json"], capture_output=True,
                              text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL, check=False)

    def ask(self, *words):
        done = self.run(*words)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def spawn(self, worker_id, uuid, taken_bytes, vram_bytes):
        """The answer, or the error."""
        done = self.run("worker", "spawn", "cuda-worker", "--model", f"file:{self.model}", "--id", worker_id, "--gpu", uuid,
                        "--vram", vram_bytes, "--wait", "--arg=--device-bytes", f"--arg={taken_bytes}")
        return json.loads(done.stdout)

    def held_bytes(self, worker_id):
        """What the driver says that the worker's processes hold; None: it does not say."""
        held = [process["used_vram_bytes"] for process in self.ask("gpu", "processes")["processes"]
                if process["worker_id"] == worker_id and process["used_vram_bytes"] is not None]
        return sum(held) if held else None

    def gpu(self, uuid):
        return next(gpu for gpu in self.ask("gpu", "list")["gpus"] if gpu["uuid"] == uuid)

    def facts(self, name, kind):
        """Facts of the newest record of a kind about a worker, by name; {}: none yet."""
        records = [record for record in self.ask("explain", name)["explanations"] if record["kind"] == kind]
        return {fact["name"]: fact["number"] for fact in records[-1]["facts"]} if records else {}
