"""What is on disk and what catalogs name: list, catalog, show, verify, delete, disk, register, unregister."""
import hashlib
import json
import os
import sys

import pytest
from pool_host import ROOT, tiny_model

sys.path.insert(0, str(ROOT / "tests" / "support"))
from test_download import CONTENT, SHA256, Reader  # noqa: E402
from fake_hub import FakeHub  # noqa: E402


@pytest.fixture
def hub():
    with FakeHub() as made:
        yield made


@pytest.fixture
def reader(tmp_path, ports, hub):
    made = Reader(tmp_path, ports, hub)
    yield made
    made.stop_everything()


def listed(reader):
    return {model["on_disk"]["model_ref"]: (model["place"], model["condition"])
            for model in reader.json("models", "list")["models"]}


def fill_cache(reader, org, repo, commit, content):
    repository = reader.cache / f"hub/models--{org}--{repo}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    name = hashlib.sha256(content).hexdigest()
    (repository / "blobs" / name).write_bytes(content)
    (snapshot / "c.gguf").symlink_to(f"../../blobs/{name}")


def test_list_shows_what_is_on_disk(reader, hub):
    assert listed(reader) == {f"file:{reader.model}": ("models", "unverified")}
    one = hub.add("org", "one", {"a/m.gguf": CONTENT})
    many = hub.add("org", "many", {f"m-{i:05}-of-00002.gguf": CONTENT + bytes([i]) for i in (1, 2)})
    dirs = hub.add("org", "dirs", {"model.safetensors": CONTENT, "config.json": b"{}"})
    for repo in ("one", "many", "dirs"):
        reader.done(f"hf:org/{repo}")
    fill_cache(reader, "other", "cached", "c" * 40, CONTENT)
    loose = reader.models / "by-hand"
    loose.mkdir()
    (loose / "x.gguf").write_bytes(CONTENT)
    (loose / "mmproj-x.gguf").write_bytes(b"no model of its own")
    (loose / "circle").symlink_to(reader.models)
    found = listed(reader)
    wanted = {f"hf:org/one@{one}::file=a/m.gguf": ("models", "verified"),
              f"hf:org/many@{many}::file=m-00001-of-00002.gguf": ("models", "verified"),
              f"hf:org/dirs@{dirs}": ("models", "verified"),
              f"hf:other/cached@{'c' * 40}::file=c.gguf": ("hub-cache", "unverified"),
              f"file:{loose}/x.gguf": ("models", "unverified"),
              f"file:{reader.model}": ("models", "unverified")}
    assert {ref: found[ref] for ref in wanted} == wanted
    table = reader.run("models", "list").stdout.splitlines()
    assert table[0].split() == ["ID", "STATE", "SIZE", "PLACE", "MODEL"] and len(table) == len(found) + 1
    done = reader.run("models", "verify", "--all", "--json")
    assert done.returncode == 0 and len(json.loads(done.stdout)["models"]) == 4
    assert listed(reader)[f"hf:other/cached@{'c' * 40}::file=c.gguf"] == ("hub-cache", "verified")


def test_an_empty_machine(reader, hub):
    reader.model.unlink()
    done = reader.run("models", "list")
    assert done.returncode == 0 and "models catalog" in done.stderr and reader.json("models", "list") == {"models": []}
    reader.models.rmdir()
    assert reader.json("models", "list") == {"models": []}
    assert reader.json("models", "disk")["places"][0]["present"] is False


def test_verify_many_at_once(reader, hub):
    hub.add("org", "many", {f"m-{i:05}-of-00005.gguf": CONTENT + bytes([i]) for i in range(1, 6)})
    done = reader.done("hf:org/many")
    forced = reader.json("models", "verify", "hf:org/many", "--force")
    assert forced["verified"] and forced["hashed_bytes"] == 5 * (len(CONTENT) + 1) and not forced["remembered"]
    with open(done["files"][3]["path"], "r+b") as file:
        file.write(b"X")
    assert reader.refusal("models", "verify", "hf:org/many")["code"] == "MODEL_CORRUPT"
    os.truncate(done["files"][4]["path"], 5)
    assert reader.refusal("models", "verify", "hf:org/many", "--force")["code"] == "MODEL_CORRUPT"


