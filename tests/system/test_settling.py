"""What a command finds that nobody watched: workers that died, records that were lost, damaged or lie, a machine
that was rebooted, pids that are somebody else's by now, and commands that stand still. Each next command settles
it, and a process that is not proven to be ours is never touched.
"""
import contextlib
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import time
import uuid

import pytest
from pool_host import PATIENCE_S, Host, is_listening, is_running, listening, wait_until



def args(*words):
    return [word for argument in words for word in ("--arg", str(argument))]


@contextlib.contextmanager
def database(host):
    connection = sqlite3.connect(host.state_dir / "pool.db", isolation_level=None, timeout=PATIENCE_S)
    try:
        yield connection
    finally:
        connection.close()


def start(host, worker_id, *arguments):
    done = host.spawn(worker_id, "--wait", "--json", *arguments)
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout)


def set_aside(host):
    return sorted(host.state_dir.glob("pool.db.corrupt-*Z"))


# ---- workers that died ----


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV], ids=["KILL", "TERM", "SEGV"])
def test_a_worker_that_was_killed_is_noticed(host, signal_number):
    answer = start(host, "w")
    os.kill(answer["pid"], signal_number)
    wait_until(lambda: not is_running(answer["pid"]), what="its end")
    assert host.rows() == []
    row = host.all_rows()["w"]
    assert row["status"] == "stopped" and row["stop_reason"] == "lost" and row["stopped_at"]
    shown = host.json("worker", "show", "w")
    assert shown["status"] == "stopped" and shown["stop_reason"] == "lost"
    assert host.refusal("worker", "stop", "w")["code"] == "CONFLICT"
    assert start(host, "w")["port"] == answer["port"], "id and port are free again"


def test_the_first_command_after_the_death_sees_it_whichever_it_is(host):
    for command in (["worker", "show", "w"], ["status"], ["worker", "list"]):
        answer = start(host, "w")
        os.kill(answer["pid"], signal.SIGKILL)
        wait_until(lambda pid=answer["pid"]: not is_running(pid), what="its end")
        found = host.json(*command)
        assert found.get("status") == "stopped" or found.get("workers") == [], command


def test_starting_over_a_dead_one(host):
    """The start itself settles: the dead worker's id and port do not stand in the way."""
    answer = start(host, "w")
    os.kill(answer["pid"], signal.SIGKILL)
    wait_until(lambda: not is_running(answer["pid"]), what="its end")
    again = start(host, "w", "--port", answer["port"])
    assert again["port"] == answer["port"] and again["pid"] != answer["pid"]


def test_leftovers_are_named_and_stopped(host, tmp_path):
    """The main process was killed; a child that left its session still holds the log, and may hold memory."""
    timestamps = tmp_path / "timestamps"
    answer = start(host, "w", *args("--grandchildren", 2, "--grandchildren-leave-session",
                                    "--grandchildren-ignore-sigterm", "--timestamps", timestamps))
    children = [int(line.split()[1]) for line in timestamps.read_text().splitlines() if "grandchild" in line]
    os.kill(answer["pid"], signal.SIGKILL)
    wait_until(lambda: not is_running(answer["pid"]), what="its end")
    row = host.rows()[0]
    assert row["status"] == "stopping" and row["healthy"] is False
    for child in children:
        assert str(child) in row["health_reason"]
    assert host.spawn_refusal("w")["code"] == "ALREADY_EXISTS"
    stopped = host.json("worker", "stop", "w", "--grace", 100)
    assert stopped["status"] == "stopped" and stopped["stop_reason"] == "lost"
    assert not any(map(is_running, children)) and host.processes() == {} and host.rows() == []


def test_leftovers_that_end_by_themselves(host):
    answer = start(host, "w", *args("--grandchildren", 1, "--helpers-end-when", host.gate("end")))
    os.kill(answer["pid"], signal.SIGKILL)
    wait_until(lambda: not is_running(answer["pid"]), what="its end")
    assert [row["status"] for row in host.rows()] == ["stopping"]
    host.open_gate("end")
    wait_until(lambda: host.rows() == [], what="the end of the last of them")
    assert host.all_rows()["w"]["stop_reason"] == "lost"


