"""rbees-pool git: real repositories, and what they try on us."""
import json
import os
import subprocess

import pytest
from pool_host import PROGRAM

SUBMODULE = "libs/engine"


class Repositories:
    """A remote with a submodule, and a clone of it. Nothing of the user's configuration is used."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir(exist_ok=True)
        home = directory / "home"
        home.mkdir()
        (home / ".gitconfig").write_text(
            "[user]\nname = Tester\nemail = tester@example.org\n[init]\ndefaultBranch = main\n"
            "[protocol \"file\"]\nallow = always\n[protocol \"ext\"]\nallow = always\n[commit]\ngpgSign = false\n")
        self.environment = {k: v for k, v in os.environ.items()
                            if not k.startswith(("GIT_", "POOL_", "XDG_"))} | {"HOME": str(home)}
        self.engine = self.make("engine", {"engine.c": "one\n"})
        self.remote = self.make("remote", {"a.txt": "one\n"})
        self.git(self.remote, "submodule", "--quiet", "add", str(self.engine), SUBMODULE)
        self.git(self.remote, "commit", "-qm", "with engine")
        self.clone = directory / "clone"
        self.git(directory, "clone", "-q", str(self.remote), str(self.clone))

    def make(self, name, files):
        path = self.directory / name
        path.mkdir()
        self.git(path, "init", "-q")
        self.commit(path, files)
        return path

    def git(self, path, *words):
        return subprocess.run(["git", "-C", str(path), *words], env=self.environment, check=True,
                              capture_output=True, text=True).stdout.strip()

    def commit(self, path, files):
        for name, text in files.items():
            (path / name).write_text(text)
        self.git(path, "add", "-A")
        self.git(path, "commit", "-qm", "change")
        return self.git(path, "rev-parse", "HEAD")

    def run(self, *words, environment=None, cwd=None):
        return subprocess.run([PROGRAM, "git", *words], env={**self.environment, **(environment or {})},
                              cwd=cwd or self.clone, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def json(self, *words, **options):
        done = self.run(*words, "--json", **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def refusal(self, *words, status, **options):
        done = self.run(*words, "--json", **options)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)["error"]


@pytest.fixture
def repos(tmp_path):
    return Repositories(tmp_path)


def test_status(repos):
    clean = repos.json("status")
    head = repos.git(repos.clone, "rev-parse", "HEAD")
    assert clean["checkout"] == str(repos.clone) and clean["branch"] == "main" and clean["commit"] == head
    assert clean["upstream"] == "origin/main" and clean["ahead"] == clean["behind"] == 0 and clean["changes"] == []
    assert [(s["path"], s["state"], s["commit"]) for s in clean["submodules"]] == [(SUBMODULE, "absent", None)]
    (repos.clone / "a.txt").write_text("two\n")
    (repos.clone / "new\x1b[31m").write_text("")
    (repos.clone / "b.txt").write_text("b")
    repos.git(repos.clone, "add", "b.txt")
    repos.git(repos.clone, "mv", ".gitmodules", "moved")
    repos.git(repos.clone, "mv", "moved", ".gitmodules")
    changes = {change["path"]: change for change in repos.json("status")["changes"]}
    assert changes["a.txt"]["change"] == "modified" and not changes["a.txt"]["staged"]
    assert changes["b.txt"]["change"] == "added" and changes["b.txt"]["staged"]
    assert changes["new\x1b[31m"]["change"] == "untracked"
    for_people = repos.run("status")
    assert for_people.returncode == 0 and "\x1b" not in for_people.stdout and "new\\x1b" in for_people.stdout
    repos.git(repos.clone, "mv", "b.txt", "c.txt")
    repos.git(repos.clone, "checkout", "-q", "--detach")
    detached = repos.json("status", "--repo", str(repos.clone / "libs"), cwd="/")
    assert detached["branch"] is None and detached["upstream"] is None and detached["ahead"] is None


def test_outside_of_a_checkout(repos, tmp_path):
    assert repos.refusal("status", status=3, cwd=tmp_path)["code"] == "NOT_FOUND"
    assert repos.refusal("status", "--repo", "/nonexistent", status=3)["code"] == "NOT_FOUND"
    assert repos.refusal("status", "--repo", "-c", status=3)["code"] == "NOT_FOUND"
    assert repos.refusal("status", status=7, environment={"PATH": "/nonexistent"})["code"] == "BACKEND_UNAVAILABLE"


def test_surroundings_do_not_lead_git_elsewhere(repos, tmp_path):
    """GIT_DIR and its kin would; a fsmonitor of the checkout would run a program."""
    other = repos.make("other", {"x": "x"})
    marker = tmp_path / "ran"
    repos.git(repos.clone, "config", "core.fsmonitor", f"touch {marker}; false")
    status = repos.json("status", environment={"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other),
                                               "GIT_INDEX_FILE": "/nonexistent", "GIT_CONFIG_COUNT": "1",
                                               "GIT_CONFIG_KEY_0": "core.pager", "GIT_CONFIG_VALUE_0": "false"})
    assert status["checkout"] == str(repos.clone) and not marker.exists()


def test_pull(repos):
    before = repos.git(repos.clone, "rev-parse", "HEAD")
    assert repos.json("pull")["changed"] is False
    new = repos.commit(repos.remote, {"a.txt": "two\n"})
    pulled = repos.json("pull")
    assert (pulled["before"], pulled["commit"], pulled["changed"]) == (before, new, True)
    assert repos.git(repos.clone, "rev-parse", "HEAD") == new
    (repos.clone / "a.txt").write_text("mine\n")
    repos.commit(repos.remote, {"a.txt": "three\n"})
    assert repos.refusal("pull", status=5)["code"] == "CONFLICT"
    assert (repos.clone / "a.txt").read_text() == "mine\n"
    repos.git(repos.clone, "commit", "-qam", "mine")
    assert "parted" in repos.refusal("pull", status=5)["message"]
    repos.git(repos.clone, "switch", "-qc", "lonely")
    assert repos.refusal("pull", status=5)["code"] == "CONFLICT"
    repos.git(repos.clone, "switch", "-q", "main")
    repos.git(repos.clone, "remote", "set-url", "origin", str(repos.directory / "gone"))
    assert repos.refusal("pull", status=8)["code"] == "DOWNLOAD_FAILED"
    repos.git(repos.clone, "remote", "set-url", "origin", f"ext::sh -c touch% {repos.directory}/ran")
    assert repos.refusal("pull", status=8)["code"] == "DOWNLOAD_FAILED"
    assert not (repos.directory / "ran").exists()


def test_sync(repos):
    new = repos.commit(repos.remote, {"a.txt": "two\n"})
    synced = repos.json("sync")
    assert synced["commit"] == new and synced["discarded"] == {"changes": 0, "commits": 0, "submodules": 0}
    assert [s["state"] for s in synced["submodules"]] == ["clean"]
    (repos.clone / "a.txt").write_text("mine\n")
    (repos.clone / "kept").write_text("nobody knows it\n")
    (repos.clone / SUBMODULE / "engine.c").write_text("mine\n")
    refusal = repos.refusal("sync", status=5)
    assert refusal["details"] == {"n_changes": 1, "n_commits": 0, "n_submodules": 1}
    repos.git(repos.clone, "commit", "-qam", "mine")
    assert repos.refusal("sync", status=5)["details"]["n_commits"] == 1
    assert repos.refusal("sync", "--force", status=2)["details"]["field"] == "yes"  # nobody can be asked here
    assert repos.git(repos.clone, "rev-parse", "HEAD") != new
    synced = repos.json("sync", "--force", "--yes")
    assert synced["commit"] == new == repos.git(repos.clone, "rev-parse", "HEAD")
    assert synced["discarded"] == {"changes": 0, "commits": 1, "submodules": 1}
    assert (repos.clone / "a.txt").read_text() == "two\n" and (repos.clone / "kept").exists()
    assert (repos.clone / SUBMODULE / "engine.c").read_text() == "one\n"


def test_submodules(repos):
    (listed,) = repos.json("submodules", "list")["submodules"]
    assert listed["url"] == str(repos.engine) and listed["name"] == SUBMODULE and listed["state"] == "absent"
    assert repos.refusal("submodules", "branch", SUBMODULE, "main", status=5)["code"] == "CONFLICT"
    (fetched,) = repos.json("submodules", "update")["submodules"]
    assert fetched["state"] == "clean" and fetched["commit"] == fetched["recorded_commit"]
    assert repos.json("submodules", "branch", SUBMODULE + "/")["branch"] is None
    new = repos.commit(repos.engine, {"engine.c": "two\n"})
    repos.git(repos.engine, "branch", "fast")
    on_branch = repos.json("submodules", "branch", SUBMODULE, "fast")
    assert on_branch == {"path": SUBMODULE, "branch": "fast", "commit": new}
    (repos.clone / SUBMODULE / "engine.c").write_text("mine\n")
    assert repos.json("submodules", "status")["submodules"][0]["state"] == "moved, changed"
    assert repos.refusal("submodules", "reset", SUBMODULE, status=2)["details"]["field"] == "yes"
    (reset,) = repos.json("submodules", "reset", SUBMODULE, "--yes")["submodules"]
    assert reset["state"] == "clean" and (repos.clone / SUBMODULE / "engine.c").read_text() == "one\n"
    for words in (["update", "libs/engin"], ["reset", "--yes", ".."], ["branch", "-f"], ["update", "--", "--recursive"]):
        done = repos.run("submodules", *words)
        assert done.returncode in (2, 3), (words, done.stderr)
    for branch in ("-f", "--orphan", "a..b", "@{-1}", "HEAD~1", "x\ny", ""):
        done = repos.run("submodules", "branch", "--", SUBMODULE, branch)
        assert done.returncode == 2, (branch, done.stderr)


@pytest.mark.parametrize("key, value", [("url", "-u./payload"), ("url", "ext::sh -c touch% ran"), ("branch", "--evil")])
def test_hostile_submodules(repos, key, value):
    repos.git(repos.clone, "config", "-f", ".gitmodules", "--", f"submodule.{SUBMODULE}.{key}", value)
    for words in (["list"], ["status"], ["update"], ["reset", "--yes"], ["branch", SUBMODULE, "main"]):
        assert repos.refusal("submodules", *words, status=5)["code"] == "CONFLICT"
    assert not (repos.clone / SUBMODULE / ".git").exists()


def test_a_submodule_that_would_leave(repos):
    text = (repos.clone / ".gitmodules").read_text()
    (repos.clone / ".gitmodules").write_text(text.replace(f'"{SUBMODULE}"', '"../../evil"'))
    assert repos.refusal("submodules", "update", status=5)["code"] == "CONFLICT"
