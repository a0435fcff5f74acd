"""Workers that take memory of a GPU: admission, attribution, release, and what the daemon hears from the driver."""
import json
import os
import signal
import subprocess
import time

from gpu_ground import CONTEXT_MAX_BYTES, MIB, SUPPORT, TOLERANCE_BYTES, ask_smi, used_by_smi, wait_until


def check_one_worker(ground, report, uuid, taken_bytes):
    """A row of the table: what it allocated, what the driver says of it, how long its end took."""
    before_bytes = used_by_smi(uuid)
    worker_id = f"takes-{taken_bytes // MIB}"
    answer = ground.spawn(worker_id, uuid, taken_bytes, taken_bytes + CONTEXT_MAX_BYTES)
    if "error" in answer:
        report.check(False, f"{worker_id} starts: {answer['error']['message']}")
        return None
    held = wait_until(lambda: ground.held_bytes(worker_id))
    if held is None:
        report.check(False, f"the driver says what {worker_id} holds (in a container it may not)")
        held = 0
    else:
        report.check(taken_bytes <= held <= taken_bytes + CONTEXT_MAX_BYTES,
                     f"{worker_id}: allocated {taken_bytes}, attributed {held} by the driver")
    by_smi = [int(app["used_memory"]) * MIB for app in ask_smi("compute-apps", ("pid", "used_memory"))
              if app["pid"] == str(answer["pid"]) and app["used_memory"].isdigit()]
    report.check(bool(by_smi) and abs(by_smi[0] - held) <= MIB, f"{worker_id}: nvidia-smi says {by_smi} of pid {answer['pid']}")
    began = time.monotonic()
    ground.ask("worker", "stop", worker_id)
    stopped = time.monotonic()
    is_free = wait_until(lambda: used_by_smi(uuid) <= before_bytes + TOLERANCE_BYTES)
    free = time.monotonic()
    report.check(bool(is_free), f"{worker_id}: what it held is free again")
    facts = wait_until(lambda: ground.facts(worker_id, "release"))
    report.check(bool(facts) and "left_bytes" not in facts, f"{worker_id}: the release was recorded: {facts}")
    return [taken_bytes // MIB, held // MIB, (held - taken_bytes) // MIB, f"{(stopped - began) * 1000:.0f}",
            f"{(free - stopped) * 1000:.0f}", facts.get("release_ms", "-")]


def check_sizes(ground, report, uuid):
    report.section("Admission, attribution and release")
    free_bytes = ground.gpu(uuid)["vram_free_bytes"]
    sizes = [256 * MIB, 1024 * MIB, (free_bytes - CONTEXT_MAX_BYTES) // 2 // MIB * MIB]
    rows = [check_one_worker(ground, report, uuid, size) for size in sizes if size + CONTEXT_MAX_BYTES <= free_bytes]
    report.table(["allocated MiB", "attributed MiB", "context MiB", "stop ms", "until nvidia-smi shows it free ms",
                  "release as recorded ms"], [row for row in rows if row])


def settled_free_bytes(ground, uuid):
    """What our snapshot says, once it is as new as what has ended: until then it shows memory of workers that are gone."""
    def settled():
        ours = ground.gpu(uuid)["vram_free_bytes"]
        theirs = next(int(gpu["memory.free"]) * MIB for gpu in ask_smi("gpu", ("uuid", "memory.free")) if gpu["uuid"] == uuid)
        return ours if abs(ours - theirs) <= TOLERANCE_BYTES else None
    return wait_until(settled) or ground.gpu(uuid)["vram_free_bytes"]


def check_refusals(ground, report, uuid):
    report.section("What does not fit")
    free_bytes = settled_free_bytes(ground, uuid)
    half = free_bytes * 6 // 10
    first = ground.spawn("first", uuid, 256 * MIB, half)
    report.check("error" not in first, f"60 % of what is free are promised to a worker: {first.get('status')}")
    second = ground.spawn("second", uuid, 256 * MIB, half).get("error", {})
    details = second.get("details", {})
    report.check(second.get("code") == "INSUFFICIENT_VRAM", f"the same again is refused: {second.get('message')}")
    parts = [details.get(name) for name in ("free_bytes", "pending_bytes", "headroom_bytes", "available_vram_bytes")]
    report.check(None not in parts and parts[0] - parts[1] - parts[2] == parts[3] < half,
                 f"with its arithmetic: {parts[0]} free - {parts[1]} promised - {parts[2]} headroom = {parts[3]}")
    ground.ask("worker", "stop", "first")
    third = ground.spawn("third", uuid, 256 * MIB, half)
    report.check("error" not in third, f"after the first has ended it starts: {third.get('status', third)}")
    if "pid" in third:
        before_bytes = used_by_smi(uuid)
        os.kill(third["pid"], signal.SIGKILL)
        gone = wait_until(lambda: all(row["worker_id"] != "third" for row in ground.ask("worker", "list")["workers"]))
        report.check(bool(gone), "killed with SIGKILL it is noticed")
        report.check(bool(wait_until(lambda: used_by_smi(uuid) <= before_bytes - 256 * MIB + TOLERANCE_BYTES)),
                     "and its memory comes back")


def probe_pids(daemon_pid):
    done = subprocess.run(["pgrep", "-P", str(daemon_pid), "pool-gpu-probe"], capture_output=True, text=True, check=False)
    return done.stdout.split()


def check_quiet_events(ground, report, seconds):
    """While nothing is wrong no fault is told of, and the helper that waits for them is the same."""
    report.section(f"{seconds} s of waiting for events")
    helper = probe_pids(ground.daemon.pid)
    report.check(len(helper) == 1, f"one helper asks the driver: {helper}")
    time.sleep(seconds)
    log = ground.log.read_text()
    for name in ("gpu.fault", "gpu.trouble", "gpu.stale"):
        report.check(f'"{name}' not in log, f"no {name} in the log")
    report.check(probe_pids(ground.daemon.pid) == helper, "and it was not replaced")


def measure_calls(report):
    report.section("What calls of NVML cost")
    done = subprocess.run([SUPPORT / "nvml-costs"], capture_output=True, text=True, timeout=600, check=False)
    report.check(done.returncode == 0, f"NVML can be asked {done.stderr.strip()}")
    if done.returncode == 0:
        report.table(["call", "code", "median us", "max us"], [list(row.values()) for row in json.loads(done.stdout)])
