"""The start gate of a GPU. An engine that profiles free memory while it starts, played by the fake worker on the fake
driver: two that are started at once on one GPU start one after the other, and nothing else starts or stops meanwhile.
"""
import contextlib
import json
import os
import pathlib
import signal
import sqlite3
import threading

import pytest
from pool_host import FAKE_NVML, Host, wait_until
from test_daemon import Daemon

MIB = 1 << 20
GPU = "GPU-fa4e0000-0000-4000-8000-000000000000"


@pytest.fixture
def daemon(tmp_path, ports):
    claims = tmp_path / "claims"
    claims.mkdir()
    world = tmp_path / "world.conf"
    world.write_text(f"[driver]\nclaims = {claims}\n[gpu 0]\nuuid = {GPU}\ntotal = 24GiB\n")
    config = (f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\nrefresh_interval_ms = 200\n'
              '[backends.profiler]\nextends = "fake"\nexclusive_start = true\n')
    made = Daemon(Host(tmp_path, ports, device="gpu", config=config))
    made.claims = claims
    made.host.environment["FAKE_NVML_CONFIG"] = str(world)
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()
    made.host.stop_everything()


def begin(daemon, worker_id, backend="profiler", gate=None, mib=4096, **fields):
    arguments = ["--vram-claims", str(daemon.claims), "--vram", f"visible:{mib * MIB}"]
    if gate:
        arguments += ["--ready-when", str(daemon.host.gate(gate))]
    return daemon.ask("POST", "/v2/workers/start",
                      {"backend": backend, "model_ref": f"file:{daemon.host.model}", "worker_id": worker_id,
                       "gpu_id": 0, "required_vram_bytes": mib * MIB, "extra_args": arguments, **fields})


def status_of(daemon, worker_id):
    worker = daemon.worker(worker_id)
    return worker and worker["status"]


def is_taken(daemon, worker_id):
    """Whether the driver shows what the worker takes, so that it is in the middle of its start."""
    pid = daemon.worker(worker_id)["pid"]
    listed = daemon.get("/v2/gpus")[1]["gpus"][0]["processes"]
    return any(process["pid"] == pid for process in listed)


def test_two_that_profile_start_one_after_the_other(daemon):
    assert begin(daemon, "first", gate="first")[0] == 202
    status, answer, _ = begin(daemon, "second")
    assert (status, answer["status"], answer["pid"]) == (202, "spawning", None)
    assert begin(daemon, "third", backend="fake")[0] == 202
    second, third = daemon.worker("second"), daemon.worker("third")
    assert (second["queue_position"], second["queue_reason"], second["pid"]) == (1, "exclusive_start", None)
    assert (third["queue_position"], third["pid"]) == (2, None)
    # promised to all three, though only one runs
    wait_until(lambda: is_taken(daemon, "first"), what="the first one's memory in the driver's list")
    ledger = daemon.get("/v2/state")[1]["gpus"][0]["ledger"]
    assert ledger["workers"] == 3 and ledger["allocated_bytes"] == 3 * 4096 * MIB
    assert len(daemon.host.processes()) == 1

    daemon.host.open_gate("first")
    for worker_id in ("first", "second", "third"):
        wait_until(lambda: status_of(daemon, worker_id) == "ready", what=f"readiness of {worker_id}")
    first, second, third = (daemon.worker(worker_id) for worker_id in ("first", "second", "third"))
    assert second["queue_position"] is None and second["created_boottime_ns"] >= first["ready_boottime_ns"]
    assert third["created_boottime_ns"] >= second["ready_boottime_ns"]
    assert [r["kind"] for r in daemon.get("/v2/explain/second")[1]["explanations"]] == ["start", "start"]


def test_a_stop_waits_until_the_profiling_is_over(daemon):
    assert begin(daemon, "old", backend="fake", wait=True)[0] == 200
    assert begin(daemon, "new", gate="new")[0] == 202
    status, answer, _ = daemon.ask("POST", "/v2/workers/stop", {"worker_id": "old"})
    assert (status, answer["status"], answer["stop_phase"]) == (202, "stopping", "wait")
    wait_until(lambda: len(daemon.host.processes()) == 2, what="both processes")  # a moment after exec it has no environment
    daemon.host.open_gate("new")
    wait_until(lambda: status_of(daemon, "new") == "ready", what="readiness")
    wait_until(lambda: status_of(daemon, "old") == "stopped", what="the stop that waited")
    assert daemon.worker("old")["stop_reason"] == "requested"


def test_a_forced_stop_does_not_wait(daemon):
    assert begin(daemon, "old", backend="fake", wait=True)[0] == 200
    assert begin(daemon, "new", gate="new")[0] == 202
    assert daemon.stop("old", force=True)[0] == 200


def test_the_death_of_who_profiles_opens_the_gate(daemon):
    assert begin(daemon, "first", gate="never")[0] == 202
    assert begin(daemon, "second")[0] == 202
    assert daemon.worker("second")["queue_position"] == 1
    assert daemon.stop("first", force=True)[0] == 200
    wait_until(lambda: status_of(daemon, "second") == "ready", what="readiness")


