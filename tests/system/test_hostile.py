"""Surroundings and arguments that wish us ill: other users, full and read-only disks, locks that are held, names with
everything in them, descriptors and variables that are missing. Refusals are clean, at once, and leave nothing.
"""
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from pool_host import EXIT_STATUS, FAKE_WORKER, PATIENCE_S, PROGRAM, Host, is_listening, is_running, listening, wait_until

NOBODY = 65534


def args(*words):
    return [word for argument in words for word in ("--arg", str(argument))]


def started(host, worker_id, *arguments):
    done = host.spawn(worker_id, "--wait", "--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def check_nothing(host):
    assert host.processes() == {}
    assert not is_listening(host.ports[0])


# ---- other users ----


@pytest.fixture
def as_nobody(tmp_path_factory):
    """A place and a way to run a command as another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    if not shutil.which("setpriv"):
        pytest.skip("no setpriv")

    def run(*command, **options):
        options["env"] = {**options.get("env", os.environ), "HOME": "/nonexistent"}
        return subprocess.run(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, **options)

    for directory in [tmp_path_factory.getbasetemp(), *tmp_path_factory.getbasetemp().parents]:
        if not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o011)
    if run(PROGRAM, "--version").returncode != 0:
        pytest.skip(f"another user can not run {PROGRAM}")
    return run


def open_up(path):
    """Lets another user reach a file below the test's own folder, and nothing else."""
    for directory in path.parents:
        if directory.owner() == "root" and str(directory).startswith("/tmp/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    path.chmod(0o644)


def test_the_state_of_another_user(host, as_nobody):
    """root's directory, and then one of the user's own that root is told to use: neither is touched."""
    answer = started(host, "w")
    open_up(host.config)
    done = as_nobody(*host.command("--json", "worker", "list"), env=host.environment)
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "PERMISSION_DENIED" and done.returncode == 4
    assert is_running(answer["pid"])


def test_root_does_not_use_the_state_of_a_user(host, as_nobody):
    host.state_dir.mkdir(mode=0o700)
    os.chown(host.state_dir, NOBODY, NOBODY)
    for command in (["worker", "list"], ["status"], ["worker", "stop", "w"]):
        assert host.refusal(*command)["code"] == "PERMISSION_DENIED"
    assert host.spawn_refusal("w")["code"] == "PERMISSION_DENIED"
    assert list(host.state_dir.iterdir()) == []


def test_a_whole_life_as_another_user(host, as_nobody):
    open_up(host.config)
    open_up(host.model)
    host.state_dir.mkdir(mode=0o700)
    os.chown(host.state_dir, NOBODY, NOBODY)
    spawn = host.command("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait", "--json")
    done = as_nobody(*spawn, env=host.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    pid = json.loads(done.stdout)["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == NOBODY
    done = as_nobody(*host.command("worker", "stop", "w", "--json"), env=host.environment)
    assert done.returncode == 0 and json.loads(done.stdout)["exit_code"] == 0


def test_a_model_that_can_not_be_read(host, as_nobody):
    open_up(host.config)
    host.model.chmod(0o600)
    host.state_dir.mkdir(mode=0o700)
    os.chown(host.state_dir, NOBODY, NOBODY)
    done = as_nobody(*host.command("--json", "worker", "spawn", "fake", "--model", f"file:{host.model}"),
                     env=host.environment)
    assert json.loads(done.stdout)["error"]["code"] == "PERMISSION_DENIED" and done.returncode == 4


def test_the_state_is_private(host):
    host.state_dir.mkdir(mode=0o777)
    host.state_dir.chmod(0o777)
    started(host, "w")
    assert host.state_dir.stat().st_mode & 0o777 == 0o700
    for path in [*host.state_dir.iterdir(), *(host.state_dir / "logs").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path


# ---- disks ----


def in_small_disk(tmp_path, script, ports):
    """Runs a script of this file in a mount namespace where tmp_path/disk is a disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    unshare = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    prepare = f'mount -t tmpfs -o size=1m,mode=0700 none "{disk}"'
    if subprocess.run([*unshare, "sh", "-c", prepare], capture_output=True).returncode != 0:
        pytest.skip("no mount namespaces here")
    done = subprocess.run([*unshare, "sh", "-c", f'{prepare} && exec "$@"', "sh", sys.executable, "-c",
                           f"import test_hostile; test_hostile.{script}({str(tmp_path)!r}, {ports!r})"],
                          cwd=pathlib.Path(__file__).parent, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def fill(disk):
    """Until not one byte fits any more."""
    with open(disk / "ballast", "ab", buffering=0) as ballast:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while ballast.write(bytes(size)):
                    pass


def disk_host(directory, ports):
    host = Host(directory, ports)
    host.config.write_text(host.config.read_text().replace(str(host.state_dir), f"{directory}/disk/state"))
    host.state_dir = pathlib.Path(directory, "disk/state")
    return host


def script_full_from_the_start(directory, ports):
    host = disk_host(directory, ports)
    fill(pathlib.Path(directory, "disk"))
    assert host.spawn_refusal("w")["code"] in ("INSUFFICIENT_DISK", "REGISTRY_UNAVAILABLE")
    assert host.refusal("worker", "list")["code"] in ("INSUFFICIENT_DISK", "REGISTRY_UNAVAILABLE")
    check_nothing(host)


def script_full_later(directory, ports):
    host = disk_host(directory, ports)
    disk = pathlib.Path(directory, "disk")
    answer = started(host, "one")
    fill(disk)
    try:
        n_started = 0
        while n_started < 64:  # a page or two of the registry may be free yet; then it is over
            done = host.spawn(f"w{n_started}", "--json")
            if done.returncode != 0:
                break
            n_started += 1
            fill(disk)
        error = json.loads(done.stdout)["error"]
        assert error["code"] in ("INSUFFICIENT_DISK", "REGISTRY_UNAVAILABLE"), error
        assert done.returncode == EXIT_STATUS[error["code"]]
        names = {"one", *(f"w{i}" for i in range(n_started))}
        assert set(host.processes().values()) == names, "what was refused does not run"
        assert {row["worker_id"] for row in host.rows()} == names
        for name in names:  # a stop acts first, and records when it can
            done = host.run("worker", "stop", name, "--json")
            assert done.returncode in (0, 7), done.stdout
        assert not is_running(answer["pid"]) and host.processes() == {}
        (disk / "ballast").unlink()
        assert host.rows() == []
        assert started(host, "after")["status"] == "ready"
    finally:
        host.stop_everything()


def script_read_only(directory, ports):
    host = disk_host(directory, ports)
    answer = started(host, "w")
    remount = ["mount", "-o", "remount,ro", f"{directory}/disk"]
    assert host.run("worker", "stop", "w").returncode == 0
    held = started(host, "held")
    # a log that is open for writing keeps the disk writable: a bind mount is read-only all the same
    subprocess.run(["mount", "--bind", f"{directory}/disk", f"{directory}/disk"], check=True)
    subprocess.run([*remount[:2], "remount,ro,bind", remount[3]], check=True)
    try:
        error = host.spawn_refusal("x")
        assert error["code"] in ("REGISTRY_UNAVAILABLE", "PERMISSION_DENIED"), error
        assert set(host.processes().values()) == {"held"}
        listing = host.run("worker", "list", "--json")
        assert listing.returncode in (0, 4, 7), listing.stdout
        assert is_running(held["pid"]) and not is_running(answer["pid"])
    finally:
        host.stop_everything()


@pytest.mark.parametrize("script", ["script_full_from_the_start", "script_full_later", "script_read_only"])
def test_disks(tmp_path, script, ports):
    in_small_disk(tmp_path, script, ports)


def test_a_state_directory_that_can_not_be(host):
    for path in ("/proc/pool-core", "/dev/null", "/dev/null/state", f"{host.model}", f"{host.model}/x",
                 "/" + "x" * 300, "/tmp/" + "y/" * 3000):
        error = host.refusal("--state-dir", path, "worker", "list")
        assert error["code"] in ("REGISTRY_UNAVAILABLE", "PERMISSION_DENIED", "INVALID_CONFIG"), (path, error)


def test_links_in_the_state_directory_are_not_followed(host, tmp_path):
    host.state_dir.mkdir(mode=0o700)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (host.state_dir / "logs").mkdir(mode=0o700)
    host.log("w").symlink_to(victim)
    assert host.spawn_refusal("w")["code"] == "REGISTRY_UNAVAILABLE"
    assert victim.read_text() == "precious"
    (host.state_dir / "lock").unlink()
    (host.state_dir / "lock").symlink_to(victim)
    assert host.refusal("worker", "list")["code"] == "REGISTRY_UNAVAILABLE"
    assert victim.read_text() == "precious" and host.processes() == {}


# ---- names ----


PATHS = ["with blank", "quote'and\"quote", "caf\u00e9 \u2603 \U0001f41d", "per%cent %s %n", "qu?ery=1&b#c",
         "{port}", "-leading", "semi;colon$(id)`id`", "back\\slash"]


@pytest.mark.parametrize("name", PATHS)
def test_names_of_the_state_directory(host, name):
    state = host.directory / name / "state"
    host.state_dir = state
    command = ["--state-dir", str(state)]
    done = host.run(*command, "worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait",
                    "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["log_path"] == f"{state}/logs/w.log" and host.processes() == {answer["pid"]: "w"}
    assert {path.name for path in state.iterdir()} >= {"pool.db", "lock", "daemon.lock", "state-id", "logs"}
    text = host.run(*command, "worker", "show", "w").stdout
    assert "\x1b" not in text and text.count("\nlog:") == 1
    (state / "pool.db").unlink()
    for part in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            (state / f"pool.db{part}").unlink()
    rows = host.json(*command, "worker", "list")["workers"]
    assert [row["pid"] for row in rows] == [answer["pid"]]
    assert host.run(*command, "worker", "stop", "w").returncode == 0
    check_nothing(host)


@pytest.mark.parametrize("name", ["new\nline", "tab\tand\x1b[31mescape", "del\x7f", "broken \udcff"])
def test_names_that_no_directory_of_ours_has(host, name):
    """Control characters would reach logs, terminals and environments."""
    error = host.refusal("--state-dir", host.directory / name, "worker", "list")
    assert error["code"] == "INVALID_CONFIG" and "\x1b" not in error["message"]
    assert not (host.directory / name).exists()


@pytest.mark.parametrize("name", [name for name in PATHS if "\\" not in name] + ["--port", "{port} {{host}} {nothing}"])
def test_names_of_models(host, name):
    """A name is put into the command line as it is: no shell, no second expansion, one argument."""
    model = host.models / f"{name}.gguf"
    shutil.copyfile(host.model, model)
    done = host.run("worker", "spawn", "fake", "--model", f"file:{model}", "--id", "w", "--wait", "--json",
                    *args("--print-args"))
    assert done.returncode == 0, done.stdout + done.stderr
    row = host.rows()[0]
    assert row["model_path"] == str(model) and row["model_ref"] == f"file:{model}"
    assert f"arg 6 {model}\n" in host.log("w").read_text()
    assert host.run("worker", "stop", "w").returncode == 0


@pytest.mark.parametrize("reference, code", [
    ("file:{models}/../models/tiny.gguf", "INVALID_REQUEST"), ("file:{models}/./tiny.gguf", "INVALID_REQUEST"),
    ("file:{models}//tiny.gguf", "INVALID_REQUEST"), ("file://{models}/tiny.gguf", "INVALID_REQUEST"),
    ("file:tiny.gguf", "INVALID_REQUEST"), ("file:", "INVALID_REQUEST"), ("", "INVALID_REQUEST"),
    ("file:/dev/zero", "INVALID_REQUEST"), ("file:{models}/fifo.gguf", "INVALID_REQUEST"),
    ("file:{models}/none.gguf", "MODEL_NOT_FOUND"), ("file:{models}/dangling.gguf", "MODEL_NOT_FOUND"),
    ("file:{models}/loop.gguf", "MODEL_NOT_FOUND"), ("file:{models}/new\nline.gguf", "INVALID_REQUEST"),
    ("file:{models}/back\\slash.gguf", "INVALID_REQUEST"),
    ("hf:a/../b", "INVALID_REQUEST"), ("hf:../x", "INVALID_REQUEST"), ("hf:org/repo@../x", "INVALID_REQUEST"),
    ("hf:org/repo::file=../../x", "INVALID_REQUEST"), ("hf:org/repo", "MODEL_NOT_FOUND"),
    ("http://example.org/x", "INVALID_REQUEST"), ("no-such-id", "MODEL_NOT_FOUND"), ("../x", "INVALID_REQUEST"),
    ("file:/" + "x" * 5000, "INVALID_REQUEST"), ("file:{models}/\udcff.gguf", "INVALID_REQUEST")])
def test_references_that_attack(host, reference, code):
    os.mkfifo(host.models / "fifo.gguf")
    (host.models / "dangling.gguf").symlink_to("nowhere")
    (host.models / "loop.gguf").symlink_to("loop.gguf")
    error = host.refusal("worker", "spawn", "fake", "--model", reference.replace("{models}", str(host.models)),
                         timeout=PATIENCE_S)
    assert error["code"] == code, error
    check_nothing(host)


def test_a_link_to_a_model_is_followed(host, tmp_path):
    """The owner's own command may name any file; what runs is the file that was checked."""
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copyfile(host.model, outside / "real.gguf")
    (host.models / "link.gguf").symlink_to(outside / "real.gguf")
    done = host.run("worker", "spawn", "fake", "--model", f"file:{host.models}/link.gguf", "--id", "w", "--wait")
    assert done.returncode == 0, done.stderr


def test_ids_that_attack(host):
    for worker_id in ("", "..", ".", "a/b", "../../x", "a b", "-x", "x" * 65, "a\nb", "\u00e9", "%s", "a;id"):
        done = host.run("--json", "worker", "spawn", "fake", "--model", f"file:{host.model}", f"--id={worker_id}")
        assert json.loads(done.stdout)["error"]["code"] == "INVALID_REQUEST", worker_id
        for command in ("show", "stop", "logs"):
            done = host.run("--json", "worker", command, "--", worker_id)
            assert json.loads(done.stdout)["error"]["code"] in ("INVALID_REQUEST", "WORKER_NOT_FOUND"), worker_id
    check_nothing(host)
    assert not host.state_dir.exists() or list((host.state_dir / "logs").iterdir()) == []


def test_labels_variables_and_arguments_are_only_data(host, tmp_path):
    canary = tmp_path / "canary"
    evil = f"$(touch {canary}) `touch {canary}`; touch {canary} | {{port}} {{nothing}} %s %n ' \" \\ \u2603"
    short = "$(id) `id`; id | {port} %s %n ' \" \\ \u2603"
    done = host.spawn("w", "--wait", "--label", f"a={short}", "--label", "b==", "--label", "c=", "--env", f"EVIL={evil}",
                      "--env", "EMPTY=", *args("--say", evil, "--print-env"))
    assert done.returncode == 0, done.stderr
    row = host.rows()[0]
    assert row["labels"] == {"a": short, "b": "=", "c": ""}
    log = host.log("w").read_text()
    assert f"env EVIL={evil}\n" in log and "env EMPTY=\n" in log and f"\n{evil}\n" in log
    assert not canary.exists()
    assert short in host.run("worker", "show", "w").stdout


@pytest.mark.parametrize("arguments", [
    ["--label", "novalue"], ["--label", "=x"], ["--label", "a b=x"], ["--label", "a=new\nline"], ["--label", "a=\x1b[0m"],
    ["--label", "a=1", "--label", "a=2"], ["--label", "a=" + "x" * 5000], ["--env", "novalue"], ["--env", "=x"],
    ["--env", "A B=x"], ["--env", "1A=x"], ["--env", "A=1", "--env", "A=2"], ["--env", "A=" + "x" * 9000],
    ["--arg", "x" * 9000], ["--arg", "x"] * 200, ["--label", "a=\udcff"],
    ["--ctx", "-1"], ["--ctx", "1e9"], ["--ctx", "99999999999999999999"], ["--parallel", "0x10"],
    ["--port", "65536"], ["--port", "-1"], ["--port", "1"], ["--vram", "-1"], ["--vram", "1ZiB"],
    ["--vram", "9999999999GiB"], ["--gpu", "0"], ["--gpu", "\x1b"], ["--start-timeout", "0"], ["--nonsense"], ["--wait=yes"],
    ["extra"]])
def test_requests_that_are_refused(host, arguments):
    error = host.spawn_refusal("w", *arguments)
    assert error["code"] == "INVALID_REQUEST", error
    check_nothing(host)


def test_variables_that_are_ours_can_not_be_moved(host):
    """A request's own POOL_* or CUDA_VISIBLE_DEVICES would lose the worker or move it off its device."""
    done = host.spawn("w", "--wait", "--env", "POOL_WORKER_ID=other", "--env", "POOL_STATE_ID=other",
                      "--env", "POOL_WORKER_SPEC={}", "--env", "CUDA_VISIBLE_DEVICES=7", *args("--print-env"))
    if done.returncode == 0:
        log = host.log("w").read_text().splitlines()
        assert "env POOL_WORKER_ID=w" in log and "env POOL_STATE_ID=other" not in log
        assert "env CUDA_VISIBLE_DEVICES=7" not in log and "env POOL_WORKER_SPEC={}" not in log
        assert list(host.processes().values()) == ["w"]
    else:
        assert done.returncode == 2


def test_secrets_are_not_inherited(host):
    secrets = {"HF_TOKEN": "hush-1", "POOL_TOKEN": "hush-2", "AWS_SECRET_ACCESS_KEY": "hush-3",
               "LD_PRELOAD": "", "SSH_AUTH_SOCK": "/hush-4"}
    done = host.run("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait",
                    *args("--print-env"), environment=secrets)
    assert done.returncode == 0, done.stderr
    log = host.log("w").read_text()
    assert "hush" not in log and "LD_PRELOAD" not in log and "env PATH=" in log


def test_as_many_arguments_as_are_allowed(host):
    """Just below every limit of a request, all at once."""
    many = args(*(word for i in range(60) for word in ("--alias", f"{i}-" + "x" * 1000)))
    variables = [word for i in range(60) for word in ("--env", f"V{i}=" + "y" * 1000)]
    labels = [word for i in range(16) for word in ("--label", f"l{i}=" + "z" * 60)]
    done = host.spawn("w", "--wait", *many, *variables, *labels)
    assert done.returncode == 0, done.stderr
    assert len(host.rows()[0]["labels"]) == 16
    assert host.processes()


def test_arguments_beyond_what_the_kernel_takes(host, tmp_path):
    """A command of the configuration with more than fits into an exec is a failed start, and leaves nothing."""
    config = host.config.read_text()
    words = json.dumps(["x" * 100000] * 40)[1:-1]
    host.config.write_text(config.replace('"--port", "{port}"', f'"--port", "{{port}}", {words}'))
    error = host.spawn_refusal("w")
    assert error["code"] in ("WORKER_START_FAILED", "INVALID_CONFIG", "BACKEND_UNAVAILABLE"), error["code"]
    host.config.write_text(config)
    assert host.rows() == []
    check_nothing(host)


# ---- locks ----


@contextlib.contextmanager
def holding(path, operation=fcntl.LOCK_EX):
    with open(path, "a") as file:
        fcntl.flock(file, operation)
        yield


def test_a_daemon_has_the_directory(host):
    answer = started(host, "w")
    with holding(host.state_dir / "daemon.lock"):
        commands = [host.start("--json", *words) for words in (
            ["worker", "list"], ["worker", "stop", "w"], ["worker", "show", "w"], ["status"],
            ["worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "x"])]
        for command in commands:  # each waits a few seconds for that daemon to answer
            error = json.loads(command.communicate(timeout=PATIENCE_S)[0])["error"]
            assert error["code"] == "CONFLICT" and command.returncode == 5
        assert host.run("gpu", "list").returncode == 0, "what needs no state goes on"
    assert is_running(answer["pid"]) and [row["worker_id"] for row in host.rows()] == ["w"]


def test_another_command_shares_the_directory(host):
    started(host, "w")
    with holding(host.state_dir / "daemon.lock", fcntl.LOCK_SH):
        assert len(host.rows()) == 1


@contextlib.contextmanager
def database_held(host):
    holder = subprocess.Popen([sys.executable, "-c", "import sqlite3, sys, time\n"
                               "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
                               "db.execute('BEGIN EXCLUSIVE')\nprint('held', flush=True)\ntime.sleep(60)",
                               host.state_dir / "pool.db"], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.kill()
        holder.communicate()


def test_the_lock_or_the_database_is_held_for_a_while(host, tmp_path):
    """Up to 10 s are waited; looking at what has not changed needs no lock. The database is held by a backup, say."""
    neighbour_directory = tmp_path / "neighbour"
    neighbour_directory.mkdir()
    neighbour = Host(neighbour_directory, (host.ports[0] + 20, host.ports[1]))
    answer, theirs = started(host, "w"), started(neighbour, "n")
    spawn = ["--json", "worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "x"]
    with holding(host.state_dir / "lock"), database_held(neighbour):
        began = time.monotonic()
        commands = [host.start("--json", "worker", "stop", "w"), host.start(*spawn), neighbour.start(*spawn)]
        assert [row["worker_id"] for row in host.rows()] == ["w"]
        assert [row["worker_id"] for row in neighbour.rows()] == ["n"]
        assert all(command.poll() is None for command in commands)
        for command in commands:
            error = json.loads(command.communicate(timeout=PATIENCE_S)[0])["error"]
            assert error["code"] == "CONFLICT" and error["retriable"] is True and command.returncode == 5
        assert time.monotonic() - began > 9
    assert host.processes() == {answer["pid"]: "w"} and neighbour.processes() == {theirs["pid"]: "n"}
    for each, worker_id in ((host, "w"), (neighbour, "n")):
        assert each.run("worker", "stop", worker_id).returncode == 0


def test_the_lock_is_held_for_a_moment(host):
    started(host, "w")
    with holding(host.state_dir / "lock"):
        command = host.start("worker", "stop", "w")
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(timeout=0.5)
    command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0


# ---- ports ----


def test_a_range_that_is_used_up(host):
    first = host.ports[0]
    host.config.write_text(host.config.read_text().replace(f"{first}-{host.ports[1]}", f"{first}-{first + 2}"))
    with listening(host.ports[0] + 1):
        assert [started(host, f"w{i}")["port"] for i in range(2)] == [host.ports[0], host.ports[0] + 2]
        error = host.spawn_refusal("w2")
        assert error["code"] == "PORT_UNAVAILABLE" and error["retriable"] is True
        assert error["details"]["port_first"] == host.ports[0] and error["details"]["port_last"] == host.ports[0] + 2
        assert host.run("worker", "stop", "w0").returncode == 0
        assert started(host, "w2")["port"] == host.ports[0]


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_an_asked_port_that_a_stranger_holds(host, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6")
    with socket.socket(family) as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            stranger.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        stranger.bind((address, host.ports[0] + 5))
        stranger.listen()
        error = host.spawn_refusal("w", "--port", host.ports[0] + 5)
        assert error["code"] == "PORT_UNAVAILABLE" and error["details"]["port"] == host.ports[0] + 5
    check_nothing(host)


def test_an_asked_port_of_one_of_ours(host):
    answer = started(host, "w")
    error = host.spawn_refusal("x", "--port", answer["port"])
    assert error["code"] == "ALREADY_EXISTS" and "w" in error["message"]


# ---- surroundings ----


@pytest.mark.parametrize("environment", [
    {"PATH": None}, {"PATH": ""}, {"PATH": "/nowhere:.:relative"}, {"HOME": None}, {"HOME": "/nowhere"},
    {"HOME": ""}, {"LANG": "xx_YY.KOI8-R", "LC_ALL": "tlh"}, {"LC_ALL": "C"}, {"LC_ALL": "tr_TR.UTF-8"},
    {"TMPDIR": "/nowhere"}, {"TERM": "\x1b[31m"}, {"TZ": "../../etc/passwd"}, {"COLUMNS": "-5"},
    {"PATH": None, "HOME": None, "USER": None, "LANG": None, "TERM": None}, {"XDG_RUNTIME_DIR": "relative"},
    {"POOL_NONSENSE": "1"}, {"A" * 5000: "x" * 100000}], ids=str)
def test_variables_of_all_kinds(host, environment):
    short = {name[:40]: value for name, value in environment.items()} if len(str(environment)) < 300 else environment
    done = host.run("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait", "--json",
                    environment=short)
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.run("worker", "list", environment=short).returncode == 0
    assert host.run("worker", "stop", "w", environment=short).returncode == 0
    check_nothing(host)


def test_no_environment_at_all(host):
    done = subprocess.run(host.command("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w",
                                       "--wait"), env={}, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert list(host.processes().values()) == ["w"]


def test_a_program_that_is_not_on_the_path(host):
    host.config.write_text(host.config.read_text().replace(str(FAKE_WORKER), "no-such-engine"))
    for path in (None, "", "/usr/bin"):
        error = host.spawn_refusal("w", environment={"PATH": path})
        assert error["code"] == "BACKEND_UNAVAILABLE" and "no-such-engine" in error["message"]
    check_nothing(host)


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]], ids=str)
def test_descriptors_that_are_closed(host, closed):
    """No file of ours takes the number of a standard descriptor, and the worker has all three."""
    def close():
        for fd in closed:
            os.close(fd)
    command = subprocess.Popen(host.command("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w",
                                            "--wait"), env=host.environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=close)
    command.communicate(timeout=PATIENCE_S)
    assert command.returncode == (1 if 1 in closed else 0), "an output that is lost is not success"
    pid, = host.processes()
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)]
    assert links == ["/dev/null", str(host.log("w")), str(host.log("w"))]
    assert [row["status"] for row in host.rows()] == ["ready"]


def test_the_worker_gets_no_descriptor_and_no_signal_setting_of_ours(host, tmp_path):
    leak = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(leak, True)

    def prepare():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    command = subprocess.Popen(host.command("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w",
                                            "--wait"), env=host.environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=False, preexec_fn=prepare)
    command.communicate(timeout=PATIENCE_S)
    os.close(leak)
    assert command.returncode == 0
    pid, = host.processes()
    targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    files = [target for target in targets if target.startswith("/") and target != "/dev/null"]
    assert set(files) == {str(host.log("w"))}
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    assert not int(status["SigIgn"], 16) & (1 << signal.SIGHUP - 1)
    assert not int(status["SigBlk"], 16) & (1 << signal.SIGUSR1 - 1)
    assert os.getsid(pid) == pid
    assert host.run("worker", "stop", "w", "--grace", "5000").returncode == 0
    assert host.all_rows()["w"]["exit_code"] == 0


def test_output_that_nobody_takes(host):
    """A full disk behind stdout is no success; a reader that left is told nothing."""
    started(host, "w")
    with open("/dev/full", "w") as full:
        done = subprocess.run(host.command("worker", "list"), env=host.environment, stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1 and "standard output" in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(host.command("worker", "list"), env=host.environment, stdout=writer,
                          stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    os.close(writer)
    assert done.returncode >= 0 and done.stderr == ""


@pytest.mark.parametrize("limit, value", [("RLIMIT_NOFILE", 8), ("RLIMIT_NOFILE", 16), ("RLIMIT_FSIZE", 0),
                                          ("RLIMIT_FSIZE", 4096), ("RLIMIT_AS", 40 << 20), ("RLIMIT_NPROC", 1)])
def test_limits_of_the_process(host, limit, value):
    """It works or is refused with a code; there is no crash, and what was refused does not run."""
    import resource
    number = getattr(resource, limit)
    command = subprocess.Popen(host.command("--json", "worker", "spawn", "fake", "--model", f"file:{host.model}", "--id",
                                            "w"), env=host.environment, stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=lambda: resource.setrlimit(number, (value, value)))
    text, errors = command.communicate(timeout=PATIENCE_S)
    if command.returncode == 127 or "error while loading shared libraries" in errors:
        pytest.skip("the loader itself does not get through")
    if limit == "RLIMIT_AS" and "Sanitizer" in errors:
        pytest.skip("a sanitizer needs more address space")
    assert command.returncode >= 0, f"killed by signal {-command.returncode}"
    wait_until(lambda: sorted(row["worker_id"] for row in host.rows()) == sorted(host.processes().values()),
               what="agreement of rows and processes")
    if command.returncode != 0:
        assert json.loads(text)["error"]["code"] in EXIT_STATUS, text
        assert host.processes() == {}
