"""A real llama-server with a real, tiny model: what the fake one can only pretend. POOL_LLAMA_SERVER names the
program; `./dev test` sets it.
"""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import urllib.request

import pytest
from pool_host import FAKE_NVML, Host, is_listening, is_running, wait_until

ENGINE = os.environ.get("POOL_LLAMA_SERVER")
SENTENCE = " hello this is a tiny model speaking one word at each step"
UUID = "GPU-fa4e0000-0000-4000-8000-000000000000"

pytestmark = pytest.mark.skipif(not ENGINE, reason="POOL_LLAMA_SERVER does not name a llama-server")


@pytest.fixture
def host(tmp_path, ports):
    """llama-server is found on the PATH, as the built-in backends look for it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "llama-server").symlink_to(pathlib.Path(shutil.which(ENGINE)).resolve())
    host = Host(tmp_path, ports, config=f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\n')
    host.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    yield host
    host.stop_everything()


def spawn(host, worker_id, *arguments, model=None, backend="cpu"):
    return host.json("worker", "spawn", backend, "--model", f"file:{model or host.model}", "--id", worker_id, "--wait",
                     *arguments)


def refusal(host, *arguments, model=None, backend="cpu", **options):
    return host.refusal("worker", "spawn", backend, "--model", f"file:{model or host.model}", "--id", "w", "--wait",
                        *arguments, **options)


def ask(port, path="/completion", **body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode() if body else None,
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def says(port):
    return ask(port, prompt="hello", n_predict=12, temperature=0)["content"]


def expected():
    """The sentence goes on from the prompt's last word."""
    words = SENTENCE.split()
    return {" " + " ".join((words * 2)[at:at + 12]) for at in (0, 1)}


def test_a_whole_life(host):
    """Ready when it is said to be; speaks when the command is long gone; leaves nothing when it is stopped."""
    answer = spawn(host, "w")
    assert answer["status"] == "ready" and host.rows()[0]["port_proof"] == "process_tree"
    with urllib.request.urlopen(f"{answer['uri']}/health", timeout=60) as health:
        assert health.status == 200
    assert says(answer["port"]) in expected()
    chat = ask(answer["port"], "/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], max_tokens=4,
               temperature=0)
    assert chat["choices"][0]["message"]["content"]
    row = host.json("worker", "stop", "w")
    assert row["status"] == "stopped" and row["stop_reason"] == "requested"
    assert row["exit_code"] == 0 or row["exit_signal"] == signal.SIGTERM
    assert host.processes() == {} and host.rows() == [] and not is_listening(answer["port"])
    assert not is_running(answer["pid"])


