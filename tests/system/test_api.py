"""The routes beside those of workers: cordons, verification, staging in RAM, ready callbacks, events. Workers are the
fake one, GPUs come from a file, models are small files of a catalog.
"""
import hashlib
import json
import os
import pathlib
import signal
import socket
import threading

import pytest
from pool_host import FAKE_WORKER, Host, is_listening, tiny_model, wait_until
from test_daemon import Daemon, UnixConnection, read_events

GPUS = """
[[gpus]]
uuid = "GPU-00000000-0000-4000-8000-00000000000a"
vram_total_bytes = "24 GiB"

[[gpus]]
uuid = "GPU-00000000-0000-4000-8000-00000000000b"
vram_total_bytes = "24 GiB"
"""
GPU_A, GPU_B = "GPU-00000000-0000-4000-8000-00000000000a", "GPU-00000000-0000-4000-8000-00000000000b"
MIB = 1 << 20
SLOW_S = 60


def callback_backend(name, extra=()):
    command = [str(FAKE_WORKER), "--worker-id", "{worker_id}", "--model", "{model_path}", "--port", "{port}",
               "--host", "{host}", "--callback-url", "{callback_url}", *extra]
    return f"[backends.{name}]\ncommand = {json.dumps(command)}\ndevice = \"cpu\"\nready.callback = true\n"


def make_daemon(tmp_path, ports, staging_bytes=8 * MIB, bind="127.0.0.1:0"):
    """A daemon with two GPUs of a file, a catalog of five models, and backends that call back."""
    gpus = tmp_path / "gpus.toml"
    gpus.write_text(GPUS)
    catalog = tmp_path / "catalog.toml"
    command = [str(FAKE_WORKER), "--port", "{port}", "--host", "{host}", "-m", "{model_path}"]
    host = Host(tmp_path, ports, config=(
        f'[backends.fakegpu]\ncommand = {json.dumps(command)}\nready.http = "/health"\ndevice = "gpu"\n'
        + callback_backend("caller") + callback_backend("silent", ["--no-callback"])
        + callback_backend("liar", ["--wrong-token"])
        + callback_backend("both", ["--no-callback"]) + 'ready.http = "/health"\n'
        + f'[gpu]\ninventory = "static:{gpus}"\n[staging]\nmax_bytes = {staging_bytes}\n'))
    text = host.config.read_text().replace("[pool]\n", f'[pool]\ncatalogs = ["{catalog}"]\n', 1)
    host.config.write_text(text)
    catalog.write_text("".join(catalog_entry(host, name, size) for name, size in
                               (("one", 3), ("two", 3), ("three", 3), ("large", 10)))
                       + f'[[models]]\nid = "tiny"\nfile = "{host.model}"\n'
                       + f'[[models]]\nid = "absent"\nrepo = "some/where"\nfile = "absent.gguf"\n')
    daemon = Daemon(host)
    host.config.write_text(host.config.read_text().replace('bind = "127.0.0.1:0"', f'bind = "{bind}"'))
    return daemon


def catalog_entry(host, name, size_mib):
    path = host.models / f"{name}.gguf"
    data = (tiny_model() + name.encode()) + os.urandom(MIB) * size_mib
    path.write_bytes(data)
    return (f'[[models]]\nid = "{name}"\nfile = "{path}"\nsize = {len(data)}\n'
            f'sha256 = "{hashlib.sha256(data).hexdigest()}"\n')


@pytest.fixture
def daemon(tmp_path, ports):
    daemon = make_daemon(tmp_path, ports)
    daemon.start()
    yield daemon
    if daemon.process.poll() is None:
        daemon.kill()
    daemon.host.stop_everything()


@pytest.fixture
def seen(daemon):
    """Every event since the beginning of the test, as (type, object)."""
    events = []

    class Pairs(list):
        def append(self, event):
            events.append((event["event"], json.loads(event["data"]) if "data" in event else None))
    threading.Thread(target=read_events, args=(daemon, Pairs()), daemon=True).start()
    daemon.ask("PUT", "/v2/gpus/1/cordon", {"reason": "the stream is open"})
    wait_until(lambda: poke(daemon, events), seconds=SLOW_S, what="the event stream")
    daemon.ask("DELETE", "/v2/gpus/1/cordon")
    wait_until(lambda: events[-1][0] == "gpu.uncordoned", seconds=SLOW_S, what="the last event of the fixture")
    events.clear()
    return events


