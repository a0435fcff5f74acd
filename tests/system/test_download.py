"""Downloads against a Hub that misbehaves: whatever happens, what has a model's name has its bytes, and an error says why.

POOL_SOAK=1 makes the torture longer.
"""
import fcntl
import hashlib
import itertools
import json
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest
from pool_host import ROOT, Host, wait_until

sys.path.insert(0, str(ROOT / "tests" / "support"))
from fake_hub import FakeHub  # noqa: E402

MIB = 1 << 20
CONTENT = random.Random(7).randbytes(3 * MIB + 4321)  # four pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()
DEADLINE_S = 60


class Reader(Host):
    """A host whose models come from a Hub of our own."""

    def __init__(self, directory, ports, hub):
        super().__init__(directory, ports)
        self.hub = hub
        self.cache = self.directory / "hf"
        self.environment.update(hub.environment(self.cache))
        self.environment["HOME"] = str(directory)

    def download(self, *arguments, **options):
        return self.run("models", "download", *arguments, **options)

    def done(self, *arguments):
        """The last line of a download that must be fine."""
        done = self.download(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        last = json.loads(done.stdout.splitlines()[-1])
        assert last["event"] == "done"
        return last

    def refused(self, *arguments, environment=None):
        done = self.download(*arguments, "--json", environment=environment)
        assert done.returncode != 0, done.stdout
        return json.loads(done.stdout.splitlines()[-1])["error"]

    def files(self):
        """path below the models directory -> content, of everything but the host's own model."""
        return {path.relative_to(self.models).as_posix(): path.read_bytes()
                for path in sorted(self.models.rglob("*")) if path.is_file() and path != self.model}

    def unfinished(self):
        return [path for path in self.files() if "/.downloads/" in path]


@pytest.fixture
def hub():
    with FakeHub() as made:
        yield made


@pytest.fixture
def reader(tmp_path, ports, hub):
    made = Reader(tmp_path, ports, hub)
    yield made
    made.stop_everything()


@pytest.fixture
def commit(hub):
    return hub.add("org", "model", {"m.gguf": CONTENT, "README.md": b"read me", ".gitattributes": b"x"})


# --- the usual way ------------------------------------------------------------------------------------------------


def test_download(reader, hub, commit):
    done = reader.download("hf:org/model")
    assert done.returncode == 0 and not done.stderr, done.stderr
    path = reader.models / "org/model" / commit / "m.gguf"
    assert done.stdout.startswith(str(path)) and path.read_bytes() == CONTENT
    assert not reader.unfinished() and not (reader.models / "org/model/.downloads").exists()
    ranges = sorted(r.headers["Range"] for r in hub.asked("store"))
    assert ranges == sorted(f"bytes={at}-{min(at + MIB, len(CONTENT)) - 1}" for at in range(0, len(CONTENT), MIB))
    # what was downloaded is known to be right without reading it again, also without a catalog
    verified = reader.json("models", "verify", "hf:org/model")
    assert verified["verified"] and verified["remembered"] and verified["sha256"] == SHA256
    assert reader.json("models", "show", f"hf:org/model@{commit}")["condition"] == "verified"
    assert reader.run("models", "verify", "hf:org/model", "--force").returncode == 0
    sums = subprocess.run(["sha256sum", "-c", ".sha256"], cwd=path.parent, capture_output=True, text=True, check=True)
    assert sums.stdout == "m.gguf: OK\n"


def test_what_is_there_is_not_fetched_again(reader, hub, commit):
    first = reader.done("hf:org/model")
    assert first["downloaded_bytes"] == len(CONTENT) and first["checked"] is True
    n_bytes, n_asked = len(hub.asked("store")), len(hub.asked())
    again = reader.done("hf:org/model")
    assert again["downloaded_bytes"] == 0 and again["path"] == first["path"]
    assert len(hub.asked("store")) == n_bytes and len(hub.asked()) > n_asked
    n_asked = len(hub.asked())
    reader.done(f"hf:org/model@{commit}::file=m.gguf")  # can not have changed: nobody is asked
    assert len(hub.asked()) == n_asked
    assert reader.done("hf:org/model", "--force")["downloaded_bytes"] == len(CONTENT)


def test_a_branch_that_moves(reader, hub, commit):
    reader.done("hf:org/model")
    newer = hub.add("org", "model", {"m.gguf": CONTENT[::-1]})
    assert f"@{newer}" in reader.done("hf:org/model")["model"]
    assert reader.files()[f"org/model/{newer}/m.gguf"] == CONTENT[::-1]
    assert reader.files()[f"org/model/{commit}/m.gguf"] == CONTENT
    assert newer in reader.json("models", "show", "hf:org/model")["on_disk"]["path"]
    other = hub.add("org", "model", {"m.gguf": CONTENT}, revision="refs/pr/3")
    assert f"@{other}" in reader.done("hf:org/model@refs/pr/3")["model"]
    assert reader.json("models", "show", "hf:org/model@refs/pr/3")["condition"] == "verified"


def test_split_models_come_whole(reader, hub):
    parts = {f"Q4/m-{i:05}-of-00003.gguf": CONTENT[i:] + bytes([i]) for i in (1, 2, 3)}
    hub.add("org", "split", {**parts, "mmproj-m.gguf": b"x" * 9000})
    done = reader.done("hf:org/split")
    assert len(done["files"]) == 3 and done["size_bytes"] == sum(map(len, parts.values()))
    assert all(file["sha256"] for file in done["files"])
    shown = reader.json("models", "show", "hf:org/split")
    assert shown["condition"] == "verified" and len(shown["on_disk"]["file_paths"]) == 3
    assert reader.refused("hf:org/split::file=Q4/m-00002-of-00003.gguf")["code"] == "INVALID_REQUEST"


def test_safetensors_come_as_a_directory(reader, hub):
    files = {"model-00001-of-00002.safetensors": CONTENT, "model-00002-of-00002.safetensors": CONTENT[1:],
             "config.json": b"{}", "tokenizer.json": b'{"a": "' + b"x" * 5000 + b'"}', "merges.txt": b"a b\n"}
    ignored = {"README.md": b"hello", "pytorch_model.bin": b"y" * 5000, "consolidated.safetensors": b"z" * 5000,
               "onnx/model.onnx": b"w"}
    commit = hub.add("org", "dir", {**files, **ignored})
    done = reader.done("hf:org/dir")
    assert done["path"] == str(reader.models / "org/dir" / commit)
    found = {path.removeprefix(f"org/dir/{commit}/"): content for path, content in reader.files().items()
             if "/refs/" not in path and not path.endswith("/.sha256")}
    assert found == files
    assert reader.json("models", "verify", "hf:org/dir")["verified"]


def test_several_that_could_be_meant(reader, hub):
    hub.add("org", "many", {"m-q4.gguf": CONTENT, "m-q8.gguf": CONTENT, "sub/é +#.gguf": CONTENT[5:]})
    error = reader.refused("hf:org/many")
    assert error["code"] == "INVALID_REQUEST" and error["details"]["n_choices"] == 3
    assert reader.done("hf:org/many::file=m-q8.gguf")["path"].endswith("/m-q8.gguf")
    hub.add("org", "none", {"README.md": b"nothing"})
    assert reader.refused("hf:org/none")["code"] == "MODEL_INCOMPATIBLE"


def test_an_empty_file_and_a_small_one(reader, hub):
    hub.add("org", "small", {"empty.gguf": b"", "small.gguf": b"tiny"})
    assert reader.done("hf:org/small::file=empty.gguf")["size_bytes"] == 0
    assert reader.done("hf:org/small::file=small.gguf")["checked"] is True  # by git's name for it
    assert reader.json("models", "verify", "hf:org/small::file=small.gguf")["verified"]


def test_a_renamed_repository(reader, hub, commit):
    hub.renamed["old/name"] = "org/model"
    assert reader.done("hf:old/name")["model"] == f"hf:old/name@{commit}::file=m.gguf"


def write_catalog(reader, **fields):
    entry = {"id": "cat", "name": "Cat", "repo": "org/model", "file": "m.gguf", "size": len(CONTENT), "sha256": SHA256,
             **fields}
    path = reader.directory / "catalog.toml"
    path.write_text("[[models]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in entry.items() if v is not None))
    reader.environment["POOL_CATALOGS"] = str(path)


def test_by_the_catalog(reader, hub, commit):
    write_catalog(reader)
    absent = reader.refusal("worker", "spawn", "fake", "--model", "cat")
    assert absent["code"] == "MODEL_NOT_FOUND"
    command = absent["details"]["download_command"].split()
    assert command[:3] == ["rbees-pool", "models", "download"]
    assert reader.run(*command[1:]).returncode == 0  # what the error recommends helps
    assert reader.json("models", "show", "cat")["condition"] == "verified"
    assert reader.done("cat")["downloaded_bytes"] == 0


@pytest.mark.parametrize("fields", [{"size": 5}, {"sha256": "0" * 64}], ids=str)
def test_a_catalog_that_says_something_else(reader, hub, commit, fields):
    write_catalog(reader, **fields)
    assert reader.refused("cat")["code"] == "MODEL_CORRUPT"
    assert not hub.asked("store") and not reader.files()


def test_references_that_can_not_be_downloaded(reader, hub, commit):
    assert reader.refused(f"file:{reader.model}")["code"] == "INVALID_REQUEST"
    assert reader.refused("nothing")["code"] == "MODEL_NOT_FOUND"
    assert reader.refused("hf:org/../x")["code"] == "INVALID_REQUEST"
    assert reader.refused("hf:org/model@nowhere")["code"] == "MODEL_NOT_FOUND"
    assert reader.refused("hf:org/model::file=none.gguf")["code"] == "MODEL_NOT_FOUND"
    assert not hub.asked("store")


# --- the Hub's own settings ---------------------------------------------------------------------------------------


def test_the_token_stays_with_the_hub(reader, hub, commit):
    hub.token = "hf_secret"
    assert reader.refused("hf:org/model")["code"] == "UNAUTHENTICATED"
    wrong = reader.refused("hf:org/model", environment={"HF_TOKEN": "hf_other"})
    assert wrong["code"] == "UNAUTHENTICATED" and "hf_other" not in json.dumps(wrong)
    reader.cache.mkdir()
    (reader.cache / "token").write_text(" hf_secret\n")
    hub.misbehave("redirect-home", "redirect")
    done = reader.download("hf:org/model", "-v")
    assert "hf_secret" not in done.stdout + done.stderr
    hub.misbehave_api()
    assert reader.done("hf:org/model", "--force")["checked"]
    assert all("Authorization" in r.headers for r in hub.asked("hub") if r.status < 400)
    assert not any("Authorization" in r.headers for r in hub.asked("store") + hub.asked("stranger"))
    assert reader.refused("hf:org/model", "--force",
                          environment={"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"})["code"] == "UNAUTHENTICATED"
    assert reader.refused("hf:org/model", "--force", environment={"HF_TOKEN": "a\nb"})["code"] == "INVALID_REQUEST"


def test_gated(reader, hub, commit):
    hub.gated = True
    assert reader.refused("hf:org/model")["code"] == "PERMISSION_DENIED"


def test_offline(reader, hub, commit):
    offline = {"HF_HUB_OFFLINE": "1"}
    error = reader.refused("hf:org/model", environment=offline)
    assert error["code"] == "DOWNLOAD_FAILED" and not error["retriable"] and not hub.asked()
    reader.done("hf:org/model")
    n_asked = len(hub.asked())
    assert reader.download("hf:org/model", environment=offline).returncode == 0
    assert len(hub.asked()) == n_asked


def test_the_hubs_own_cache_is_used(reader, hub, commit):
    repository = reader.cache / "hub/models--org--model"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / SHA256).write_bytes(CONTENT)
    (snapshot / "m.gguf").symlink_to(f"../../blobs/{SHA256}")
    done = reader.done("hf:org/model")
    assert done["path"] == str(snapshot / "m.gguf") and not hub.asked("store") and not reader.files()
    assert reader.json("models", "verify", f"hf:org/model@{commit}")["verified"]  # by the blob's name
    (repository / "blobs" / SHA256).write_bytes(CONTENT[::-1])
    assert reader.refusal("models", "verify", f"hf:org/model@{commit}")["code"] == "MODEL_CORRUPT"


def test_a_content_that_the_cache_has_under_another_commit(reader, hub, commit):
    blobs = reader.cache / "hub/models--org--model/blobs"
    blobs.mkdir(parents=True)
    (blobs / SHA256).write_bytes(CONTENT)
    done = reader.done("hf:org/model")
    assert done["downloaded_bytes"] == 0 and not hub.asked("store")
    path = reader.models / "org/model" / commit / "m.gguf"
    assert path.read_bytes() == CONTENT and path.stat().st_nlink == 1
    path.unlink()
    (blobs / SHA256).write_bytes(CONTENT[::-1])  # one that was damaged does no harm
    assert reader.done("hf:org/model")["checked"] and path.read_bytes() == CONTENT


@pytest.mark.parametrize("name,value", [("HF_ENDPOINT", "ftp://x"), ("HF_ENDPOINT", "http://u:p@x"),
                                        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"), ("HF_TOKEN", "a b")])
def test_settings_that_can_not_be_meant(reader, hub, commit, name, value):
    error = reader.refused("hf:org/model", environment={name: value})
    assert error["code"] == "INVALID_REQUEST" and error["details"]["field"] == name


def test_nobody_answers(reader, hub, commit):
    error = reader.refused("hf:org/model", "--tries", "2", environment={"HF_ENDPOINT": "http://127.0.0.1:1"})
    assert error["code"] == "DOWNLOAD_FAILED" and error["retriable"]


# --- misbehaviour -------------------------------------------------------------------------------------------------

PASSES = ["cut", "cut-at-once", "reset", "expired", "gone", "503", "500", "408", "416", "limited", "whole", "wrong-range",
          "wrong-length", "gzip", "too-much", "no-length", "redirect-home", "wrong-bytes", "stall"]


@pytest.mark.parametrize("kind", PASSES)
def test_what_passes(reader, hub, commit, kind):
    hub.misbehave(kind, None, kind)
    if kind == "stall":  # for the others a slow machine must not look like a server that stalls
        reader.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "2"
    done = reader.download("hf:org/model")
    assert done.returncode == 0, done.stderr
    assert reader.files()[f"org/model/{commit}/m.gguf"] == CONTENT and not reader.unfinished()


NEVER_PASSES = [("503", "DOWNLOAD_FAILED"), ("cut-at-once", "DOWNLOAD_FAILED"), ("wrong-range", "DOWNLOAD_FAILED"),
                ("wrong-length", "DOWNLOAD_FAILED"), ("gzip", "DOWNLOAD_FAILED"), ("limited", "RATE_LIMITED"),
                ("expired", "DOWNLOAD_FAILED"), ("redirect", "DOWNLOAD_FAILED"), ("redirect-file", "DOWNLOAD_FAILED")]


@pytest.mark.parametrize("kind,code", NEVER_PASSES)
def test_what_never_passes(reader, hub, commit, kind, code):
    hub.misbehave(*[kind] * 200)
    assert reader.refused("hf:org/model", "--tries", "2")["code"] == code
    assert f"org/model/{commit}/m.gguf" not in reader.files()


@pytest.mark.parametrize("kind,code", [("portal", "DOWNLOAD_FAILED"), ("not-json", "DOWNLOAD_FAILED"),
                                       ("limited-long", "RATE_LIMITED")])
def test_a_hub_that_is_none(reader, hub, commit, kind, code):
    hub.misbehave_api(*[kind] * 20)
    assert reader.refused("hf:org/model", "--tries", "2")["code"] == code
    hub._api_script.clear()
    hub.misbehave_api(None, *[kind] * 20)
    assert reader.refused("hf:org/model", "--tries", "2")["code"] == code
    assert not hub.asked("store")


def test_a_hub_that_comes_back(reader, hub, commit):
    hub.misbehave_api("reset", "503", "limited", "reset")
    assert reader.download("hf:org/model").returncode == 0


def test_a_server_without_ranges(reader, hub, commit):
    hub.is_single = True
    hub.misbehave("cut", "cut")
    assert reader.done("hf:org/model")["checked"]
    assert not [r for r in hub.asked("store")[-1:] if "Range" in r.headers]


def test_only_what_changed_is_fetched_again(reader, hub, commit):
    """Wrong bytes of the right length: once everything, and from then on the pieces that came out differently."""
    hub.corrupt = {MIB + 5: 2}  # the second piece is wrong twice
    assert reader.done("hf:org/model")["checked"]
    first_bytes = [int(r.headers["Range"][6:].split("-")[0]) for r in hub.asked("store")]
    n_asked = {at: first_bytes.count(at) for at in range(0, len(CONTENT), MIB)}
    assert n_asked[0] == 2 and n_asked[MIB] >= 3 and reader.files()[f"org/model/{commit}/m.gguf"] == CONTENT


def test_a_server_that_always_sends_something_else(reader, hub, commit):
    hub.corrupt = {MIB + 5: -1}
    error = reader.refused("hf:org/model")
    assert error["code"] == "MODEL_CORRUPT" and error["details"]["expected_sha256"] == SHA256
    assert error["details"]["actual_sha256"] != SHA256 and not reader.files()


def test_an_address_that_expires_on_the_way(reader, hub, commit):
    hub.delay_s = 0.02
    process = reader.start("models", "download", "hf:org/model", "-c1")
    assert hub.started.wait(DEADLINE_S)
    hub.expire()
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert any(r.status == 403 for r in hub.asked("store")) and CONTENT in reader.files().values()


def test_another_file_under_the_same_commit(reader, hub, commit):
    process = start_stalled(reader, hub)
    hub.repositories["org/model"]["commits"][commit]["m.gguf"] = CONTENT[::-1]
    hub.expire()
    hub.gate.set()
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert json.loads(out.splitlines()[-1])["error"]["code"] == "DOWNLOAD_FAILED"
    assert f"org/model/{commit}/m.gguf" not in reader.files()
    assert reader.done("hf:org/model")["checked"]  # what was begun is not gone on with: it is another content
    assert reader.files()[f"org/model/{commit}/m.gguf"] == CONTENT[::-1]


# --- ends in the middle -------------------------------------------------------------------------------------------


def stored_bytes(reader):
    """By the state files: what is known to be there of unfinished downloads."""
    return sum(done for path, state in reader.files().items() if path.endswith(".state")
               for done in [struct.unpack_from("q", state, at)[0] for at in range(256, len(state) - 63, 64)])


def start_stalled(reader, hub):
    """A download that has one piece and some of the others, and gets no more until the gate is opened."""
    hub.misbehave(None, "stall", "stall", "stall")
    patient = {**reader.environment, "HF_HUB_DOWNLOAD_TIMEOUT": "600"}
    process = subprocess.Popen(reader.command("models", "download", "hf:org/model", "--json"), env=patient, text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: stored_bytes(reader) > MIB, seconds=DEADLINE_S, what="some progress")
    return process


def interrupted(reader, hub, sign):
    process = start_stalled(reader, hub)
    process.send_signal(sign)
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(reader, hub, commit, sign):
    status, out, _ = interrupted(reader, hub, sign)
    error = json.loads(out.splitlines()[-1])["error"]
    assert status == 130 and error["code"] == "CANCELLED" and 0 < error["details"]["done_bytes"] < len(CONTENT)
    assert f"org/model/{commit}/m.gguf" not in reader.files()
    hub.gate.set()
    hub._script.clear()
    done = reader.done("hf:org/model")
    assert done["downloaded_bytes"] == len(CONTENT) - error["details"]["done_bytes"] and done["checked"]
    assert not reader.unfinished()


def test_unfinished_files_that_were_damaged(reader, hub, commit):
    """A state that is no state, one of a file that has gone, wrong bytes under a true state, an earlier boot."""
    def damage_state(data):
        return b"garbage" + data[7:]

    for suffix, change in [(".state", damage_state), (".state", lambda data: data[:100]), (".state", lambda data: b""),
                           (".part", lambda data: b""), (".part", lambda data: bytes(len(data))),
                           (".state", lambda data: data[:16] + b"another-boot" + data[28:]), (".lock", lambda data: b"x")]:
        interrupted(reader, hub, signal.SIGKILL)
        hub._script.clear()
        (path,) = [reader.models / p for p in reader.unfinished() if p.endswith(suffix)]
        path.write_bytes(change(path.read_bytes()))
        assert reader.done("hf:org/model")["checked"], suffix
        assert reader.files()[f"org/model/{commit}/m.gguf"] == CONTENT and not reader.unfinished()
        (reader.models / "org/model" / commit / "m.gguf").unlink()


def test_two_at_once_share_one(reader, hub, commit):
    hub.delay_s = 0.005
    processes = [reader.start("models", "download", "hf:org/model", "--json") for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, out + err
    n_bytes = sum(min(int(r.headers["Range"].split("-")[1]), len(CONTENT) - 1) - int(r.headers["Range"][6:].split("-")[0]) + 1
                  for r in hub.asked("store"))
    assert n_bytes == len(CONTENT) and not reader.unfinished()
    assert reader.files()[f"org/model/{commit}/m.gguf"] == CONTENT


def test_several_files_at_once_keep_each_others_sums(reader, hub):
    commit = hub.add("org", "many", {f"{i}.gguf": CONTENT + bytes([i]) for i in range(5)})
    processes = [reader.start("models", "download", f"hf:org/many::file={i}.gguf") for i in range(5)]
    for process in processes:
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, err
    assert len(reader.files()[f"org/many/{commit}/.sha256"].splitlines()) == 5


def test_a_models_directory_behind_a_link(reader, hub, commit):
    real = reader.directory / "elsewhere"
    reader.models.rename(real)
    reader.models.symlink_to(real)
    reader.done(f"hf:org/model@{commit}")
    assert reader.done("hf:org/model")["downloaded_bytes"] == 0
    assert (real / "org/model/refs/main").read_text() == commit


def test_the_one_who_waits_takes_over(reader, hub, commit):
    first = start_stalled(reader, hub)
    second = reader.start("models", "download", "hf:org/model", "--json")
    line = json.loads(second.stdout.readline())
    assert line["event"] == "wait" and line["total_bytes"] == len(CONTENT)
    first.kill()
    first.communicate()
    out, _ = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 0 and json.loads(out.splitlines()[-1])["event"] == "done"
    assert reader.files()[f"org/model/{commit}/m.gguf"] == CONTENT


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_is_too_small(reader, hub, commit):
    hub.add("org", "two", {f"m-{i:05}-of-00002.gguf": CONTENT + bytes([i]) for i in (1, 2)})
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "none", reader.models], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        error = reader.refused("hf:org/two")
        assert error["code"] == "INSUFFICIENT_DISK" and not hub.asked("store")
        assert error["details"]["required_bytes"] > error["details"]["available_bytes"] > 0
        assert reader.done("hf:org/model")["checked"]  # one of them fits
        assert [path for path in reader.files() if path.endswith(".part")] == []
    finally:
        subprocess.run(["umount", reader.models], check=True)


def used_bytes(reader):
    return sum(path.stat().st_blocks * 512 for path in reader.models.rglob("*") if path.is_file())


def test_a_quota(reader, hub, commit):
    hub.add("org", "two", {f"m-{i:05}-of-00002.gguf": CONTENT + bytes([i]) for i in (1, 2)})
    assert reader.json("models", "disk")["quota"] is None
    before = used_bytes(reader)
    quota = before + 5 * MIB  # one of the files fits, two do not
    reader.environment["POOL_MODELS_QUOTA_BYTES"] = str(quota)
    error = reader.refused("hf:org/two")
    details = error["details"]
    assert error["code"] == "INSUFFICIENT_DISK" and not hub.asked("store")
    assert details["required_bytes"] >= 2 * len(CONTENT) and details["quota_bytes"] == quota
    assert details["used_bytes"] >= before
    assert details["available_bytes"] == quota - details["used_bytes"] < details["required_bytes"]
    assert reader.done("hf:org/model")["checked"]
    assert reader.json("models", "disk")["quota"] == {"quota_bytes": quota, "used_bytes": used_bytes(reader),
                                                      "left_bytes": quota - used_bytes(reader)}
    assert re.search(r"^quota [\d.]+ MiB: [\d.]+ MiB used, [\d.]+ MiB left$", reader.run("models", "disk").stdout, re.M)
    assert reader.done("hf:org/model")["event"] == "done"  # what is there needs nothing
    reader.environment["POOL_MODELS_QUOTA_BYTES"] = "1"  # below what is used already
    disk = reader.json("models", "disk")["quota"]
    assert disk["left_bytes"] == 0 and reader.refused("hf:org/two")["details"]["available_bytes"] == 0
    assert reader.done("hf:org/model")["event"] == "done"


def test_what_was_begun_counts_once_in_a_quota(reader, hub, commit):
    """Its space is reserved, and so used, when it is gone on with."""
    interrupted(reader, hub, signal.SIGKILL)
    hub.gate.set()
    reader.environment["POOL_MODELS_QUOTA_BYTES"] = str(used_bytes(reader) + 65536)
    assert reader.done("hf:org/model")["checked"]


def test_two_downloads_do_not_share_what_is_left_of_a_quota(reader, hub, commit):
    hub.add("org", "other", {"m.gguf": CONTENT[::-1]})
    reader.environment["POOL_MODELS_QUOTA_BYTES"] = str(used_bytes(reader) + 5 * MIB)
    both = [reader.start("models", "download", f"hf:org/{name}", "--json") for name in ("model", "other")]
    ends = [(process.communicate(timeout=DEADLINE_S)[0], process.returncode) for process in both]
    assert sorted(status for _, status in ends) == [0, 7]
    refused = next(json.loads(out.splitlines()[-1]) for out, status in ends if status)
    assert refused["error"]["code"] == "INSUFFICIENT_DISK" and refused["error"]["details"]["quota_bytes"] > 0


def test_a_limit_on_the_size_of_files(reader, hub, commit):
    shell = 'ulimit -f 1024; exec "$@"'
    done = subprocess.run(["bash", "-c", shell, "sh", *reader.command("models", "download", "hf:org/model", "--json")],
                          env=reader.environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 7 and json.loads(done.stdout)["error"]["code"] == "INSUFFICIENT_DISK"
    assert not hub.asked("store") and not reader.files()


def test_a_folder_that_can_not_be_written(reader, hub, commit):
    (reader.models / "org").write_text("not a folder")
    assert reader.refused("hf:org/model")["code"] in ("INTERNAL", "PERMISSION_DENIED")
    assert not hub.asked("store")


# --- what people see ----------------------------------------------------------------------------------------------


def test_progress_on_a_terminal(reader, hub, commit):
    hub.misbehave(None, "stall", "stall", "stall")
    reader.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "600"
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**reader.environment, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(reader.command("models", "download", "hf:org/model"), env=environment, stdin=slave,
                               stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:
                break
        if "█".encode() in shown:
            hub.gate.set()
    assert process.wait(timeout=DEADLINE_S) == 0
    os.close(master)
    bars = [bar for bar in shown.decode().split("\r") if "%" in bar]
    assert bars and all(len(bar.removesuffix("\x1b[K")) < 80 for bar in bars)
    assert any("MiB of 3.0 MiB" in bar for bar in bars) and "m.gguf" in bars[0]


def test_lines_for_programs(reader, hub, commit):
    reader.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "600"
    hub.misbehave("stall", "stall", "stall", "stall")
    process = reader.start("models", "download", "hf:org/model", "--json")
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    assert first["event"] == second["event"] == "download" and second["total_bytes"] == len(CONTENT)
    assert first.keys() == {"event", "file", "done_bytes", "total_bytes", "rate_bytes_per_s", "left_ms"}
    hub.gate.set()
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0 and not err


# --- the torture --------------------------------------------------------------------------------------------------


def torture_once(reader, hub, commit, chance):
    """One download with faults and kills at random moments, until it ends by itself. What it ended in."""
    kinds = PASSES[:-1] + ["stall-at-once"] * (chance.random() < 0.1)
    hub.misbehave(*[chance.choice(kinds) if chance.random() < 0.5 else None for _ in range(chance.randrange(12))])
    hub.misbehave_api(*[chance.choice(["503", "reset", None]) for _ in range(chance.randrange(3))])
    for n_kills in itertools.count():
        process = reader.start("models", "download", "hf:org/model", "--json", "-c", str(chance.choice([1, 2, 4, 8])))
        killer = threading.Timer(chance.uniform(0.0, 0.25), process.kill)
        if n_kills < 4 and chance.random() < 0.8:
            killer.start()
        out, err = process.communicate(timeout=DEADLINE_S)
        killer.cancel()
        path = reader.models / "org/model" / commit / "m.gguf"
        if path.exists():
            assert path.read_bytes() == CONTENT, "half-written under the final name"
        if process.returncode != -signal.SIGKILL:
            return n_kills, process.returncode, out
        hub.expire() if chance.random() < 0.1 else None


def test_torture(reader, hub, commit):
    seed = int(os.environ.get("POOL_TORTURE_SEED", random.randrange(1 << 30)))
    chance = random.Random(seed)
    wanted = 1500 if os.environ.get("POOL_SOAK") else 100
    n_events = n_kills = n_right = 0
    hub.piece = 1 << 14
    hub.delay_s = 0.0005
    reader.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "2"
    while n_events < wanted:
        killed, status, out = torture_once(reader, hub, commit, chance)
        assert out, (seed, status)
        n_events += killed + 1
        n_kills += killed
        path = reader.models / "org/model" / commit / "m.gguf"
        last = json.loads(out.splitlines()[-1])
        assert (status == 0) == (last.get("event") == "done"), (seed, out)
        if status == 0:
            n_right += 1
            assert path.read_bytes() == CONTENT and not reader.unfinished(), seed
            path.unlink()
        else:
            assert last["error"]["code"] in ("DOWNLOAD_FAILED", "RATE_LIMITED", "MODEL_CORRUPT") and not path.exists(), \
                (seed, last)
        hub._script.clear()
        hub._api_script.clear()
    assert n_right > 0 and n_kills > 0, seed