def test_nobody_waits(host):
    done = host.run("worker", "spawn", "cpu", "--model", f"file:{host.model}", "--id", "w", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["status"] == "spawning"
    wait_until(lambda: host.rows()[0]["status"] == "ready", what="readiness")
    assert says(json.loads(done.stdout)["port"]) in expected()


def test_it_survives_everybody_else(host):
    """The starting command and all around it are killed while it loads; it becomes ready and speaks."""
    shell = subprocess.Popen(["sh", "-c", '"$@" & wait', "sh", *host.command(
        "worker", "spawn", "cpu", "--model", f"file:{host.model}", "--id", "w", "--wait")], env=host.environment,
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: host.processes(), what="the worker")
    os.killpg(shell.pid, signal.SIGKILL)
    shell.communicate()
    wait_until(lambda: [row["status"] for row in host.rows()] == ["ready"], what="readiness")
    assert says(host.rows()[0]["port"]) in expected()


def test_what_was_asked_for_reaches_the_engine(host):
    answer = spawn(host, "w", "--ctx", 256, "--parallel", 2)
    props = ask(answer["port"], "/props")
    assert props["total_slots"] == 2
    assert props["default_generation_settings"]["n_ctx"] in (128, 256), "of each slot, or of all"
    assert props["model_path"] == str(host.model)
    row = host.rows()[0]
    assert row["ctx_size"] == 256 and row["parallel"] == 2
    arguments = pathlib.Path(f"/proc/{answer['pid']}/cmdline").read_bytes().split(b"\0")
    assert b"none" in arguments and arguments[arguments.index(b"-c") + 1] == b"256"
    variables = pathlib.Path(f"/proc/{answer['pid']}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=" in variables and b"LLAMA_ARG_FIT=off" in variables


def test_an_argument_of_the_owners_own(host):
    answer = spawn(host, "w", "--arg", "--alias", "--arg", "a name with blanks")
    assert ask(answer["port"], "/v1/models")["data"][0]["id"] == "a name with blanks"


def test_an_argument_that_the_engine_does_not_know(host):
    error = refusal(host, "--arg", "--no-such-option")
    assert error["code"] == "WORKER_START_FAILED" and error["details"]["exit_code"] != 0
    assert "--no-such-option" in json.dumps(error["details"])
    assert host.processes() == {} and host.rows() == []


def test_two_at_once(host):
    commands = [host.start("worker", "spawn", "cpu", "--model", f"file:{host.model}", "--id", f"w{i}", "--wait",
                           "--json") for i in range(2)]
    answers = [json.loads(command.communicate(timeout=60)[0]) for command in commands]
    assert sorted(answer["port"] for answer in answers) == [host.ports[0], host.ports[0] + 1]
    for answer in answers:
        assert says(answer["port"]) in expected()
    assert host.run("worker", "stop", "w0").returncode == 0
    assert says(answers[1]["port"]) in expected(), "the other one does not notice"


def test_stopped_in_the_middle_of_an_answer(host):
    answer = spawn(host, "w")
    connection = http.client.HTTPConnection("127.0.0.1", answer["port"], timeout=120)
    connection.request("POST", "/completion", json.dumps({"prompt": "hello", "n_predict": -1, "stream": True}),
                       {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.read(64)
    row = host.json("worker", "stop", "w", "--grace", 1000)
    assert row["status"] == "stopped" and host.processes() == {} and not is_listening(answer["port"])
    with contextlib.suppress(OSError, http.client.HTTPException):
        response.read()
    connection.close()


def test_the_same_port_at_once_again(host):
    """Connections of the first life are in TIME_WAIT: the side that closes first has them, so the worker."""
    answer = spawn(host, "one", "--port", host.ports[0] + 7)
    connections = []
    for _ in range(5):
        connection = socket.create_connection(("127.0.0.1", answer["port"]))
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(4096)
        connections.append(connection)
    assert host.run("worker", "stop", "one").returncode == 0
    for connection in connections:
        connection.close()
    with open("/proc/net/tcp") as table:
        waiting = [line for line in table if f":{answer['port']:04X} " in line and line.split()[3] == "06"]
    assert waiting, "nothing is in TIME_WAIT: the test does not test"
    assert spawn(host, "two", "--port", answer["port"])["port"] == answer["port"]
    assert says(answer["port"]) in expected()


# ---- models that are none ----


def test_a_model_that_is_cut_off(host):
    model = host.models / "cut.gguf"
    model.write_bytes(host.model.read_bytes()[:-1000])
    error = refusal(host, model=model)
    assert error["code"] == "MODEL_CORRUPT" and host.rows() == [] and host.processes() == {}


@pytest.mark.parametrize("damage", ["head", "keys", "counts"])
def test_a_model_whose_header_is_damaged(host, damage):
    image = bytearray(host.model.read_bytes())
    if damage == "head":
        image[4:8] = (99).to_bytes(4, "little")
    elif damage == "keys":
        image[24:200] = os.urandom(176)
    else:
        image[8:24] = b"\xff" * 16
    model = host.models / "bad.gguf"
    model.write_bytes(image)
    error = refusal(host, model=model)
    assert error["code"] in ("MODEL_CORRUPT", "MODEL_INCOMPATIBLE")
    assert host.rows() == [] and host.processes() == {}


def test_a_file_of_another_kind(host):
    model = host.models / "notes.gguf"
    model.write_text("no model at all\n" * 100)
    assert refusal(host, model=model)["code"] == "MODEL_INCOMPATIBLE"


def test_an_architecture_that_the_engine_does_not_know(host):
    """Only the engine can tell; its own words are in the error."""
    model = host.models / "unknown.gguf"
    model.write_bytes(host.model.read_bytes().replace(b"llama", b"nobdy"))  # in the value and in the keys
    error = refusal(host, model=model)
    assert error["code"] == "WORKER_START_FAILED", error
    assert "nobdy" in json.dumps(error["details"])
    assert host.all_rows()["w"]["stop_reason"] == "start_failed"
    assert host.rows() == [] and host.processes() == {}


# ---- devices ----


def test_cuda_with_an_engine_that_has_none(host, tmp_path):
    """A CPU-only build takes -ngl, runs on the CPU and calls itself healthy. So it is asked what it can."""
    listed = subprocess.run([ENGINE, "--list-devices"], capture_output=True, text=True).stdout
    if "CUDA" in listed:
        pytest.skip("this engine has CUDA")
    world = tmp_path / "nvml.conf"
    world.write_text(f"[gpu 0]\nuuid = {UUID}\n")
    for _ in range(2):  # asked, and then remembered
        error = refusal(host, backend="cuda", environment={"FAKE_NVML_CONFIG": str(world)})
        assert error["code"] == "BACKEND_UNAVAILABLE" and error["retriable"] is False
    assert host.rows() == [] and host.processes() == {}


def test_backends_that_can_not_be_here(host):
    assert refusal(host, backend="metal")["code"] == "BACKEND_UNAVAILABLE"
    assert refusal(host, backend="native")["code"] == "BACKEND_UNAVAILABLE"
    assert refusal(host, backend="nothing")["code"] == "BACKEND_NOT_FOUND"


def test_more_memory_than_there_is(host):
    error = refusal(host, "--vram", "900TiB")
    assert error["code"] == "INSUFFICIENT_MEMORY"
    assert error["retriable"] is False, "it will never fit"
    assert error["details"]["required_memory_bytes"] == 900 << 40
    assert error["details"]["total_bytes"] < 900 << 40