def poke(daemon, events):
    if not events:  # the stream may have been opened behind the first
        daemon.ask("DELETE", "/v2/gpus/1/cordon")
        daemon.ask("PUT", "/v2/gpus/1/cordon")
    return bool(events)


def types(events):
    return [kind for kind, _ in list(events)]


def code_of(answer):
    status, body, _ = answer
    return status, body["error"]["code"]


# --- cordons ---------------------------------------------------------------------------------------------------------

def test_a_cordon_keeps_starts_off(daemon, seen):
    status, cordon, _ = daemon.ask("PUT", "/v2/gpus/0/cordon", {"reason": "fan is loud"})
    assert (status, cordon["uuid"], cordon["gpu_id"], cordon["cordoned"]) == (200, GPU_A, 0, True)
    assert cordon["reason"] == "fan is loud" and cordon["cordoned_at"]
    again = daemon.ask("PUT", f"/v2/gpus/{GPU_A}/cordon", {"reason": "fan is loud"})
    assert again[:2] == (200, cordon)
    gpus = daemon.get("/v2/state")[1]["gpus"]
    assert [(g["cordoned"], g["cordon_reason"]) for g in gpus] == [(True, "fan is loud"), (False, None)]
    request = {"backend": "fakegpu", "model_ref": "tiny", "required_vram_bytes": MIB, "wait": True}
    status, answer, _ = daemon.ask("POST", "/v2/workers/start", {**request, "gpu_id": 0})
    assert (status, answer["error"]["code"]) == (503, "GPU_UNAVAILABLE")
    assert answer["error"]["details"]["cordon_reason"] == "fan is loud"
    status, answer, _ = daemon.ask("POST", "/v2/workers/start", {**request, "gpu_id": "auto"})
    assert (status, answer["gpu_id"]) == (200, GPU_B)
    status, cordon, _ = daemon.ask("DELETE", f"/v2/gpus/{GPU_A}/cordon")
    assert (status, cordon["cordoned"], cordon["reason"]) == (200, False, None)
    assert daemon.ask("DELETE", "/v2/gpus/0/cordon")[0] == 200
    assert daemon.ask("POST", "/v2/workers/start", {**request, "gpu_id": 0})[0] == 200
    wait_until(lambda: "gpu.uncordoned" in types(seen), seconds=SLOW_S)
    assert [kind for kind in types(seen) if kind.startswith("gpu.")] == ["gpu.cordoned", "gpu.uncordoned"]
    assert dict(seen)["gpu.cordoned"]["reason"] == "fan is loud"


def test_bad_cordons(daemon):
    assert code_of(daemon.ask("PUT", "/v2/gpus/9/cordon")) == (404, "GPU_NOT_FOUND")
    assert code_of(daemon.ask("DELETE", "/v2/gpus/GPU-none/cordon")) == (404, "GPU_NOT_FOUND")
    for body in (b"{", {"reason": 1}, {"reason": ""}, {"reason": "x" * 120}, {"reason": "a\nb"}, {"why": "x"}, []):
        assert code_of(daemon.ask("PUT", "/v2/gpus/0/cordon", body)) == (400, "INVALID_REQUEST"), body
    assert code_of(daemon.ask("DELETE", "/v2/gpus/0/cordon", {"reason": "x"})) == (400, "INVALID_REQUEST")
    assert daemon.ask("PUT", "/v2/gpus/0/cordon")[1]["reason"] == "requested"
    assert daemon.ask("PUT", "/v2/gpus/0/cordon", {"reason": "x" * 119})[0] == 200
    status, _, headers = daemon.ask("GET", "/v2/gpus/0/cordon")
    assert status == 405 and headers["Allow"] == "PUT, DELETE"