# --- delete -------------------------------------------------------------------------------------------------------


def test_delete(reader, hub):
    commit = hub.add("org", "many", {f"q/m-{i:05}-of-00002.gguf": CONTENT + bytes([i]) for i in (1, 2)})
    both = hub.add("org", "both", {"a.gguf": CONTENT, "b.gguf": CONTENT + b"b"})
    reader.done("hf:org/many")
    reader.done("hf:org/both::file=a.gguf")
    reader.done("hf:org/both::file=b.gguf")
    refused = reader.refusal("models", "delete", "hf:org/many")
    assert refused["code"] == "INVALID_REQUEST" and refused["details"]["field"] == "yes"
    deleted = reader.json("models", "delete", "hf:org/many", "--yes")
    assert deleted["n_files"] == 2 and deleted["freed_bytes"] == 2 * len(CONTENT) + 2
    assert not (reader.models / "org/many").exists()
    reader.json("models", "delete", "hf:org/both::file=a.gguf", "--yes")
    assert sorted(reader.files()) == [f"org/both/{both}/.sha256", f"org/both/{both}/b.gguf", "org/both/refs/main"]
    reader.json("models", "delete", "hf:org/both", "--yes")
    assert not reader.files() and not (reader.models / "org").exists() and reader.models.exists()
    assert reader.refusal("models", "delete", "hf:org/many", "--yes")["code"] == "MODEL_NOT_FOUND"
    assert commit not in str(list(reader.models.iterdir()))


def test_delete_only_what_is_ours(reader, hub):
    fill_cache(reader, "other", "cached", "c" * 40, CONTENT)
    elsewhere = reader.directory / "elsewhere.gguf"
    elsewhere.write_bytes(tiny_model())
    link = reader.models / "link.gguf"
    link.symlink_to(elsewhere)
    for ref in ("hf:other/cached", f"file:{elsewhere}"):
        assert reader.refusal("models", "delete", ref, "--yes")["code"] == "PERMISSION_DENIED"
    assert reader.run("models", "delete", f"file:{link}", "--yes").returncode == 0
    assert elsewhere.exists() and not link.exists()


def test_delete_is_refused_while_a_worker_lives(reader, hub):
    assert reader.spawn("w1", "--wait").returncode == 0
    refused = reader.refusal("models", "delete", f"file:{reader.model}", "--yes")
    assert refused["code"] == "CONFLICT" and refused["details"]["worker_id"] == "w1" and reader.model.exists()
    assert reader.run("models", "delete", f"file:{reader.model}", "--yes", "--force").returncode == 0
    assert not reader.model.exists()


# --- disk ---------------------------------------------------------------------------------------------------------


def test_disk(reader, hub):
    hub.add("org", "one", {"m.gguf": CONTENT})
    reader.done("hf:org/one")
    unfinished = reader.models / "org/one/.downloads"
    unfinished.mkdir()
    (unfinished / "x.part").write_bytes(CONTENT)
    usage = reader.json("models", "disk")
    place, cache = usage["places"]
    assert place["path"] == str(reader.models) and place["used_bytes"] >= 2 * len(CONTENT)
    assert len(CONTENT) <= place["unfinished_bytes"] < place["used_bytes"] < place["total_bytes"] and place["free_bytes"] > 0
    assert cache["hub_cache"] and not cache["present"]
    assert usage["models"][0]["size_bytes"] == len(CONTENT) and len(usage["models"]) == 2
    assert reader.run("models", "disk").stdout.splitlines()[0].split() == ["PLACE", "USED", "UNFINISHED", "FREE", "FILE",
                                                                           "SYSTEM"]


# --- the operator's own catalog -----------------------------------------------------------------------------------

CATALOG = """# my models

# the small one
[[models]]
id = "first" # keep me
file = "/nonexistent/first.gguf"
files = []
# above the second
[[models]]
id = "second"
name = "Second"
file = "/nonexistent/second.gguf"
"""


@pytest.fixture
def catalog(reader):
    path = reader.directory / "catalog.toml"
    path.write_text(CATALOG.replace("files = []\n", ""))
    path.chmod(0o640)
    reader.environment["POOL_CATALOGS"] = str(path)
    return path


