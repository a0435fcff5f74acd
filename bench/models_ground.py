"""What the rows about models and downloads are measured on: many models on disk, a Hub on the loopback interface, and how
long programs take on them."""
import hashlib
import os
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "support"))
from fake_hub import FakeHub  # noqa: E402

MIB = 1 << 20
READ_BYTES = 10 * MIB  # as huggingface_hub reads


def median_ns(action, n=5):
    times = []
    for _ in range(n):
        began = time.monotonic_ns()
        action()
        times.append(time.monotonic_ns() - began)
    return sorted(times)[n // 2]


def run(command, environment=None):
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {done.stderr.decode(errors='replace').strip() or done.returncode}")
    return done.stdout


def environment_of(folder, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("POOL_", "HF_", "XDG_"))}
    return {**kept, "HOME": folder, "POOL_MODELS_DIRS": f"{folder}/models", "POOL_STATE_DIR": f"{folder}/state", **more}


def make_models(folder, n):
    """n downloaded models, empty files all of them: names are what a list reads."""
    for i in range(n):
        snapshot = f"{folder}/models/org/model-{i}/{i:040x}"
        os.makedirs(snapshot)
        with open(f"{snapshot}/model-{i}-q4_k_m.gguf", "wb"):
            pass


def make_shards(folder, n_files, n_bytes):
    """One model in several files, with its sums, as a download leaves it. Their paths."""
    snapshot = f"{folder}/models/org/shards/{'a' * 40}"
    os.makedirs(snapshot)
    lines = []
    for i in range(1, n_files + 1):
        name = f"m-{i:05}-of-{n_files:05}.gguf"
        content = os.urandom(n_bytes)
        with open(f"{snapshot}/{name}", "wb") as file:
            file.write(content)
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    with open(f"{snapshot}/.sha256", "w", encoding="ascii") as file:
        file.writelines(lines)
    return [f"{snapshot}/{line.split()[1]}" for line in lines]


def read_in_one_stream(url, path):
    with urllib.request.urlopen(url) as answer, open(path, "wb") as file:
        while chunk := answer.read(READ_BYTES):
            file.write(chunk)


def downloads_ns(folder, program, n_bytes):
    """How long a file of so many bytes takes: ours, ours over one connection, curl, and a single stream in Python."""
    with FakeHub() as hub:
        hub.piece = 4 * MIB
        content = os.urandom(n_bytes)
        commit = hub.add("org", "large", {"m.gguf": content})
        url = f"{hub.store.url}/{hashlib.sha256(content).hexdigest()}?signature=0&size={n_bytes}"
        environment = environment_of(folder, **hub.environment(f"{folder}/hf"))
        target = f"{folder}/models/org/large/{commit}/m.gguf"

        def ours(*arguments):
            run([program, "models", "download", f"hf:org/large@{commit}::file=m.gguf", "--force", *arguments], environment)

        def curl():
            run(["curl", "-sSf", "-o", f"{folder}/curl.out", "--noproxy", "*", url])

        def single():
            read_in_one_stream(url, f"{folder}/single.out")

        for action in (ours, curl, single):
            action()  # once, so that everything is where it will be
        times = {
            "ours": median_ns(ours, 3),
            "one": median_ns(lambda: ours("-c1"), 3),
            "curl": median_ns(curl, 3),
            "single": median_ns(single, 3),
        }
        with open(target, "rb") as file:
            if file.read() != content:
                raise OSError("other bytes than the server's")
        return times