def test_a_cordon_outlives_the_daemon_and_binds_the_command_line(daemon):
    assert daemon.ask("PUT", "/v2/gpus/1/cordon", {"reason": "reserved"})[0] == 200
    daemon.kill()
    refusal = daemon.host.refusal("worker", "spawn", "fakegpu", "--model", "tiny", "--gpu", GPU_B, "--vram", "1MiB")
    assert refusal["code"] == "GPU_UNAVAILABLE" and refusal["details"]["cordon_reason"] == "reserved"
    daemon.start()
    assert [g["cordoned"] for g in daemon.get("/v2/gpus")[1]["gpus"]] == [False, True]
    assert daemon.ask("DELETE", "/v2/gpus/1/cordon")[0] == 200
    daemon.kill()
    daemon.start()
    assert [g["cordoned"] for g in daemon.get("/v2/gpus")[1]["gpus"]] == [False, False]


# --- models ----------------------------------------------------------------------------------------------------------

def verification(daemon, name):
    return daemon.get(f"/v2/models/{name}")[1]["verification"]


def test_models_say_what_is_known_of_them(daemon):
    models = {m["id"]: m for m in daemon.get("/v2/models")[1]["models"]}
    assert sorted(models) == ["absent", "large", "one", "three", "tiny", "two"]
    assert models["absent"]["on_disk"] is None and models["absent"]["verification"]["state"] == "unverified"
    one = daemon.get("/v2/models/one")[1]
    assert one["on_disk"]["size_bytes"] == one["size_bytes"] and one["header"]["format"] == "gguf"
    assert one["staging"]["state"] == "none" and one["verification"]["state"] == "unverified"
    assert code_of(daemon.get("/v2/models/none")) == (404, "MODEL_NOT_FOUND")
    assert daemon.ask("HEAD", "/v2/models")[0] == 200


def test_verification(daemon, seen):
    wait_until(lambda: daemon.ask("POST", "/v2/models/one/verify", {"wait": True})[1]["state"] == "verified"
               and verification(daemon, "one")["state"] == "verified", seconds=SLOW_S,
               what="a proof that is remembered")
    assert verification(daemon, "one")["sha256"] == daemon.get("/v2/models/one")[1]["files"][0]["sha256"]
    status, answer, _ = daemon.ask("POST", "/v2/models/one/verify", {"ignore_proof": True, "wait": True})
    assert (status, answer["state"], answer["done_bytes"]) == (200, "verified", daemon.get("/v2/models/one")[1]["size_bytes"])
    assert daemon.ask("POST", "/v2/models/tiny/verify", {"wait": True})[1]["state"] == "no_checksum"
    (daemon.host.models / "two.gguf").write_bytes(
        b"X" + (daemon.host.models / "two.gguf").read_bytes()[1:])
    assert code_of(daemon.ask("POST", "/v2/models/two/verify", {"wait": True})) == (422, "MODEL_CORRUPT")
    known = verification(daemon, "two")
    assert (known["state"], known["error_code"]) == ("failed", "MODEL_CORRUPT")
    status, answer, _ = daemon.ask("POST", "/v2/models/three/verify")
    assert (status, answer["state"]) == (202, "verifying")
    wait_until(lambda: ("model.verified", "three") in [(k, o.get("model_id")) for k, o in seen], seconds=SLOW_S)
    assert "model.verify.progress" in types(seen) and "model.verify.failed" in types(seen)


def test_bad_verifications(daemon):
    assert code_of(daemon.ask("POST", "/v2/models/none/verify")) == (404, "MODEL_NOT_FOUND")
    assert code_of(daemon.ask("POST", "/v2/models/absent/verify")) == (404, "MODEL_NOT_FOUND")
    assert code_of(daemon.ask("POST", "/v2/models/one/verify", {"x": 1})) == (400, "INVALID_REQUEST")
    assert code_of(daemon.ask("POST", "/v2/models/one/verify", {"wait": 1})) == (400, "INVALID_REQUEST")
    assert code_of(daemon.ask("PUT", "/v2/models/one/verify")) == (405, "METHOD_NOT_ALLOWED")


