"""A start that asks for room: it may displace workers that its request names, no more of them than it needs, and nobody else.
Workers are the fake one on the fake driver; they say what they work on as llama-server does.
"""
import http.client
import json
import threading

import pytest
from pool_host import FAKE_NVML, Host, wait_until
from test_daemon import Daemon, read_events

GIB = 1 << 30
GPUS = ["GPU-fa4e0000-0000-4000-8000-000000000000", "GPU-fa4e0001-0000-4000-8000-000000000000"]
CONFIG = (f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\nrefresh_interval_ms = 200\nvram_headroom_bytes = 0\n'
          '[backends.told]\nextends = "fake"\nactivity = "llama-server"\n'
          '[backends.profiler]\nextends = "told"\nexclusive_start = true\n')


def write_world(host, strangers_gib=0, pid=1):
    """Two GPUs; on the first a stranger, or a process that has ended, who has so much of it."""
    text = f"[driver]\nclaims = {host.claims}\n"
    for i, uuid in enumerate(GPUS):
        text += f"[gpu {i}]\nuuid = {uuid}\ntotal = 24GiB\nreserved = 0\n"
        text += f"used = {strangers_gib}GiB\nprocess = {pid} {strangers_gib}GiB\n" if strangers_gib and i == 0 else ""
    host.world.with_suffix(".new").write_text(text)
    host.world.with_suffix(".new").rename(host.world)


def make_host(tmp_path, ports):
    host = Host(tmp_path, ports, device="gpu", config=CONFIG)
    host.claims = tmp_path / "claims"
    host.claims.mkdir()
    host.world = tmp_path / "world.conf"
    write_world(host)
    host.environment["FAKE_NVML_CONFIG"] = str(host.world)
    return host


@pytest.fixture
def daemon(tmp_path, ports):
    made = Daemon(make_host(tmp_path, ports))
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()
    made.host.stop_everything()


@pytest.fixture
def host(tmp_path, ports):
    made = make_host(tmp_path, ports)
    yield made
    made.stop_everything()


def arguments_of(host, gib, *more):
    return ["--vram-claims", str(host.claims), "--vram", f"visible:{gib * GIB}", *more]


def request(daemon, worker_id, gib=8, gpu=0, backend="told", more=(), **fields):
    return {"backend": backend, "model_ref": f"file:{daemon.host.model}", "worker_id": worker_id, "gpu_id": gpu,
            "required_vram_bytes": gib * GIB, "extra_args": arguments_of(daemon.host, gib, *more), **fields}


def begin(daemon, *arguments, **fields):
    return daemon.ask("POST", "/v2/workers/start", request(daemon, *arguments, **fields))


def fill(daemon, *names, gib=8, gpu=0, **fields):
    """Workers that are ready and have taken what they were promised."""
    for name in names:
        status, answer, _ = begin(daemon, name, gib=gib, gpu=gpu, wait=True, **fields)
        assert status == 200, answer
    wait_until(lambda: taken(daemon) >= set(names), what="their memory in the driver's list")


def taken(daemon):
    """Whose processes the driver lists."""
    pids = {process["pid"] for gpu in daemon.get("/v2/gpus")[1]["gpus"] for process in gpu["processes"]}
    return {worker["worker_id"] for worker in daemon.get("/v2/workers")[1]["workers"] if worker["pid"] in pids}


def ids(daemon):
    return sorted(worker["worker_id"] for worker in daemon.get("/v2/workers")[1]["workers"])


def become_ready(daemon, worker_id):
    wait_until(lambda: (daemon.worker(worker_id) or {}).get("status") in ("ready", "stopped"),
               what=f"readiness of {worker_id}")
    worker = daemon.worker(worker_id)
    told = "\n".join(record["message"] for record in daemon.get(f"/v2/explain/{worker_id}")[1]["explanations"])
    assert worker["status"] == "ready", f"{worker}\n{told}"
    return worker


def keep_busy(worker):
    """A request in flight for as long as anybody looks."""
    connection = http.client.HTTPConnection("127.0.0.1", worker["port"], timeout=60)
    connection.request("POST", "/fake/busy?ms=600000")
    assert connection.getresponse().read() is not None
    connection.close()


