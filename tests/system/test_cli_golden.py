"""What is printed, letter by letter: tables, facts and JSON of commands whose surroundings a test can make. Help has its golden
file in docs/cli.md (tests/unit/cli/test_commands.c). With POOL_UPDATE_GOLDEN=1 the file is written anew."""
import json
import os
import pathlib
import re

import pytest
from pool_host import Host

GOLDEN = pathlib.Path(__file__).parent / "golden" / "commands.txt"
GPUS = '''
[[gpus]]
uuid = "GPU-00000000-0000-4000-8000-000000000001"
name = "Test GPU"
vram_total_bytes = "24 GiB"
vram_used_bytes = "6 GiB"
[[gpus]]
uuid = "GPU-00000000-0000-4000-8000-000000000002"
name = "Another GPU with a name that is rather long"
vram_total_bytes = "80 GiB"
vram_used_bytes = 0
'''
COMMANDS = [
    ("gpu", "list"), ("gpu", "list", "-v"), ("gpu", "topology"), ("gpu", "show", "0"), ("gpu", "show", "7"),
    ("gpu", "processes"), ("gpu", "processes", "--json"), ("gpu", "top", "--once"), ("worker", "list"),
    ("worker", "list", "--json"), ("worker", "show", "nobody"), ("worker", "drain", "nobody", "--json"),
    ("worker", "spawn", "fake", "-m", "x", "--id", "a/b"), ("worker", "spawn", "fake", "-m", "x", "--env", "A-B=c", "--json"),
    ("gpu", "cordon", "1", "--reason", "fan fails"), ("gpu", "cordon", "7"), ("gpu", "cordon", "0", "--reason", ""),
    ("gpu", "list"), ("gpu", "show", "1"), ("gpu", "cordon", "1", "--json"), ("gpu", "uncordon", "1"), ("gpu", "uncordon", "1", "--json"),
    ("completion", "tcsh"), ("git", "status", "--repo", "/"), ("events",),
]


def masked(text, host):
    """Without what depends on the machine and the moment."""
    text = text.replace(str(host.directory), "DIR")
    text = re.sub(r'"(taken_boottime_ns|timestamp|cordoned_at)":("[^"]*"|\d+)', r'"\1":N', text)
    lines = []
    for line in text.splitlines():
        line = re.sub(r"^since: .*", "since:        TIME", line)
        if line.startswith("host memory"):
            line = "host memory"
        elif lines and lines[-1] == "host memory":
            line = re.sub(r"^\S+  .* available", "BAR  N of N available", line)
        elif re.match(r"\S+: 2 GPUs, 0 workers", line):
            line = re.sub(r"^\S+:", "POOL:", line)
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n" if lines else ""


@pytest.fixture
def gpu_host(tmp_path, ports):
    gpus = tmp_path / "gpus.toml"
    gpus.write_text(GPUS)
    host = Host(tmp_path, ports, config=f'[gpu]\ninventory = "static:{gpus}"\n')
    host.environment |= {"LC_ALL": "C.UTF-8", "COLUMNS": "80"}
    return host


def test_golden(gpu_host):
    shown = []
    for command in COMMANDS:
        done = gpu_host.run(*command)
        shown.append(f"$ rbees-pool {' '.join(command)}\n{masked(done.stdout, gpu_host)}{masked(done.stderr, gpu_host)}"
                     f"[{done.returncode}]\n")
        if "--json" in command:
            json.loads(done.stdout)
    text = "\n".join(shown)
    if os.environ.get("POOL_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