def test_a_catalog_that_is_changed_is_in_force(daemon, tmp_path):
    """Without a restart; one that can not be read leaves the one before, and whoever looks in vain is told."""
    catalog = tmp_path / "catalog.toml"
    whole = catalog.read_text()
    start = {"backend": "fake", "model_ref": "late"}
    assert code_of(daemon.ask("POST", "/v2/workers/check", start)) == (404, "MODEL_NOT_FOUND")
    catalog.write_text(whole + catalog_entry(daemon.host, "late", 0))
    assert daemon.ask("GET", "/v2/models/late")[0] == 200
    assert daemon.ask("POST", "/v2/workers/check", start)[0] == 200
    assert "late" in [model["id"] for model in daemon.ask("GET", "/v2/models")[1]["models"]]
    catalog.write_text(whole + "[[models]]\nid = ")
    assert daemon.ask("POST", "/v2/workers/check", start)[0] == 200
    for answer in (daemon.ask("GET", "/v2/models/later"),
                   daemon.ask("POST", "/v2/workers/check", {**start, "model_ref": "later"})):
        assert code_of(answer) == (404, "MODEL_NOT_FOUND")
        assert f"{catalog}:" in answer[1]["error"]["message"], answer
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "catalog.refused" in daemon.log.read_text(), what="the fault in the log")
    catalog.write_text(whole)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "catalog.loaded" in daemon.log.read_text(), what="its models in the log")
    assert code_of(daemon.ask("GET", "/v2/models/late")) == (404, "MODEL_NOT_FOUND")


def test_one_verification_of_a_model_at_once_and_none_holds_up_the_end(tmp_path, ports):
    """The model is a hole of 64 GiB: hashing it takes longer than the test."""
    daemon = make_daemon(tmp_path, ports)
    with open(daemon.host.models / "hole.gguf", "wb") as hole:
        hole.write(tiny_model())
        hole.truncate(64 << 30)
    with open(tmp_path / "catalog.toml", "a", encoding="utf-8") as catalog:
        catalog.write(f'[[models]]\nid = "hole"\nfile = "{daemon.host.models}/hole.gguf"\n')
    daemon.start()
    assert [daemon.ask("POST", "/v2/models/hole/verify")[1]["state"] for _ in range(3)] == ["verifying"] * 3
    wait_until(lambda: verification(daemon, "hole")["done_bytes"] > 0, seconds=SLOW_S, what="progress")
    threads = len(os.listdir(f"/proc/{daemon.process.pid}/task"))
    assert daemon.get("/health")[0] == 200 and threads > 1
    assert daemon.kill(signal.SIGTERM) == 0


def open_files(pid):
    paths = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            paths.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass  # closed since
    return paths


