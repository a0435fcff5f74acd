"""What rbees-pool shows on a terminal, seen in tmux: the live view and the progress of a start, in a small and a large window.
Nothing here waits for a time: the screen is looked at until it shows what it should."""
import hashlib
import os
import random
import re
import shutil
import signal
import sys

import pytest
from pool_host import ROOT, Host, is_running
from tmux_screen import screen

sys.path.insert(0, str(ROOT / "tests" / "support"))
from fake_hub import FakeHub  # noqa: E402

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")

SIZES = [(80, 24), (200, 60)]
GPU = ('[[gpus]]\nuuid = "GPU-00000000-0000-4000-8000-00000000000{n}"\nname = "Test GPU {n}"\n'
       'vram_total_bytes = "24 GiB"\nvram_used_bytes = "6 GiB"\n')


@pytest.fixture
def gpu_host(tmp_path, ports):
    gpus = tmp_path / "gpus.toml"
    gpus.write_text(GPU.format(n=1) + GPU.format(n=2))
    host = Host(tmp_path, ports, config=f'[gpu]\ninventory = "static:{gpus}"\n')
    host.environment["LC_ALL"] = "C.UTF-8"
    host.environment.pop("NO_COLOR", None)
    yield host
    host.stop_everything()


def top(host, size, *arguments, **environment):
    return screen(*size, host.command("gpu", "top", *arguments), {**host.environment, **environment})


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_live_view(gpu_host, size):
    host = gpu_host
    for name in ("one", "two"):
        assert host.spawn(name, "--wait").returncode == 0
    with top(host, size) as view:
        text = view.wait_for(lambda text: "Test GPU 2" in text and "two" in text and "q quit" in text)
        assert view.is_other_page()
        lines = text.rstrip("\n").split("\n")
        assert len(lines) <= size[1] and max(map(len, lines)) <= size[0]
        assert "2 GPUs, 2 workers, by memory" in lines[0] and "observed" in lines[1]
        bar = next(line for line in lines if "of 24.0 GiB available" in line)
        assert "▒" in bar and "░" in bar and bar.index("▒") < bar.index("░")
        assert 0.15 < bar.count("▒") / (bar.count("▒") + bar.count("░")) < 0.35  # 6 of 24 GiB are foreign
        assert lines[-1].startswith("q quit")
        assert re.search(r"^> one +ready +cpu", text, re.M) and re.search(r"^  two +ready", text, re.M)
        view.keys("Down")
        view.wait_for(lambda text: re.search(r"^> two", text, re.M))
        view.keys("s")
        view.wait_for("by age")
        view.keys("h")
        view.wait_for("Any key goes back")
        view.keys("Space")
        view.wait_for("by age")
        view.keys("x")
        view.wait_for("Stop worker two? [y/N]")
        view.keys("n")
        view.wait_for("q quit")
        assert len(host.rows()) == 2
        view.keys("l")  # its log has the terminal
        view.wait_for(lambda text: "listening" in text and "GPU" not in text)
        assert not view.is_other_page()
        view.keys("C-c")
        view.wait_for("Test GPU 1")
        view.keys("x")
        view.wait_for("Stop worker two? [y/N]")
        view.keys("y")
        view.wait_for("stopped worker two")
        view.wait_for("1 worker,")
        view.resize(size[0] + 20, size[1] + 5)
        view.wait_for(lambda text: max(map(len, text.split("\n"))) > size[0])
        view.resize(60, 12)
        view.wait_for(lambda text: max(map(len, text.rstrip().split("\n"))) <= 60 and "one" in text)
        view.keys("q")
        view.wait_for("status 0")
        assert not view.is_other_page()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_terminal_is_given_back(gpu_host, number):
    with top(gpu_host, (80, 24)) as view:
        view.wait_for("Test GPU 1")
        shell = int(view.tmux("display-message", "-p", "#{pane_pid}"))
        with open(f"/proc/{shell}/task/{shell}/children", encoding="ascii") as children:
            (pid,) = map(int, children.read().split())
        os.kill(pid, number)
        view.wait_for("status 0")
        assert not view.is_other_page()
        view.keys("typed", "Enter")  # echo is on again, and cat has a line
        view.wait_for(lambda text: text.count("typed") == 2)