def test_one_that_waits_can_be_stopped(daemon):
    assert begin(daemon, "first", gate="first")[0] == 202
    assert begin(daemon, "second")[0] == 202
    status, answer, _ = daemon.stop("second")
    assert (status, answer["status"], answer["stop_reason"]) == (200, "stopped", "requested")
    assert list(daemon.host.processes().values()) == ["first"]


def test_what_a_stopped_worker_held_is_released(daemon):
    assert begin(daemon, "w", backend="fake", wait=True)[0] == 200
    wait_until(lambda: is_taken(daemon, "w"), what="its memory in the driver's list")
    assert daemon.stop("w")[0] == 200

    def release():
        told = daemon.get("/v2/explain/w")[1]["explanations"]
        return [record for record in told if record["kind"] == "release"]
    wait_until(release, what="the release of its memory")
    facts = {fact["name"]: fact["number"] for fact in release()[0]["facts"]}
    assert facts["release_ms"] >= 0 and "left_bytes" not in facts


def test_a_daemon_that_does_not_queue_refuses(daemon):
    daemon.kill()
    daemon.host.environment["POOL_WORKERS_QUEUE_TIMEOUT_MS"] = "0"
    daemon.start()
    assert begin(daemon, "first", gate="first")[0] == 202
    status, answer, _ = begin(daemon, "second")
    assert (status, answer["error"]["code"], answer["error"]["retriable"]) == (409, "CONFLICT", True)
    assert answer["error"]["details"]["blocking_worker_id"] == "first"


def test_what_a_helper_of_a_worker_held_is_waited_for(daemon, tmp_path):
    """The driver lists a child of the worker: its memory is the worker's until it is off the list, when all have ended."""
    if os.readlink("/proc/self/ns/pid") != "pid:[4026531836]":
        pytest.skip("the driver's pids are others' numbers in this pid namespace")
    times, world = tmp_path / "times", tmp_path / "world.conf"
    quiet = world.read_text()
    assert begin(daemon, "w", backend="fake", wait=True, extra_args=[
        "--vram-claims", str(daemon.claims), "--vram", f"visible:{4096 * MIB}", "--grandchildren", "1", "--timestamps", str(times)])[0] == 200
    helper = int(dict(line.split() for line in times.read_text().splitlines())["grandchild_pid"])
    show(world, quiet + f"process = {helper} 1GiB\n")

    def is_noted():
        with contextlib.closing(sqlite3.connect(f"file:{daemon.host.state_dir}/pool.db?mode=ro", uri=True)) as db:
            notes = db.execute("SELECT text FROM note WHERE name = 'gpu_processes'").fetchall()
        return notes and helper in json.loads(notes[0][0])[0]["pids"]
    wait_until(is_noted, what="the note of its helper")
    for pid in (daemon.worker("w")["pid"], helper):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: status_of(daemon, "w") == "stopped", what="its end")
    assert begin(daemon, "next")[0] == 202
    assert daemon.worker("next")["queue_reason"] == "releasing"
    show(world, quiet)
    wait_until(lambda: status_of(daemon, "next") == "ready", what="readiness")


def show(world, text):
    """A world that a reader sees whole, before or after."""
    new = world.with_suffix(".new")
    new.write_text(text)
    new.rename(world)


@pytest.mark.parametrize("path", ["/v2/workers/start", "/v2/workers/check"])
def test_a_start_waits_for_the_first_word_of_the_driver(daemon, path):
    """A driver without persistence mode starts its GPUs for seconds: a daemon that has just started refuses nobody for that."""
    daemon.kill()
    world = pathlib.Path(daemon.host.environment["FAKE_NVML_CONFIG"])
    whole = world.read_text()
    slow = world.with_suffix(".slow")
    slow.write_text(whole.replace("[gpu 0]", "hang.nvmlInit_v2 = forever\n[gpu 0]"))
    slow.rename(world)
    daemon.start()
    wish = {"backend": "fake", "model_ref": f"file:{daemon.host.model}", "worker_id": "w", "gpu_id": 0,
            "required_vram_bytes": 4096 * MIB}
    answers = []
    asking = threading.Thread(target=lambda: answers.append(daemon.ask("POST", path, wish)))
    asking.start()
    # it does not keep anybody else waiting
    assert daemon.get("/v2/gpus")[1]["error"]["code"] == "GPU_UNAVAILABLE"
    assert daemon.get("/v2/workers")[0] == 200 and daemon.stop("nobody")[0] == 404
    assert not answers
    slow.write_text(whole)
    slow.rename(world)
    asking.join()
    assert answers[0][0] in (200, 202), answers


def test_a_daemon_ends_though_a_start_waits_for_the_driver(daemon):
    daemon.kill()
    world = pathlib.Path(daemon.host.environment["FAKE_NVML_CONFIG"])
    world.write_text(world.read_text().replace("[gpu 0]", "hang.nvmlInit_v2 = forever\n[gpu 0]"))
    daemon.start()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(begin(daemon, "w", "fake")))
    asking.start()
    wait_until(lambda: b"pool_mgr_http_connections 2\n" in daemon.get("/metrics")[1], what="the request")
    assert daemon.kill(signal.SIGTERM) == 0
    asking.join()
    assert answers[0][1]["error"]["code"] in ("CONFLICT", "GPU_UNAVAILABLE")