def test_a_model_that_is_hashed_for_its_start_holds_nothing_up(tmp_path, ports):
    """The model is a hole of 64 GiB: hashing it takes longer than the test."""
    daemon = make_daemon(tmp_path, ports)
    host = daemon.host
    with open(host.models / "hole.gguf", "wb") as hole:
        hole.write(tiny_model())
        hole.truncate(64 << 30)
    (host.models / "wrong.gguf").write_bytes(tiny_model())
    with open(tmp_path / "catalog.toml", "a", encoding="utf-8") as catalog:
        for name in ("hole", "wrong"):
            catalog.write(f'[[models]]\nid = "{name}"\nfile = "{host.models}/{name}.gguf"\nsha256 = "{"0" * 64}"\n')
    host.environment["POOL_WORKERS_REQUIRE_VERIFIED"] = "true"
    daemon.start()
    start = {"backend": "fake", "wait": True}
    waiting = [UnixConnection(daemon.socket) for _ in range(2)]
    for connection, path in zip(waiting, ("/v2/workers/start", "/v2/workers/check")):
        connection.request("POST", path, json.dumps({"backend": "fake", "model_ref": "hole"}), {"Content-Type": "application/json"})
    is_hashed = lambda: len([path for path in open_files(daemon.process.pid) if path.endswith("hole.gguf")]) == 2
    wait_until(is_hashed, what="the hashing of the hole, twice")
    status, answer, _ = daemon.ask("POST", "/v2/workers/start", {**start, "model_ref": "one", "worker_id": "w"})
    assert (status, answer["status"]) == (200, "ready")
    assert daemon.ask("POST", "/v2/workers/stop", {"worker_id": "w", "wait": True})[0] == 200
    answer = daemon.ask("POST", "/v2/workers/start", {**start, "model_ref": "wrong"})
    assert code_of(answer) == (422, "MODEL_CORRUPT")
    record = daemon.ask("GET", f"/v2/explain/{answer[1]['error']['details']['explain_id']}")[1]["explanations"][0]
    assert (record["kind"], record["code"], record["model_ref"]) == ("refusal", "MODEL_CORRUPT", "wrong")
    answer = daemon.ask("POST", "/v2/workers/start", {**start, "model_ref": f"file:{host.model}"})
    assert answer[1]["error"]["code"] == "MODEL_UNVERIFIED"
    assert is_hashed()
    assert daemon.kill(signal.SIGTERM) == 0
    for connection in waiting:
        connection.close()


def test_no_more_than_four_verifications_at_once(tmp_path, ports):
    daemon = make_daemon(tmp_path, ports)
    with open(tmp_path / "catalog.toml", "a", encoding="utf-8") as catalog:
        for i in range(5):
            with open(daemon.host.models / f"hole{i}.gguf", "wb") as hole:
                hole.write(tiny_model())
                hole.truncate(64 << 30)
            catalog.write(f'[[models]]\nid = "hole{i}"\nfile = "{daemon.host.models}/hole{i}.gguf"\n')
    daemon.start()
    assert [daemon.ask("POST", f"/v2/models/hole{i}/verify")[0] for i in range(4)] == [202] * 4
    status, answer, headers = daemon.ask("POST", "/v2/models/hole4/verify")
    assert (status, answer["error"]["code"], headers["Retry-After"]) == (503, "OVERLOADED", "1")
    assert daemon.kill(signal.SIGTERM) == 0


# --- staging ---------------------------------------------------------------------------------------------------------