def test_register_and_unregister(reader, hub, catalog):
    before = catalog.read_text()
    added = reader.json("models", "register", "tiny", f"file:{reader.model}", "--backend", "cpu", "--name", 'The "tiny" one')
    assert added["sha256"] == hashlib.sha256(reader.model.read_bytes()).hexdigest()
    assert catalog.read_text().startswith(before) and catalog.stat().st_mode & 0o777 == 0o640
    shown = reader.json("models", "show", "tiny")
    assert shown["name"] == 'The "tiny" one' and shown["on_disk"]["path"] == str(reader.model)
    assert reader.json("models", "verify", "tiny")["verified"]
    assert reader.refusal("models", "register", "tiny", f"file:{reader.model}")["code"] == "ALREADY_EXISTS"
    assert reader.refusal("models", "unregister", "tiny")["code"] == "INVALID_REQUEST"  # nobody can be asked
    assert reader.json("models", "unregister", "tiny", "--yes")["catalog"] == str(catalog)
    assert catalog.read_text().rstrip() == before.rstrip() and reader.model.exists()
    reader.json("models", "unregister", "first", "--yes")
    assert catalog.read_text().startswith("# my models\n\n# the small one\n# above the second\n[[models]]\nid = \"second\"")
    assert reader.refusal("models", "unregister", "first", "--yes")["code"] == "MODEL_NOT_FOUND"


def test_register_what_was_downloaded(reader, hub, catalog):
    commit = hub.add("org", "many", {f"q/m-{i:05}-of-00002.gguf": CONTENT + bytes([i]) for i in (1, 2)})
    reader.done("hf:org/many")
    reader.json("models", "register", "many", "hf:org/many")
    entry = reader.json("models", "show", "many")
    assert entry["condition"] == "verified" and entry["revision"] == commit and entry["repo"] == "org/many"
    reader.json("models", "delete", "many", "--yes")
    assert reader.done("many")["checked"]  # by the sums of the entry
    hub.add("org", "dirs", {"model.safetensors": CONTENT, "config.json": b"{}"})
    reader.done("hf:org/dirs")
    assert reader.refusal("models", "register", "dirs", "hf:org/dirs")["code"] == "INVALID_REQUEST"


def test_register_refuses(reader, hub, catalog):
    before = catalog.read_text()
    assert reader.refusal("models", "register", "a b", f"file:{reader.model}")["code"] == "INVALID_REQUEST"
    assert reader.refusal("models", "register", "x", "hf:org/none::file=x.gguf")["code"] == "MODEL_NOT_FOUND"
    assert reader.refusal("models", "register", "x", f"file:{reader.model}", "--backend", "")["code"] in (
        "INVALID_CONFIG", "INVALID_REQUEST")
    catalog.write_text("nonsense")
    assert reader.refusal("models", "register", "x", f"file:{reader.model}")["code"] == "INVALID_CONFIG"
    assert catalog.read_text() == "nonsense"
    catalog.write_text('models = [ { id = "inline", file = "/x.gguf" } ]\n')
    assert reader.refusal("models", "unregister", "inline", "--yes")["code"] == "INVALID_REQUEST"
    assert sorted(path.name for path in reader.directory.glob("catalog*")) == ["catalog.toml"] and before
    del reader.environment["POOL_CATALOGS"]
    fresh = reader.directory / "new.toml"
    assert reader.refusal("models", "register", "x", f"file:{reader.model}")["code"] == "INVALID_CONFIG"
    assert reader.run("models", "register", "x", f"file:{reader.model}", "--catalog", fresh).returncode == 0
    assert 'id       = "x"' in fresh.read_text()


def test_many_register_at_once(reader, hub, catalog):
    processes = [reader.start("models", "register", f"m{i}", f"file:{reader.model}") for i in range(6)]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    ids = {model["id"] for model in reader.json("models", "catalog")["models"]}
    assert ids == {"first", "second", *(f"m{i}" for i in range(6))}


# --- the Hub's own program ----------------------------------------------------------------------------------------