def explanations(daemon, worker_id, kind):
    told = daemon.get(f"/v2/explain/{worker_id}")[1]["explanations"]
    return [record for record in told if record["kind"] == kind]


def facts(record):
    return {fact["name"]: fact["text"] if fact["text"] is not None else fact["number"] for fact in record["facts"]}


# ---- by the daemon


def test_as_few_as_it_takes_and_nobody_else(daemon):
    seen = []
    threading.Thread(target=read_events, args=(daemon, seen), daemon=True).start()
    fill(daemon, "a", "b", "c", labels={"team": "batch"})
    status, answer, _ = begin(daemon, "new", may_displace={"worker_ids": ["b", "gone"]})
    assert (status, answer["status"], answer["pid"]) == (202, "spawning", None), answer
    new = become_ready(daemon, "new")
    assert ids(daemon) == ["a", "c", "new"] and new["queue_reason"] is None
    assert daemon.worker("b")["stop_reason"] == "requested"
    # how it came about, on both sides and in the same words
    record, = explanations(daemon, "b", "displacement")
    told = facts(record)
    assert told["displaced_for"] == "new" and told["gives_back_bytes"] == 8 * GIB and told["n_displaced"] == 1
    assert told["available_after_bytes"] - told["available_bytes"] == 8 * GIB
    started, queued = explanations(daemon, "new", "start")
    assert facts(queued)["displaces"] == "b" and facts(queued)["queued_for"] == "displacing"
    assert facts(started)["displaced"] == "b"
    wait_until(lambda: any(event.get("event") == "explain.displacement" for event in seen), what="the event")
    event = [json.loads(event["data"]) for event in seen if event.get("event") == "explain.displacement"]
    assert event == [record]


def test_the_check_says_who_would_be_stopped(daemon):
    fill(daemon, "a", "b", "c", labels={"team": "batch"})
    wanted = request(daemon, "new", gib=12, may_displace={"labels": {"team": "batch"}})
    status, answer, _ = daemon.ask("POST", "/v2/workers/check", wanted)
    assert status == 200, answer
    room = answer["room"]
    assert room["wait_reason"] == "displacing" and len(room["displaces"]) == 2
    assert all(each["gives_back_bytes"] == 8 * GIB and each["idle_ms"] >= 0 for each in room["displaces"])
    assert answer["ledger"]["available_bytes"] == 0 and room["ledger_after"]["available_bytes"] == 16 * GIB
    assert ids(daemon) == ["a", "b", "c"]
    # longest idle first: a was ready before b
    assert [each["worker_id"] for each in room["displaces"]] == ["a", "b"]
    text = daemon.host.run("worker", "spawn", "told", "--model", f"file:{daemon.host.model}", "--gpu", "0", "--vram",
                           "12GiB", "--may-displace", "team=batch", "--dry-run").stdout
    assert "would stop:" in text and "a (8.0 GiB, idle" in text and "16.0 GiB" in text


def test_what_needs_nobody_stops_nobody(daemon):
    fill(daemon, "a", "b")
    status, answer, _ = begin(daemon, "new", may_displace={"worker_ids": ["a", "b"]}, wait=True)
    assert status == 200, answer
    assert ids(daemon) == ["a", "b", "new"]


def test_a_busy_one_is_spared(daemon):
    fill(daemon, "a", "b", "c")
    keep_busy(daemon.worker("a"))
    status, answer, _ = begin(daemon, "new", may_displace={"worker_ids": ["a"]})
    error = answer["error"]
    assert (status, error["code"], error["retriable"]) == (507, "INSUFFICIENT_VRAM", True)
    assert error["details"]["spared"] == "a: works on 1 request" and error["details"]["displaceable_bytes"] == 0
    assert error["details"]["explain_id"]
    assert ids(daemon) == ["a", "b", "c"]
    # another one that is idle is taken in its place
    assert begin(daemon, "new", may_displace={"worker_ids": ["a", "c"]}, wait=True)[0] == 200
    assert ids(daemon) == ["a", "b", "new"]
    # and a busy one when that is asked for
    assert begin(daemon, "more", may_displace={"worker_ids": ["a"], "idle_only": False}, wait=True)[0] == 200
    assert ids(daemon) == ["b", "more", "new"]