def drop_cache(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def stage(daemon, name, **fields):
    return daemon.ask("PUT", f"/v2/models/{name}/stage", {"wait": True, **fields})


def staging(daemon, name):
    return daemon.get(f"/v2/models/{name}")[1]["staging"]


def test_staging_brings_a_model_into_ram(daemon, seen):
    drop_cache(daemon.host.models / "one.gguf")
    before = staging(daemon, "one")
    assert before["state"] == "none" and before["resident_bytes"] in (None, 0)
    status, answer, _ = stage(daemon, "one")
    assert (status, answer["state"], answer["locked"]) == (200, "staged", False), answer
    assert answer["done_bytes"] == answer["total_bytes"] == (daemon.host.models / "one.gguf").stat().st_size
    assert answer["resident_bytes"] in (None, answer["total_bytes"])
    metrics = daemon.get("/metrics")[1].decode()
    assert f'pool_mgr_model_staged_bytes {answer["total_bytes"]}\n' in metrics
    assert stage(daemon, "one")[0] == 200
    status, answer, _ = daemon.ask("DELETE", "/v2/models/one/stage")
    assert (status, answer["state"], answer["reason"]) == (200, "none", "requested")
    assert daemon.ask("DELETE", "/v2/models/one/stage")[0] == 200
    after = staging(daemon, "one")
    assert after["resident_bytes"] in (None, 0) and after["staged_at"] is None
    assert "pool_mgr_model_staged_bytes 0\n" in daemon.get("/metrics")[1].decode()
    wait_until(lambda: "model.unstaged" in types(seen), seconds=SLOW_S)
    assert [k for k in types(seen) if k != "model.stage.progress"] == ["model.staged", "model.staged", "model.unstaged"]
    assert "model.stage.progress" in types(seen)


def test_the_least_recently_used_gives_way_but_not_what_a_worker_uses(daemon):
    """8 MiB are allowed, models have 3: a third one needs room."""
    assert stage(daemon, "one")[0] == stage(daemon, "two")[0] == 200
    assert daemon.ask("POST", "/v2/workers/start", {"backend": "fake", "model_ref": "one", "worker_id": "w",
                                                    "wait": True})[0] == 200
    status, answer, _ = stage(daemon, "three")
    assert (status, answer["state"]) == (200, "staged")
    assert staging(daemon, "two")["reason"] == "evicted" and staging(daemon, "one")["state"] == "staged"
    assert daemon.ask("POST", "/v2/workers/start", {"backend": "fake", "model_ref": "three", "worker_id": "v",
                                                    "wait": True})[0] == 200
    status, answer, _ = stage(daemon, "two")
    assert (status, answer["error"]["code"]) == (507, "INSUFFICIENT_MEMORY") and answer["error"]["retriable"]
    details = answer["error"]["details"]
    assert details["staging_max_bytes"] == 8 * MIB and details["fixed_bytes"] == details["staged_bytes"] > 6 * MIB
    assert staging(daemon, "one")["state"] == staging(daemon, "three")["state"] == "staged"


def test_bad_stagings(daemon):
    status, answer, _ = stage(daemon, "large")
    assert (status, answer["error"]["code"], answer["error"]["retriable"]) == (507, "INSUFFICIENT_MEMORY", False)
    assert staging(daemon, "large")["error_code"] == "INSUFFICIENT_MEMORY"
    assert code_of(stage(daemon, "none")) == (404, "MODEL_NOT_FOUND")
    assert code_of(stage(daemon, "absent")) == (404, "MODEL_NOT_FOUND")
    assert code_of(daemon.ask("DELETE", "/v2/models/none/stage")) == (404, "MODEL_NOT_FOUND")
    assert code_of(daemon.ask("PUT", "/v2/models/one/stage", {"lock": "yes"})) == (400, "INVALID_REQUEST")
    assert code_of(daemon.ask("PUT", "/v2/models/one/stage", {"pin": True})) == (400, "INVALID_REQUEST")
    status, _, headers = daemon.ask("POST", "/v2/models/one/stage")
    assert status == 405 and headers["Allow"] == "PUT, DELETE"


def locked_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmLck:")[1].split()[0])


def test_a_locked_model_stays(daemon):
    status, answer, _ = stage(daemon, "one", lock=True)
    if status == 507:  # RLIMIT_MEMLOCK of whoever runs the tests
        assert answer["error"]["details"]["memlock_limit_bytes"] < 4 * MIB
        pytest.skip("RLIMIT_MEMLOCK is too small here")
    assert (status, answer["state"], answer["locked"]) == (200, "staged", True)
    assert locked_kib(daemon.process.pid) >= 3 * 1024
    assert stage(daemon, "one", lock=True)[1]["locked"] is True
    assert stage(daemon, "one")[1]["locked"] is False and locked_kib(daemon.process.pid) == 0
    assert stage(daemon, "two", lock=True)[1]["locked"] is True
    assert daemon.ask("DELETE", "/v2/models/two/stage")[0] == 200
    assert locked_kib(daemon.process.pid) == 0


def test_staging_is_off_by_default(tmp_path, ports):
    daemon = make_daemon(tmp_path, ports, staging_bytes=0)
    daemon.start()
    status, answer, _ = stage(daemon, "one")
    assert (status, answer["error"]["code"]) == (507, "INSUFFICIENT_MEMORY")
    assert answer["error"]["details"]["staging_max_bytes"] == 0
    daemon.kill()


# --- ready callbacks -------------------------------------------------------------------------------------------------

def token_of(daemon, worker_id):
    pid = next(pid for pid, name in daemon.host.processes().items() if name == worker_id)
    variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(v for v in variables if v.startswith(b"POOL_SPAWN_TOKEN=")).split(b"=", 1)[1].decode()


def call(daemon, worker_id, token, **fields):
    return daemon.ask("POST", "/v2/internal/workers/ready",
                      {"worker_id": worker_id, "spawn_token": token, **fields})


def begin(daemon, backend, worker_id, **fields):
    return daemon.ask("POST", "/v2/workers/start",
                      {"backend": backend, "model_ref": "tiny", "worker_id": worker_id, **fields})


def test_a_worker_that_calls_back_is_ready(daemon):
    status, answer, _ = begin(daemon, "caller", "w", wait=True)
    assert (status, answer["status"]) == (200, "ready"), answer
    assert daemon.worker("w")["port_proof"] == "process_tree" and is_listening(answer["port"])
    assert b"callback 204" in daemon.get("/v2/workers/w/logs")[1]
    token = token_of(daemon, "w")
    assert len(token) == 32
    shown = json.dumps([daemon.get("/v2/workers/w")[1], daemon.get("/v2/state")[1]]) + daemon.log.read_text()
    assert token not in shown and "POOL_SPAWN_TOKEN" not in daemon.log.read_text()
    assert code_of(call(daemon, "w", token)) == (401, "UNAUTHENTICATED")  # good once


def test_only_the_right_token_makes_a_worker_ready(daemon):
    assert begin(daemon, "silent", "w")[0] == 202
    assert begin(daemon, "silent", "v")[0] == 202
    for port in (daemon.worker("w")["port"], daemon.worker("v")["port"]):
        wait_until(lambda port=port: is_listening(port), seconds=SLOW_S, what="the listener")
    for worker_id, token in (("w", "0" * 32), ("w", token_of(daemon, "v")), ("none", token_of(daemon, "w"))):
        assert code_of(call(daemon, worker_id, token)) == (401, "UNAUTHENTICATED")
    for body in ({}, {"worker_id": "w"}, {"worker_id": "w", "spawn_token": 1}, {"worker_id": "w", "spawn_token": "x" * 65},
                 b"[]", b"{"):
        assert code_of(daemon.ask("POST", "/v2/internal/workers/ready", body)) == (400, "INVALID_REQUEST"), body
    assert daemon.worker("w")["status"] == daemon.worker("v")["status"] == "spawning"
    assert call(daemon, "w", token_of(daemon, "w"), model={"more": 1}, port=1)[0] == 204
    wait_until(lambda: daemon.worker("w")["status"] == "ready", seconds=SLOW_S, what="readiness")
    assert daemon.worker("v")["status"] == "spawning"


def test_a_worker_with_a_wrong_token_does_not_get_ready(daemon):
    status, answer, _ = begin(daemon, "liar", "w", wait=True, start_timeout_ms=3000)
    assert (status, answer["error"]["code"]) == (504, "WORKER_START_TIMEOUT")
    assert "callback 401" in "\n".join(answer["error"]["details"]["log_tail"])


def test_both_means_both(daemon):
    """It answers 200 on its path from the start; only with the call it is ready."""
    assert begin(daemon, "both", "w")[0] == 202
    wait_until(lambda: is_listening(daemon.worker("w")["port"]), seconds=SLOW_S, what="the listener")
    wait_until(lambda: b"GET" in daemon.get("/v2/workers/w/logs")[1] or b"loaded" in daemon.get("/v2/workers/w/logs")[1],
               seconds=SLOW_S, what="its readiness")
    assert daemon.worker("w")["status"] == "spawning"
    assert call(daemon, "w", token_of(daemon, "w"))[0] == 204
    wait_until(lambda: daemon.worker("w")["status"] == "ready", seconds=SLOW_S, what="readiness")


def test_a_call_is_awaited_across_a_restart(daemon):
    assert begin(daemon, "silent", "w")[0] == 202
    assert begin(daemon, "silent", "v")[0] == 202
    token = token_of(daemon, "w")
    daemon.kill()
    daemon.start()
    assert daemon.worker("w")["status"] == "spawning"
    assert call(daemon, "w", token)[0] == 204
    wait_until(lambda: daemon.worker("w")["status"] == "ready", seconds=SLOW_S, what="readiness")
    assert daemon.worker("v")["status"] == "spawning"


def test_callbacks_need_a_daemon_that_listens(daemon):
    daemon.kill()
    refusal = daemon.host.refusal("worker", "spawn", "caller", "--model", "tiny")
    assert refusal["code"] == "BACKEND_UNAVAILABLE"


# --- events ----------------------------------------------------------------------------------------------------------

def events_from(daemon, last_id):
    connection = UnixConnection(daemon.socket)
    connection.request("GET", "/v2/events", headers={"Last-Event-ID": last_id})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.getheader("Content-Type") == "text/event-stream"
    event = {}
    try:
        while True:
            line = answer.readline().decode()
            assert line, "the daemon has ended the stream"
            if line == "\n":
                yield event
                event = {}
            else:
                name, value = line.rstrip("\n").split(": ", 1)
                event[name] = value
    finally:
        connection.close()


def first_event(daemon, last_id):
    events = events_from(daemon, last_id)
    try:
        return next(events)
    finally:
        events.close()


def test_what_cannot_be_resumed_is_said(daemon):
    epoch = daemon.get("/health")[1]["epoch"]
    daemon.ask("PUT", "/v2/gpus/0/cordon")
    for last_id in ("00000000-1", "nonsense", f"{epoch}-99", f"{epoch}--1", f"{epoch}-"):
        event = first_event(daemon, last_id)
        assert event["event"] == "reset" and "id" not in event, last_id
        assert json.loads(event["data"])["generation"] == f"{epoch}-1"
    assert first_event(daemon, f"{epoch}-0")["event"] == "gpu.cordoned"


def kept_events(daemon):
    """All that the daemon keeps: what follows a reset, up to the revision that it names."""
    events = events_from(daemon, "none")
    reset = next(events)
    assert reset["event"] == "reset"
    kept = []
    while not kept or kept[-1]["id"] != json.loads(reset["data"])["generation"]:
        kept.append(next(events))
    events.close()
    return kept


def test_what_is_kept_no_more_cannot_be_resumed(daemon):
    """768 KiB of events are kept, however few they are (and no more than 1024, which is a matter of a unit test)."""
    epoch = daemon.get("/health")[1]["epoch"]
    labels = {f"{i:02}" + "l" * 61: '"' * 255 for i in range(32)}  # each event of such a worker has 18 KiB and more
    n_started = 0
    while n_started == 0 or first_event(daemon, f"{epoch}-0")["event"] != "reset":
        assert n_started < 30, "events of 2 MiB are kept"
        assert daemon.begin(f"w{n_started}", labels=labels)[0] == 202
        assert daemon.stop(f"w{n_started}")[0] == 200
        n_started += 1
    kept = kept_events(daemon)
    revisions = [int(event["id"].rsplit("-", 1)[1]) for event in kept]
    assert revisions == list(range(revisions[0], revisions[-1] + 1)) and revisions[0] > 1
    n_bytes = [len(event["data"]) for event in kept]
    assert (768 << 10) - 2 * max(n_bytes) < sum(n_bytes) <= 768 << 10
    assert first_event(daemon, f"{epoch}-{revisions[0] - 2}")["event"] == "reset"
    # The whole of it at once.
    events = events_from(daemon, f"{epoch}-{revisions[0] - 1}")
    assert [next(events)["id"] for _ in kept] == [event["id"] for event in kept]
    events.close()


def test_no_more_than_256_streams(daemon):
    streams = [socket.socket(socket.AF_UNIX) for _ in range(258)]
    for stream in streams:
        stream.settimeout(SLOW_S)
        stream.connect(daemon.socket)
        stream.sendall(b"GET /v2/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    heads = [stream.recv(12) for stream in streams]
    assert sorted(heads) == [b"HTTP/1.1 200"] * 256 + [b"HTTP/1.1 503"] * 2
    assert daemon.get("/health")[0] == 200
    for stream in streams:
        stream.close()


def test_head_of_a_stream_has_an_end(daemon):
    assert daemon.ask("HEAD", "/v2/events")[0] == 200
