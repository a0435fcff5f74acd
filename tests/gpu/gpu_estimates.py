"""Estimates against what the driver says of a real engine, with and without what was learned. Needs a llama-server that was built
with CUDA: POOL_CUDA_LLAMA_SERVER=/path/llama-server."""
import json
import os
import pathlib
import subprocess
import sys

from gpu_ground import MIB, PATIENCE_S, ROOT, wait_until

SHAPES = ("llama", "qwen2", "gemma3", "mixtral", "mamba")


def has_cuda(engine):
    done = subprocess.run([engine, "--list-devices"], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return "CUDA" in done.stdout + done.stderr


def estimated(ground, model, uuid):
    """(bytes, where they come from) of a start as it would be now."""
    done = ground.run("worker", "spawn", "cuda", "--model", f"file:{model}", "--gpu", uuid, "--ctx", 8192, "--dry-run")
    plan = json.loads(done.stdout)
    return plan["reserved_vram_bytes"], plan["reserved_source"]


def check_shape(ground, report, uuid, shape):
    model = ground.model.parent / f"{shape}.gguf"
    subprocess.run([sys.executable, ROOT / "tests/support/make-arch-gguf", shape, model], check=True)
    first, source = estimated(ground, model, uuid)
    done = ground.run("worker", "spawn", "cuda", "--model", f"file:{model}", "--id", shape, "--gpu", uuid, "--ctx", 8192,
                      "--wait")
    if done.returncode != 0:
        report.check(False, f"{shape} starts: {done.stdout}")
        return None
    held = wait_until(lambda: ground.held_bytes(shape)) or 0
    wait_until(lambda: estimated(ground, model, uuid)[1] != source, seconds=30)
    ground.ask("worker", "stop", shape)
    second, learned_from = estimated(ground, model, uuid)
    report.check(held <= first, f"{shape}: {source} {first} is enough for {held}")
    report.check(held <= second < max(first, held + 1) * 1.01, f"{shape}: {learned_from} {second} is enough, and no more than before")
    return [shape, held // MIB, first // MIB, f"{(first - held) * 100 // max(held, 1)} %", second // MIB, learned_from]


def check_estimates(ground, report, uuid):
    report.section("Estimates against the driver")
    engine = os.environ.get("POOL_CUDA_LLAMA_SERVER")
    if not engine or not pathlib.Path(engine).exists() or not has_cuda(engine):
        report.note("SKIPPED: POOL_CUDA_LLAMA_SERVER does not name a llama-server that sees a CUDA device")
        return
    rows = [check_shape(ground, report, uuid, shape) for shape in SHAPES]
    report.table(["model", "held MiB", "estimate MiB", "over", "second start MiB", "from"], [row for row in rows if row])