def test_one_that_does_not_say_what_it_does_counts_as_busy(daemon):
    fill(daemon, "a", gib=20, backend="fake")
    status, answer, _ = begin(daemon, "new", may_displace={"worker_ids": ["a"]})
    assert (status, answer["error"]["details"]["spared"]) == (507, "a: does not say whether it works")
    assert begin(daemon, "new", may_displace={"worker_ids": ["a"], "idle_only": False}, wait=True)[0] == 200


def test_another_device_does_not_help(daemon):
    fill(daemon, "a", gib=24)
    fill(daemon, "there", gib=24, gpu=1)
    status, answer, _ = begin(daemon, "new", may_displace={"worker_ids": ["there"]})
    assert (status, answer["error"]["code"]) == (507, "INSUFFICIENT_VRAM")
    assert ids(daemon) == ["a", "there"]
    # "auto" goes where somebody may be displaced
    assert begin(daemon, "new", gpu="auto", may_displace={"worker_ids": ["there"]}, wait=True)[0] == 200
    assert daemon.worker("new")["gpu_id"] == GPUS[1] and ids(daemon) == ["a", "new"]


def test_one_over_two_devices(daemon):
    fill(daemon, "a", "b", gib=12)
    fill(daemon, "c", "d", gib=12, gpu=1)
    wanted = request(daemon, "new", gib=22, may_displace={"worker_ids": ["a", "b", "c", "d"]}, gpu_ids=["0", "1"],
                     split="1,1")
    del wanted["gpu_id"]
    wanted["extra_args"] = ["--vram-claims", str(daemon.host.claims), "--vram", f"0:{11 * GIB}", "--vram",
                            f"1:{11 * GIB}"]
    room = daemon.ask("POST", "/v2/workers/check", wanted)[1]["room"]
    displaced = [each["worker_id"] for each in room["displaces"]]
    assert len(set(displaced) & set("ab")) == 1 and len(set(displaced) & set("cd")) == 1
    assert daemon.ask("POST", "/v2/workers/start", wanted)[0] == 202
    become_ready(daemon, "new")
    assert set(ids(daemon)) == {"new"} | (set("abcd") - set(displaced))


@pytest.mark.parametrize("wrong, code", [
    ({"model_ref": "file:/nowhere.gguf"}, "MODEL_NOT_FOUND"),
    ({"port": 80}, "INVALID_REQUEST"),
    ({"worker_id": "b"}, "ALREADY_EXISTS"),
    ({"backend": "broken"}, "BACKEND_UNAVAILABLE"),
    ({"may_displace": {"worker_ids": ["not an id"]}}, "INVALID_REQUEST"),
    ({"may_displace": {"idle_only": False}}, "INVALID_REQUEST"),
    ({"may_displace": {"ids": ["a"]}}, "INVALID_REQUEST"),
    ({"gpu_id": 7}, "GPU_NOT_FOUND"),
    ({"required_vram_bytes": 25 * GIB}, "INSUFFICIENT_VRAM"),
])
def test_what_can_not_start_displaces_nobody(daemon, wrong, code):
    daemon.kill()
    with daemon.host.config.open("a") as config:
        config.write('[backends.broken]\nextends = "told"\ncommand = ["/nowhere/engine"]\n')
    daemon.start()
    fill(daemon, "a", "b", "c")
    wanted = {**request(daemon, "new", may_displace={"worker_ids": ["a", "b", "c"]}), **wrong}
    status, answer, _ = daemon.ask("POST", "/v2/workers/start", wanted)
    assert answer["error"]["code"] == code, answer
    if "worker_ids" in wanted["may_displace"] and "not an id" in wanted["may_displace"]["worker_ids"]:
        assert answer["error"]["details"]["field"] == "may_displace.worker_ids[0]"
    assert ids(daemon) == ["a", "b", "c"] and not explanations(daemon, "a", "displacement")