# ---- the registry is lost or damaged ----


def damage_delete(path):
    path.unlink()


def damage_garbage(path):
    path.write_bytes(os.urandom(path.stat().st_size))


def damage_text(path):
    path.write_text("this is no database\n" * 1000)


def damage_head(path):
    image = bytearray(path.read_bytes())
    image[100:4096] = bytes(len(image[100:4096]))
    path.write_bytes(image)


def damage_half(path):
    path.write_bytes(path.read_bytes()[:4096 + 700])


def damage_bits(path):
    """A bit of every 16th byte behind the header of the file."""
    image = bytearray(path.read_bytes())
    for at in range(100, len(image), 16):
        image[at] ^= 0x20
    path.write_bytes(image)


DAMAGES = [damage_delete, damage_garbage, damage_text, damage_head, damage_half, damage_bits]


def settle_database(host):
    """Everything in the one file, as after a clean end of the last process that had it open."""
    with database(host) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for part in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            (host.state_dir / f"pool.db{part}").unlink()


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__[7:] for damage in DAMAGES])
def test_a_lost_registry_is_rebuilt(host, damage):
    one = start(host, "one", "--label", "team=search", "--ctx", 64)
    two = start(host, "two")
    before = {row["worker_id"]: row for row in host.rows()}
    settle_database(host)
    damage(host.state_dir / "pool.db")
    done = host.run("worker", "list", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rebuilt from 2 running workers" in done.stderr
    after = {row["worker_id"]: row for row in json.loads(done.stdout)["workers"]}
    assert {name: row["pid"] for name, row in after.items()} == {"one": one["pid"], "two": two["pid"]}
    kept = ("backend", "model_ref", "model_path", "port", "uri", "log_path", "reserved_memory_bytes", "created_at",
            "labels", "ctx_size", "stop_signal", "ready_path", "identity")
    for name, row in after.items():
        assert {key: row[key] for key in kept} == {key: before[name][key] for key in kept}
    if damage is not damage_delete:
        assert len(set_aside(host)) == 1 and time.strftime("%Y%m%d", time.gmtime()) in set_aside(host)[0].name
        assert set_aside(host)[0].name in done.stderr
    wait_until(lambda: [row["status"] for row in host.rows()] == ["ready", "ready"], what="readiness, proven anew")
    assert host.run("worker", "list").stderr == "", "it is said once"
    assert host.run("worker", "stop", "one").returncode == 0 and host.run("worker", "stop", "two").returncode == 0
    assert host.processes() == {}


def test_one_that_overwrote_its_environment_is_found_by_its_log(host):
    """As setproctitle does: nothing of ours is left in it. Who holds the log is its worker."""
    plain = start(host, "plain")
    wiped = start(host, "wiped", *args("--wipe-env"), "--label", "team=search")
    assert b"POOL_" not in pathlib.Path(f"/proc/{wiped['pid']}/environ").read_bytes()
    before = {row["worker_id"]: row for row in host.rows()}
    settle_database(host)
    damage_delete(host.state_dir / "pool.db")
    with open(host.log("wiped"), "rb"):  # a reader of a log is none of its workers
        done = host.run("worker", "list", "--json")
    assert done.returncode == 0 and "rebuilt from 2 running workers" in done.stderr, done.stdout + done.stderr
    after = {row["worker_id"]: row for row in json.loads(done.stdout)["workers"]}
    assert {name: row["pid"] for name, row in after.items()} == {"plain": plain["pid"], "wiped": wiped["pid"]}
    for key in ("backend", "port", "created_at", "labels", "identity", "log_path"):
        assert after["wiped"][key] == before["wiped"][key]
    assert host.run("worker", "stop", "wiped").returncode == 0 and not is_running(wiped["pid"])
    assert host.run("worker", "stop", "plain").returncode == 0
    assert not list(host.log("wiped").parent.glob("*.start")), "the copies go with their workers"


def test_a_lost_registry_rebuilt_by_many_at_once(host):
    answers = [start(host, f"w{i}") for i in range(3)]
    settle_database(host)
    damage_garbage(host.state_dir / "pool.db")
    commands = [host.start("worker", "list", "--json") for _ in range(10)]
    outputs = [command.communicate(timeout=PATIENCE_S) for command in commands]
    assert [command.returncode for command in commands] == [0] * 10, outputs
    for text, _ in outputs:
        assert [row["pid"] for row in sorted(json.loads(text)["workers"], key=lambda row: row["worker_id"])] == [
            answer["pid"] for answer in answers]
    assert len(set_aside(host)) == 1
    assert sum("rebuilt" in errors for _, errors in outputs) >= 1


def test_a_registry_that_is_damaged_while_a_worker_starts(host):
    """The write-ahead log alone is garbage: what is in the database itself is still there, or it is rebuilt."""
    answer = start(host, "w")
    (host.state_dir / "pool.db-wal").write_bytes(os.urandom(8192))
    assert [row["pid"] for row in host.rows()] == [answer["pid"]]


def test_the_others_workers_are_not_adopted(host, tmp_path):
    """A rebuild takes the processes that carry our state directory's id, and nobody else's."""
    neighbour_directory = tmp_path / "neighbour"
    neighbour_directory.mkdir()
    neighbour = Host(neighbour_directory, (host.ports[0] + 20, host.ports[1]))
    try:
        theirs = start(neighbour, "theirs")
        ours = start(host, "ours")
        settle_database(host)
        damage_delete(host.state_dir / "pool.db")
        assert [row["pid"] for row in host.rows()] == [ours["pid"]]
        assert [row["pid"] for row in neighbour.rows()] == [theirs["pid"]]
    finally:
        neighbour.stop_everything()


def test_the_state_id_is_lost(host):
    """The registry is there, so nothing is lost: rows are proven by log and process, not by the id."""
    answer = start(host, "w", *args("--grandchildren", 1, "--grandchildren-leave-session"))
    running = host.processes()
    (host.state_dir / "state-id").unlink()
    assert [row["pid"] for row in host.rows()] == [answer["pid"]]
    assert host.json("worker", "stop", "w", "--grace", 200)["status"] == "stopped"
    assert not any(is_running(pid) for pid in running)
    assert start(host, "again")["pid"] in host.processes()


@pytest.mark.parametrize("text", ["", "no id\n", "x" * 10000])
def test_the_state_id_is_damaged(host, text):
    answer = start(host, "w")
    (host.state_dir / "state-id").write_text(text)
    assert [row["pid"] for row in host.rows()] == [answer["pid"]]
    assert host.json("worker", "stop", "w")["status"] == "stopped" and not is_running(answer["pid"])


def test_everything_but_the_logs_is_lost(host):
    answer = start(host, "w")
    state_id = (host.state_dir / "state-id").read_text()
    for name in ("pool.db", "pool.db-wal", "pool.db-shm", "lock", "daemon.lock"):
        with contextlib.suppress(FileNotFoundError):
            (host.state_dir / name).unlink()
    assert [row["pid"] for row in host.rows()] == [answer["pid"]]
    assert (host.state_dir / "state-id").read_text() == state_id


def test_the_log_is_deleted_while_the_worker_runs(host):
    answer = start(host, "w")
    host.log("w").unlink()
    assert [(row["pid"], row["status"]) for row in host.rows()] == [(answer["pid"], "ready")]
    assert host.spawn_refusal("w")["code"] == "ALREADY_EXISTS"
    assert host.json("worker", "stop", "w")["exit_code"] == 0
    assert not is_running(answer["pid"]) and host.rows() == []


def test_the_log_is_deleted_and_the_worker_was_killed(host):
    answer = start(host, "w")
    host.log("w").unlink()
    os.kill(answer["pid"], signal.SIGKILL)
    wait_until(lambda: not is_running(answer["pid"]), what="its end")
    assert host.rows() == [] and host.all_rows()["w"]["stop_reason"] == "lost"


def test_the_log_is_deleted_and_grandchildren_are_left(host):
    """Without the log's lock the environment still tells whose they are."""
    start(host, "w", *args("--grandchildren", 2, "--grandchildren-leave-session", "--grandchildren-ignore-sigterm"))
    host.log("w").unlink()
    assert host.json("worker", "stop", "w", "--grace", 200)["status"] == "stopped"
    assert host.processes() == {}


def test_the_log_is_another_file_now(host):
    """As a careless rotation leaves it: renamed, and a new one made."""
    answer = start(host, "w")
    host.log("w").rename(host.log("w").with_suffix(".log.1"))
    host.log("w").write_text("rotated\n")
    assert [(row["pid"], row["status"]) for row in host.rows()] == [(answer["pid"], "ready")]
    assert host.json("worker", "stop", "w")["exit_code"] == 0 and not is_running(answer["pid"])


# ---- a row that points to somebody else ----


def identity_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[19])