HF = '''#!/usr/bin/python3
import os, pathlib, sys
arguments = sys.argv[1:]
assert arguments[0] == "download"
at = arguments.index("--")
repo, files = arguments[at + 1], arguments[at + 2:]
if repo == "org/broken":
    sys.exit("Error: repository not found")
revision = arguments[arguments.index("--revision") + 1]
home = pathlib.Path(os.environ["HF_HOME"], "hub", "models--" + repo.replace("/", "--"))
snapshot = home / "snapshots" / ("d" * 40)
for file in files or ["model.safetensors", "config.json"]:
    (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
    (snapshot / file).write_bytes(b"content of " + file.encode())
(home / "refs").mkdir(exist_ok=True)
(home / "refs" / revision).write_text("d" * 40)
print(snapshot)
'''


def test_via_hf(reader, hub):
    programs = reader.directory / "bin"
    programs.mkdir()
    reader.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    assert reader.refused("hf:org/x::file=a.gguf", "--via", "wget")["code"] == "INVALID_REQUEST"
    if not any(os.path.exists(os.path.join(path, "hf")) for path in os.environ["PATH"].split(":")):
        assert reader.refused("hf:org/x::file=a.gguf", "--via", "hf")["code"] == "DOWNLOAD_FAILED"
    (programs / "hf").write_text(HF)
    (programs / "hf").chmod(0o755)
    done = reader.done("hf:org/x::file=--q/a b;c.gguf", "--via", "hf")
    assert done["path"] == str(reader.cache / "hub/models--org--x/snapshots" / ("d" * 40) / "--q/a b;c.gguf")
    assert reader.done("hf:org/dirs", "--via", "hf")["path"].endswith("d" * 40)
    error = reader.refused("hf:org/broken::file=a.gguf", "--via", "hf")
    assert error["code"] == "DOWNLOAD_FAILED" and error["details"]["exit_code"] == 1
    assert "repository not found" in error["message"] and not hub.asked()


def test_staging_needs_the_daemon(reader, hub):
    assert reader.refusal("models", "stage", "tiny")["code"] == "UNIMPLEMENTED"
    assert reader.refusal("models", "unstage", f"file:{reader.model}")["code"] == "INVALID_REQUEST"


# --- what people and programs rely on ------------------------------------------------------------------------------

def shape(value):
    """Names and types of a document, for comparing."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "null" if value is None else type(value).__name__


def show(reader, *words):
    done = reader.run(*words)
    text = done.stdout + done.stderr
    for path, name in ((str(reader.directory), "DIR"),):
        text = text.replace(path, name)
    return f"$ rbees-pool {' '.join(words)}\n{text}".replace(str(reader.directory), "DIR") + f"[{done.returncode}]\n"


def test_golden(reader, hub):
    """Tables and documents as they are written in golden/models.txt; POOL_UPDATE_GOLDEN=1 writes it anew."""
    reader.model.unlink()
    hub.add("org", "one", {"one-q4.gguf": CONTENT})
    hub.add("org", "dirs", {"model.safetensors": CONTENT[:5000], "config.json": b"{}"})
    catalog = reader.directory / "catalog.toml"
    catalog.write_text(f'[[models]]\nid = "one"\nname = "The one"\nrepo = "org/one"\nfile = "one-q4.gguf"\n'
                       f'size = {len(CONTENT)}\nsha256 = "{SHA256}"\n[[models]]\nid = "far"\nname = "Far away"\n'
                       'repo = "org/far"\nfile = "far.gguf"\n')
    reader.environment["POOL_CATALOGS"] = str(catalog)
    pages = [show(reader, *words.split()) for words in (
        "models catalog", "models list", "models show far", "models download one", "models download hf:org/dirs",
        "models catalog", "models list", "models show one", "models verify one", "models verify --all",
        "models download far", "models delete one", "models delete hf:org/dirs --yes", "models unregister far --yes")]
    shapes = {" ".join(words): shape(reader.json(*words)) for words in (
        ["models", "catalog"], ["models", "list"], ["models", "verify", "one"], ["models", "verify", "--all"],
        ["models", "disk"])}
    shapes["models download"] = shape(reader.done("one", "--force"))
    shapes["models delete"] = shape(reader.json("models", "delete", "one", "--yes"))
    text = "\n".join(pages) + "\n" + json.dumps(shapes, indent=1) + "\n"
    golden = ROOT / "tests/system/golden/models.txt"
    if os.environ.get("POOL_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