def test_it_waits_until_the_displaced_one_is_gone(daemon):
    gate = daemon.host.gate("end")
    fill(daemon, "a", gib=24, more=["--term-when", str(gate)], stop_grace_ms=600000)
    assert begin(daemon, "new", gib=24, may_displace={"worker_ids": ["a"]})[0] == 202
    wait_until(lambda: daemon.worker("a")["status"] == "stopping", what="the stop")
    new = daemon.worker("new")
    assert (new["status"], new["pid"], new["queue_position"], new["queue_reason"]) == ("spawning", None, 1, "displacing")
    # its bytes are promised: another can not have them, and may not displace who is being displaced
    status, answer, _ = begin(daemon, "thief", may_displace={"worker_ids": ["a"]})
    assert (status, answer["error"]["code"]) == (507, "INSUFFICIENT_VRAM")
    daemon.host.open_gate("end")
    become_ready(daemon, "new")


def test_two_at_once_displace_one_each(daemon):
    fill(daemon, "a", "b", "c", labels={"team": "batch"})
    may = {"labels": {"team": "batch"}}
    answers = {}

    def start(name):
        answers[name] = begin(daemon, name, may_displace=may)
    threads = [threading.Thread(target=start, args=(name,)) for name in ("x", "y")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer[0] for answer in answers.values()] == [202, 202], answers
    become_ready(daemon, "x")
    become_ready(daemon, "y")
    left = ids(daemon)
    assert len(left) == 3 and {"x", "y"} < set(left)


def test_a_daemon_killed_in_the_middle(daemon):
    gate = daemon.host.gate("end")
    fill(daemon, "a", gib=20, more=["--term-when", str(gate)], stop_grace_ms=600000)
    fill(daemon, "b", gib=4)
    assert begin(daemon, "new", gib=12, may_displace={"worker_ids": ["a", "b"]})[0] == 202
    daemon.kill()
    daemon.start()
    # the stop goes on, the start does not: nobody waits for it any more, and nobody else is stopped for it
    assert daemon.worker("a")["status"] == "stopping"
    assert (daemon.worker("new")["status"], daemon.worker("new")["stop_reason"]) == ("stopped", "start_failed")
    daemon.host.open_gate("end")
    wait_until(lambda: daemon.worker("a")["status"] == "stopped", what="the end of the displaced one")
    assert ids(daemon) == ["b"] and daemon.worker("a")["stop_reason"] == "requested"


def test_the_stop_of_the_start_ends_the_waiting(daemon):
    gate = daemon.host.gate("end")
    fill(daemon, "a", gib=24, more=["--term-when", str(gate)], stop_grace_ms=600000)
    assert begin(daemon, "new", may_displace={"worker_ids": ["a"]})[0] == 202
    assert daemon.stop("new")[0] == 200
    daemon.host.open_gate("end")
    wait_until(lambda: ids(daemon) == [], what="the end of both")


def test_the_world_changes_meanwhile(daemon):
    """Somebody else takes the bytes: the refusal names whom it has stopped, and stops nobody more."""
    gate = daemon.host.gate("end")
    fill(daemon, "a", gib=12, more=["--term-when", str(gate)], stop_grace_ms=600000)
    fill(daemon, "b", gib=4)
    status, answer, _ = begin(daemon, "new", gib=16, may_displace={"worker_ids": ["a", "b"]})
    assert status == 202
    write_world(daemon.host, strangers_gib=8)
    wait_until(lambda: daemon.get("/v2/gpus")[1]["gpus"][0]["ledger"]["foreign_bytes"] >= 8 * GIB, what="the stranger")
    daemon.host.open_gate("end")
    wait_until(lambda: daemon.worker("new")["status"] == "stopped", what="the refusal")
    refusal, = explanations(daemon, "new", "refusal")
    assert refusal["code"] == "INSUFFICIENT_VRAM" and facts(refusal)["displaced"] == "a", refusal
    assert ids(daemon) == ["b"]