def test_after_a_reboot(host):
    """The pid is somebody else's now, the port too, and the boot is another: gone, and nobody is touched."""
    answer = start(host, "w")
    os.kill(answer["pid"], signal.SIGKILL)
    wait_until(lambda: not is_running(answer["pid"]) and not is_listening(answer["port"]), what="its end")
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        with database(host) as db:
            db.execute("UPDATE worker SET boot_id = ?, pid = ?", (str(uuid.uuid4()), stranger.pid))
        with listening(answer["port"]):
            assert host.rows() == []
        assert host.all_rows()["w"]["stop_reason"] == "lost"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("by", ["pidfs", "start time"])
@pytest.mark.parametrize("command", [["worker", "list"], ["worker", "stop", "w"], ["worker", "stop", "w", "--force"]],
                         ids=["list", "stop", "force"])
def test_a_pid_that_is_somebody_elses_now(host, by, command):
    answer = start(host, "w")
    os.kill(answer["pid"], signal.SIGKILL)
    wait_until(lambda: not is_running(answer["pid"]), what="its end")
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with database(host) as db:
            db.execute("UPDATE worker SET pid = ?", (stranger.pid,))
            if by == "start time":  # as on a kernel without unique inodes of processes
                db.execute("UPDATE worker SET pidfd_inode = 0, start_time_ticks = ?",
                           (identity_of(stranger.pid) - 1,))
        done = host.run(*command)
        assert done.returncode in (0, 5), done.stderr
        assert host.rows() == []
        assert stranger.poll() is None, "a stranger was signalled"
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("lie", [
    "pid = -1", "pid = 0", "pid = 2147483647", "pid = 1", "port = 0", "port = 1", "log_path = '/dev/null'",
    "log_path = '/etc/passwd'", "log_path = '/'", "log_path = ''", "status = 99", "status = 1000000000000",
    "stop_signal = 0", "stop_signal = 9999", "boot_id = ''", "boot_id = 'x'", "pid_namespace = 1", "revision = -1",
    "created_boottime_ns = -1", "labels = 'no json'", "labels = '{\"a\":1}'", "reserved_bytes = -1", "host = 'x'"])