def test_stopped_and_continued(gpu_host):
    """^Z gives the terminal to the shell; fg brings the view back."""
    with screen(80, 24, ["bash", "--norc", "-i"], {**gpu_host.environment, "PS1": "prompt> "}) as view:
        view.wait_for("prompt>")
        view.keys(" ".join(gpu_host.command("gpu", "top")), "Enter")
        view.wait_for("Test GPU 1")
        view.keys("C-z")
        view.wait_for("Stopped")
        assert not view.is_other_page()
        view.keys("fg", "Enter")
        view.wait_for(lambda text: "Test GPU 1" in text and "Stopped" not in text)
        view.keys("q")
        view.wait_for(lambda text: text.rstrip().endswith("prompt>"))


def test_plain_terminal(gpu_host):
    """Neither colours nor anything but ASCII where they are not wanted."""
    with top(gpu_host, (80, 24), LC_ALL="C", NO_COLOR="1") as view:
        text = view.wait_for("Test GPU 1")
        assert text.isascii() and "#" in text and "x" in text
        assert "\x1b[3" not in view.text("-e")
    with top(gpu_host, (80, 24)) as view:
        view.wait_for("Test GPU 1")
        assert "\x1b[3" in view.text("-e")


def set_gpus(host, text):
    """At once: a file that is read while it is written is a shorter one."""
    fresh = host.directory / "gpus.new"
    fresh.write_text(text)
    fresh.replace(host.directory / "gpus.toml")


def test_problems_are_said(gpu_host):
    """What can not be asked is said in the last line; the view goes on and comes back when it can."""
    set_gpus(gpu_host, "nonsense")
    with top(gpu_host, (80, 24), "--interval", "100") as view:
        view.wait_for("INVALID_CONFIG")
        set_gpus(gpu_host, GPU.format(n=7))
        view.wait_for("Test GPU 7")
        set_gpus(gpu_host, "nonsense")
        text = view.wait_for("INVALID_CONFIG")
        assert "Test GPU 7" in text  # what was known stays
        view.keys("q")
        view.wait_for("status 0")


def test_many_devices_in_a_small_window(gpu_host):
    set_gpus(gpu_host, "".join(GPU.format(n=n) for n in range(1, 10)).replace(
        "00000000000", "0000000000f"))
    for name in ("w1", "w2", "w3", "w4", "w5"):
        assert gpu_host.spawn(name).returncode == 0
    with top(gpu_host, (80, 20)) as view:
        text = view.wait_for(lambda text: "w1" in text and "GPU 8" in text and "q quit" in text)
        assert len(text.rstrip("\n").split("\n")) <= 20 and "q quit" in text
        view.keys("End")
        view.wait_for(lambda text: re.search(r"^> w5", text, re.M))
        view.keys("Home")
        view.wait_for(lambda text: re.search(r"^> w1", text, re.M))


def test_not_a_terminal(gpu_host):
    error = gpu_host.run("gpu", "top")
    assert error.returncode == 2 and "--once" in error.stderr
    once = gpu_host.run("gpu", "top", "--once")
    assert once.returncode == 0 and "Test GPU 1" in once.stdout and "\x1b" not in once.stdout
    with screen(80, 24, gpu_host.command("gpu", "top"), gpu_host.environment) as view:
        view.wait_for("Test GPU 1")
    assert gpu_host.refusal("gpu", "top")["details"]["field"] == "json"


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_progress_of_a_start(gpu_host, size):
    """One line, drawn in place: it never goes on in the next one, however long the worker's name is."""
    host = gpu_host
    name = "long-name-" * 6
    words = ["worker", "spawn", "fake", "-m", f"file:{host.model}", "--id", name, "--wait", "--", "--never-ready"]
    with screen(*size, host.command(*words), host.environment) as view:
        first = view.wait_for(lambda text: re.search(r"starting, \d+\.\d s", text))
        shown = re.search(r"starting, (\d+\.\d) s", first)[1]
        text = view.wait_for(lambda text: (seen := re.search(r"starting, (\d+\.\d) s", text)) and seen[1] != shown)
        assert text.count("starting") == 1 and len(text.rstrip().split("\n")) == 1
        view.keys("C-c")
        view.wait_for("status 130")
    (row,) = host.rows()
    assert row["status"] == "spawning" and is_running(row["pid"])