def test_memory_of_a_stopped_worker_is_waited_for(daemon):
    """Also by a start that may displace nobody: it fits when the driver gives back what a worker held that is gone."""
    fill(daemon, "a", gib=24)
    write_world(daemon.host, strangers_gib=24, pid=daemon.worker("a")["pid"])
    assert daemon.stop("a")[0] == 200
    status, answer, _ = begin(daemon, "new")
    assert (status, answer.get("pid")) == (202, None), answer
    assert daemon.worker("new")["queue_reason"] == "releasing"
    write_world(daemon.host)
    become_ready(daemon, "new")
    started, queued = explanations(daemon, "new", "start")
    assert facts(queued)["queued_for"] == "releasing" and "queued_for" not in facts(started)


def test_an_exclusive_start_waits_for_its_turn_before_it_displaces(daemon):
    fill(daemon, "a", gib=16)
    status, answer, _ = begin(daemon, "first", gib=8, backend="profiler", more=["--ready-when", str(daemon.host.gate("first"))])
    assert status == 202, answer
    assert begin(daemon, "new", may_displace={"worker_ids": ["a"]})[0] == 202
    assert daemon.worker("new")["queue_reason"] == "exclusive_start"
    assert daemon.worker("a")["status"] != "stopping"
    daemon.host.open_gate("first")
    become_ready(daemon, "new")
    assert ids(daemon) == ["first", "new"]


def test_a_daemon_that_does_not_queue_displaces_nobody(daemon):
    daemon.kill()
    daemon.host.environment["POOL_WORKERS_QUEUE_TIMEOUT_MS"] = "0"
    daemon.start()
    fill(daemon, "a", gib=24)
    status, answer, _ = begin(daemon, "new", may_displace={"worker_ids": ["a"]})
    assert (status, answer["error"]["code"]) == (507, "INSUFFICIENT_VRAM")
    assert ids(daemon) == ["a"]


# ---- without one


def spawn(host, worker_id, gib, *more, gpu="0", backend="told"):
    return host.run("worker", "spawn", backend, "--model", f"file:{host.model}", "--id", worker_id, "--gpu", gpu,
                    "--vram", f"{gib}GiB", "--wait", *more, "--", *arguments_of(host, gib))


def local_ids(host):
    return sorted(row["worker_id"] for row in host.rows())


def test_a_command_displaces_by_itself(host):
    for name in ("a", "b", "c"):
        done = spawn(host, name, 8, "--label", "team=batch")
        assert done.returncode == 0, done.stderr
    refused = json.loads(host.run("--json", "worker", "spawn", "told", "--model", f"file:{host.model}", "--gpu", "0",
                                  "--vram", "8GiB").stdout)["error"]
    assert refused["code"] == "INSUFFICIENT_VRAM"
    dry = host.json("worker", "spawn", "told", "--model", f"file:{host.model}", "--gpu", "0", "--vram", "10GiB",
                    "--may-displace", "team=batch", "--dry-run")
    assert [each["worker_id"] for each in dry["room"]["displaces"]] == ["a", "b"]
    assert local_ids(host) == ["a", "b", "c"]
    done = spawn(host, "new", 10, "--may-displace", "team=batch")
    assert done.returncode == 0, done.stderr
    assert local_ids(host) == ["c", "new"]
    told = host.json("explain", "a")["explanations"]
    assert "displacement" in [record["kind"] for record in told]
    assert "make room for worker new" in host.run("explain", "a").stdout
    assert host.all_rows()["a"]["stop_reason"] == "requested"


def test_a_command_spares_the_busy(host):
    done = spawn(host, "a", 20)
    assert done.returncode == 0, done.stderr
    keep_busy(host.rows()[0])
    error = host.refusal("worker", "spawn", "told", "--model", f"file:{host.model}", "--gpu", "0", "--vram", "8GiB",
                         "--may-displace", "a")
    assert error["code"] == "INSUFFICIENT_VRAM" and error["details"]["spared"] == "a: works on 1 request"
    assert local_ids(host) == ["a"]
    done = spawn(host, "new", 8, "--may-displace", "a", "--displace-busy")
    assert done.returncode == 0, done.stderr
    assert local_ids(host) == ["new"]