def test_a_row_that_lies(host, lie):
    """Whatever a row says: no crash, no hang, and init, the files and the next command are unharmed."""
    answer = start(host, "w")
    passwd = os.stat("/etc/passwd")
    with database(host) as db:
        with contextlib.suppress(sqlite3.Error):
            db.execute(f"UPDATE worker SET {lie}")
    for command in (["worker", "list"], ["worker", "show", "w"], ["worker", "stop", "w", "--grace", "100"],
                    ["worker", "list"]):
        done = host.run(*command, )
        assert done.returncode in (0, 3, 5, 7, 8), (lie, command, done.returncode, done.stderr)
    assert os.stat("/etc/passwd").st_mtime_ns == passwd.st_mtime_ns
    assert start(host, "next")["status"] == "ready"
    assert answer["pid"] != 1


def test_a_registry_of_a_newer_version(host):
    """Refused, and left as it is: no rebuild over what a newer program knows."""
    answer = start(host, "w")
    with database(host) as db:
        known = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {known + 1}")
    for command in (["worker", "list"], ["worker", "stop", "w"], ["status"]):
        error = host.refusal(*command)
        assert error["code"] == "REGISTRY_UNAVAILABLE" and error["retriable"] is False
        assert error["details"]["schema_version"] == known + 1
    assert host.spawn_refusal("x")["code"] == "REGISTRY_UNAVAILABLE"
    assert set_aside(host) == [] and is_running(answer["pid"])
    with database(host) as db:
        db.execute(f"PRAGMA user_version = {known}")
    assert [row["pid"] for row in host.rows()] == [answer["pid"]]