@pytest.mark.parametrize("plain", [False, True], ids=["utf8", "ascii"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_progress_of_a_download(gpu_host, size, plain):
    """One line with a bar, drawn in place and gone at the end: stopped by Ctrl-C, gone on with, and finished. The Hub holds
    back the rest until the test has seen the bar."""
    content = random.Random(3).randbytes((3 << 20) + 321)  # four pieces
    name = "a-model-whose-name-is-long-" * 3 + "q4_k_m.gguf"
    full, empty = "#." if plain else "█░"
    line_of = re.compile(rf"q4_k_m\.gguf \[?([{full}]*)([{empty}]*)\]? +(\d+) %  ([\d.]+ [KM]iB) of 3\.0 MiB")

    def is_shown(text):
        return (seen := line_of.search(text)) and int(seen[3]) > 0

    with FakeHub() as hub:
        commit = hub.add("org", "model", {name: content})
        environment = {**gpu_host.environment, **hub.environment(gpu_host.directory / "hf"), "HF_HUB_DOWNLOAD_TIMEOUT": "600"}
        environment |= {"HOME": str(gpu_host.directory), "LC_ALL": "C" if plain else "C.UTF-8"}
        words = gpu_host.command("models", "download", "hf:org/model")
        hub.misbehave(None, "stall", "stall", "stall")
        with screen(*size, words, environment) as view:
            text = view.wait_for(is_shown)
            seen = line_of.search(text)
            line = seen.string[seen.string.rfind("\n", 0, seen.start()) + 1:].split("\n")[0]
            assert len(text.rstrip().split("\n")) == 1 and len(line) < size[0]
            cells = len(seen[1]) + len(seen[2])
            assert cells >= 5 and len(seen[1]) == cells * int(seen[3]) // 100 and int(seen[3]) < 100
            view.keys("C-c")
            text = view.wait_for("status 130")
            assert not line_of.search(text) and "the same command goes on from there" in text.replace("\n", "")
        hub.gate.set()
        hub.gate.clear()
        hub.misbehave("stall")  # this one is watched until the rest comes
        with screen(*size, words, environment) as view:
            view.wait_for(is_shown)
            hub.gate.set()
            text = view.wait_for("status 0")
            assert not line_of.search(text)  # the bar is gone, the result stays
        (path,) = gpu_host.models.glob(f"org/model/{commit}/*.gguf")
        assert path.name == name and hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()


def test_watched_list(gpu_host):
    host = gpu_host
    with screen(80, 24, host.command("worker", "list", "--watch"), host.environment) as view:
        view.wait_for("STATUS")
        assert host.spawn("one", "--wait").returncode == 0
        view.wait_for(lambda text: len(re.findall(r"ID +STATUS", text)) == 1 and re.search(r"^one +ready", text, re.M))
        assert host.run("worker", "stop", "one", "--force").returncode == 0
        view.wait_for(lambda text: "one" not in text and "STATUS" in text)
        view.keys("C-c")
        view.wait_for("status 0")


def test_asking_before_something_is_lost(gpu_host, tmp_path):
    from test_cli_git import Repositories
    repos = Repositories(tmp_path / "git")
    (repos.clone / "a.txt").write_text("mine\n")
    command = [gpu_host.command()[0], "git", "sync", "--force", "--repo", repos.clone]
    for answer, status, kept in (("n", 130, True), ("Enter", 130, True), ("y", 0, False)):
        with screen(80, 24, command, repos.environment) as view:
            view.wait_for("Discard 1 changed file? [y/N]")
            view.keys(*([answer, "Enter"] if answer != "Enter" else ["Enter"]))
            view.wait_for(f"status {status}")
        assert ((repos.clone / "a.txt").read_text() == "mine\n") == kept
