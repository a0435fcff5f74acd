"""rbees-pool worker drain, with a daemon and without one: the worker ends when it has nothing in flight, and not before."""
import json
import signal
import urllib.request

import pytest
from pool_host import Host, is_running, wait_until
from test_cli_daemon import Daemon

FOREVER_MS = 6_000_000


@pytest.fixture(params=["alone", "daemon"])
def telling_host(request, tmp_path, ports):
    """A host whose workers tell what they have in flight, as llama-server does."""
    host = Host(tmp_path, ports, config='activity = "llama-server"\n')
    daemon = Daemon(host).start() if request.param == "daemon" else None
    yield host
    if daemon:
        daemon.end()
    host.stop_everything()


def busy(row, ms):
    request = urllib.request.Request(f"http://127.0.0.1:{row['port']}/fake/busy?ms={ms}", method="POST", data=b"")
    with urllib.request.urlopen(request, timeout=60):
        pass


def is_draining(host, worker_id):
    row = host.json("worker", "show", worker_id)
    return (row["status"], row["stop_phase"]) == ("stopping", "drain")


def test_drain_waits_for_requests(telling_host):
    host = telling_host
    assert host.spawn("one", "--wait").returncode == 0
    (row,) = host.rows()
    busy(row, FOREVER_MS)
    draining = host.start("worker", "drain", "one", "--json")
    wait_until(lambda: is_draining(host, "one"), seconds=60, what="the drain")
    assert draining.poll() is None and is_running(row["pid"])
    busy(row, 0)
    out, err = draining.communicate(timeout=60)
    assert draining.returncode == 0, out + err
    document = json.loads(out)
    assert (document["status"], document["stop_reason"]) == ("stopped", "requested")
    assert not is_running(row["pid"])


def test_drain_is_bounded(telling_host):
    host = telling_host
    assert host.spawn("one", "--wait").returncode == 0
    busy(host.rows()[0], FOREVER_MS)
    assert host.json("worker", "drain", "one", "--timeout", "300")["status"] == "stopped"


def test_interrupted_drain_leaves_the_worker(telling_host):
    host = telling_host
    assert host.spawn("one", "--wait").returncode == 0
    (row,) = host.rows()
    busy(row, FOREVER_MS)
    draining = host.start("worker", "drain", "one", "--json")
    wait_until(lambda: is_draining(host, "one"), seconds=60, what="the drain")
    draining.send_signal(signal.SIGINT)
    out, _ = draining.communicate(timeout=60)
    assert draining.returncode == 130 and json.loads(out)["error"]["code"] == "CANCELLED"
    assert is_running(row["pid"])
    assert host.run("worker", "stop", "one", "--force").returncode == 0


def test_what_does_not_tell_is_stopped(host):
    assert host.spawn("one", "--wait").returncode == 0
    assert host.json("worker", "drain", "one")["status"] == "stopped"
    assert host.refusal("worker", "drain", "one")["code"] in ("CONFLICT", "WORKER_NOT_FOUND")