def test_a_database_of_another_program(host):
    host.state_dir.mkdir(mode=0o700)
    with database(host) as db:
        db.execute("CREATE TABLE theirs (x)")
    assert host.refusal("worker", "list")["code"] == "REGISTRY_UNAVAILABLE"
    with database(host) as db:
        assert db.execute("SELECT count(*) FROM theirs").fetchone() == (0,)


# ---- commands that stand still ----


def test_a_start_that_stands_still(host):
    """SIGSTOP at many moments of a start. The others get on, or wait for it while it holds the lock."""
    for i, moment in enumerate([0.002, 0.004, 0.006, 0.008, 0.012]):
        command = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", f"w{i}")
        time.sleep(moment)  # the moment is what is being varied
        command.send_signal(signal.SIGSTOP)
        listing = host.start("worker", "list", "--json")
        try:
            listing.wait(timeout=1)
        except subprocess.TimeoutExpired:
            pass  # it is waiting for the lock
        finally:
            command.send_signal(signal.SIGCONT)
        text, errors = listing.communicate(timeout=PATIENCE_S)
        assert listing.returncode == 0, text + errors
        assert set(f"w{k}" for k in range(i)) <= {row["worker_id"] for row in json.loads(text)["workers"]}
        command.communicate(timeout=PATIENCE_S)
        assert command.returncode == 0
        rows = {row["worker_id"]: row["pid"] for row in host.rows()}
        assert {pid: name for name, pid in rows.items()} == host.processes()
        assert f"w{i}" in rows


def test_a_wait_that_stands_still_holds_nothing(host):
    waiting = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "slow", "--wait",
                         *args("--ready-after-ms", 500))
    wait_until(lambda: host.processes() and host.rows()[0]["pid"], what="the worker")
    waiting.send_signal(signal.SIGSTOP)
    try:
        assert start(host, "beside")["status"] == "ready"
        wait_until(lambda: {row["status"] for row in host.rows()} == {"ready"}, what="readiness, seen by another")
        assert host.run("worker", "stop", "beside").returncode == 0
    finally:
        waiting.send_signal(signal.SIGCONT)
    waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 0


@pytest.mark.parametrize("mood", [[], ["--ignore-sigterm"]], ids=["plain", "ignores SIGTERM"])
def test_one_stop_of_ten_wins(host, mood):
    """Or several do, when they met in the same stop; the others say that it is stopped. None hangs."""
    answer = start(host, "w", *args(*mood))
    commands = [host.start("worker", "stop", "w", "--grace", "300", "--json") for _ in range(10)]
    results = [(command.communicate(timeout=PATIENCE_S)[0], command.returncode) for command in commands]
    codes = sorted(code for _, code in results)
    assert codes[0] == 0 and set(codes) <= {0, 3, 5}, results
    for text, code in results:
        document = json.loads(text)
        if code == 0:
            assert document["status"] == "stopped" and document["stop_reason"] == "requested"
        else:
            assert document["error"]["code"] in ("CONFLICT", "WORKER_NOT_FOUND")
    assert not is_running(answer["pid"]) and host.rows() == [] and host.processes() == {}
    assert len([row for row in host.json("worker", "list", "--all")["workers"] if row["worker_id"] == "w"]) == 1


def test_a_stop_and_a_start_of_one_id_at_once(host):
    start(host, "w")
    for _ in range(5):
        commands = [host.start("worker", "stop", "w", "--force"), *(
            host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w") for _ in range(3))]
        for command in commands:
            command.communicate(timeout=PATIENCE_S)
            assert command.returncode in (0, 3, 5)
        rows = host.rows()
        assert {row["pid"]: row["worker_id"] for row in rows} == host.processes()
        if not rows:
            start(host, "w")
