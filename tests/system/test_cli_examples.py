"""Every example of every help text, run: in a world of a test's own with the models, workers and checkouts that they name.

Paths of the examples lie below the test's directory instead of /srv and /tmp; questions are answered by --yes; what has no end
is interrupted once it has said something. A new command's examples are run by themselves: what they need is in World.
"""
import functools
import hashlib
import json
import select
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest
from pool_host import FAKE_WORKER, PROGRAM, ROOT, Host, tiny_model
from test_cli_daemon import Daemon
from test_cli_git import Repositories
from tmux_screen import screen

sys.path.insert(0, str(ROOT / "tests" / "support"))
from fake_hub import FakeHub  # noqa: E402

GGUF = "qwen2.5-0.5b-instruct-q4_k_m.gguf"
# Options with which a command goes on until somebody ends it.
ENDLESS = {"--watch", "--follow", "-f"}
# What examples end with when it is not success, and why.
EXPECTED = {
    "rbees-pool models learned forget 0123456789abcdef": {0, 3},  # nothing of that name was learned here
    "rbees-pool models download qwen2.5-0.5b --via hf": {0} if shutil.which("hf") else {8},
}


@functools.cache
def commands():
    return json.loads(subprocess.run([PROGRAM, "help", "--json"], capture_output=True, check=True).stdout)["commands"]


def groups():
    return sorted({command["path"].split()[0] for command in commands()})


class World(Host):
    def __init__(self, directory, ports, hub):
        self.repositories = Repositories(directory / "git")
        self.repositories.git(directory, "clone", "-q", str(self.repositories.remote), str(directory / "models"))
        super().__init__(directory, ports)
        gpus = directory / "gpus.toml"
        gpus.write_text('[[gpus]]\nuuid = "GPU-00000000-0000-4000-8000-000000000001"\nname = "G"\n'
                        'vram_total_bytes = "24 GiB"\nvram_used_bytes = 0\n')
        self.catalog = directory / "catalog.toml"
        self.catalog.write_text(
            f'[[models]]\nid = "qwen2.5-0.5b"\nname = "Qwen"\nrepo = "Qwen/Qwen2.5-0.5B-Instruct-GGUF"\nfile = "{GGUF}"\n'
            f'size = {len(tiny_model())}\nsha256 = "{hashlib.sha256(tiny_model()).hexdigest()}"\nrevision = "main"\n')
        command = json.dumps([str(FAKE_WORKER), "--port", "{port}", "--host", "{host}", "-m", "{model_path}"])
        text = self.config.read_text().replace("[pool]\n", f'[pool]\ncatalogs = ["{self.catalog}"]\n')
        self.config.write_text(
            text + f'[gpu]\ninventory = "static:{gpus}"\n[staging]\nmax_bytes = "1GiB"\n'
            + "".join(f'[backends.{name}]\ncommand = {command}\nready.http = "/health"\ndevice = "{device}"\n'
                      'activity = "none"\ndevice_check = []\n' for name, device in (("cpu", "cpu"), ("cuda", "gpu"))))
        self.environment |= self.repositories.environment | hub.environment(directory / "hf") | {
            "POOL_CONFIG": str(self.config), "HOME": str(directory / "git" / "home"), "LC_ALL": "C.UTF-8"}
        (self.repositories.clone / "new.toml").write_text("[workers]\nstop_grace_ms = 1000\n")
        self.daemon = Daemon(self)

    def words(self, example):
        words = [word.replace("/srv/models", str(self.models)).replace("/tmp/pool", str(self.directory / "other"))
                 for word in shlex.split(example)]
        return [str(PROGRAM), *words[1:]]

    def command(self, *arguments):
        return [str(PROGRAM), *map(str, arguments)]

    def prepare(self, path, example):
        needs_model = path.startswith(("models", "worker")) and path != "models download"
        if needs_model and '"absent"' in self.run("models", "show", "qwen2.5-0.5b", "--json").stdout:
            assert self.run("models", "download", "qwen2.5-0.5b").returncode == 0
        if path.startswith(("models stage", "models unstage", "events")) and self.daemon.process is None:
            self.daemon.start()
        if "worker-1" in example and "worker-1" not in {row["worker_id"] for row in self.rows()}:
            assert self.spawn("worker-1", "--wait").returncode == 0
        if path == "models unstage" and self.does_stage():
            self.run("models", "stage", "qwen2.5-0.5b", "--wait")

    def does_stage(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.daemon.port}/v2/openapi.json", timeout=60) as answer:
            return b"/stage" in answer.read()

    def surroundings(self, path):
        """`dev setup` writes to the default place, which must be one of the test."""
        extra = {"POOL_CONFIG": str(self.directory / "fresh" / "pool.toml")} if path == "dev setup" else {}
        return {"env": self.environment | extra, "cwd": self.repositories.clone, "stdin": subprocess.DEVNULL}

    def close(self):
        if self.daemon.process is not None:
            self.daemon.end()
        self.stop_everything()


@pytest.fixture
def world(tmp_path, ports):
    with FakeHub() as hub:
        hub.add("Qwen", "Qwen2.5-0.5B-Instruct-GGUF", {GGUF: tiny_model()})
        hub.add("Qwen", "Qwen2.5-0.5B-Instruct", {"config.json": b"{}", "model.safetensors": b"x" * 1000})
        made = World(tmp_path, ports, hub)
        yield made
        made.close()


def interrupt_when_it_has_said_something(world, words, path):
    process = subprocess.Popen(words, **world.surroundings(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if path == "events":  # something has to happen; when it listens is not to be seen
        for n in range(100):
            assert world.spawn(f"e{n}", "--wait").returncode == 0
            assert world.run("worker", "stop", f"e{n}", "--force").returncode == 0
            if process.poll() is not None or select_line(process.stdout):
                break
    if process.poll() is None:
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    return process.returncode


def select_line(pipe):
    return bool(select.select([pipe], [], [], 0.2)[0])


def on_a_terminal(world, words, path):
    with screen(80, 24, words, world.surroundings(path)["env"]) as view:
        view.wait_for("q quit")
        view.keys("q")
        view.wait_for("status 0")
    return 0


def run_example(world, command, example):
    path, words = command["path"], world.words(example)
    options = {option["name"] for option in command["options"]}
    if "yes" in options and "--yes" not in words:
        words.append("--yes")
    if path == "gpu top" and "--once" not in words:
        return on_a_terminal(world, words, path)
    if path == "events" or ENDLESS & set(words) & {f"--{name}" for name in options} or (path == "worker logs" and "-f" in words):
        return interrupt_when_it_has_said_something(world, words, path)
    done = subprocess.run(words, **world.surroundings(path), capture_output=True, text=True, timeout=60)
    if "--json" in words and done.returncode == 0:
        for document in done.stdout.splitlines():
            json.loads(document)
    if done.returncode != 0:
        print(done.stdout, done.stderr)
    return done.returncode


@pytest.mark.parametrize("group", groups())
def test_examples(world, group):
    for command in commands():
        if command["path"].split()[0] != group:
            continue
        assert command["examples"], command["path"]
        for example in command["examples"]:
            if "gpu top" in example and not shutil.which("tmux"):
                continue
            world.prepare(command["path"], example)
            if command["path"] in ("models stage", "models unstage") and not world.does_stage():
                continue  # the daemon of this build has no such route
            status = run_example(world, command, example)
            assert status in EXPECTED.get(example, {0}), f"{example}: {status}"
