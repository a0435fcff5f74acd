"""Two people at two terminals while the daemon is stopped, killed and started: nothing that they ask for is lost or happens
twice. What really runs is read from /proc."""
import collections
import itertools
import json
import os
import signal
import threading

import pytest
from pool_host import ran
from test_cli_daemon import Daemon

WORKERS_EACH = 12 if os.environ.get("POOL_SOAK") else 5


class Person(threading.Thread):
    """Starts workers, looks at them, stops every other one; remembers what was answered."""

    def __init__(self, host, name):
        super().__init__()
        self.host, self.name = host, name
        self.answers = []  # (what, worker id, exit status, document)
        self.problem = None

    def ask(self, what, worker_id, *arguments):
        done = self.host.run("--json", *arguments)
        self.answers.append((what, worker_id, done.returncode, json.loads(done.stdout) if done.stdout else None))
        return done.returncode

    def run(self):
        try:
            for n in range(WORKERS_EACH):
                worker_id = f"{self.name}-{n}"
                self.ask("spawn", worker_id, "worker", "spawn", "fake", "--model", f"file:{self.host.model}", "--id", worker_id,
                         "--wait")
                self.ask("show", worker_id, "worker", "show", worker_id)
                self.ask("list", worker_id, "worker", "list", "--all")
                if n % 2:
                    self.ask("stop", worker_id, "worker", "stop", worker_id)
        except Exception as problem:  # told by the test, whose thread this is not
            self.problem = problem


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_two_terminals(host, how):
    daemon = Daemon(host)
    people = [Person(host, name) for name in ("anna", "berta")]
    for person in people:
        person.start()
    n_daemons = 0
    for _ in itertools.takewhile(lambda _: any(person.is_alive() for person in people), itertools.count()):
        # both states are met by commands: an answer of either person ends each of them
        for is_running in (True, False):
            if is_running:
                daemon.start()
                n_daemons += 1
            else:
                daemon.end(how)
            n_before = sum(len(person.answers) for person in people)
            while any(person.is_alive() for person in people) and sum(len(person.answers) for person in people) == n_before:
                for person in people:
                    person.join(timeout=0.05)
    for person in people:
        person.join()
        assert person.problem is None, person.problem
    if daemon.process and daemon.process.poll() is None:
        daemon.end(how)
    assert n_daemons >= 2
    for person in people:
        for what, worker_id, status, document in person.answers:
            assert status == 0, (what, worker_id, document)
            if what == "list":  # whoever answered knew the worker
                assert [row["worker_id"] for row in ran(document["workers"])].count(worker_id) == 1, worker_id
    wanted = {f"{person.name}-{n}" for person in people for n in range(0, WORKERS_EACH, 2)}
    stopped = {f"{person.name}-{n}" for person in people for n in range(1, WORKERS_EACH, 2)}
    rows = ran(host.json("worker", "list", "--all")["workers"])
    known = collections.Counter(row["worker_id"] for row in rows)
    assert known == dict.fromkeys(wanted | stopped, 1)  # nothing is lost, nothing was started twice
    by_id = {row["worker_id"]: row for row in rows}
    assert all(by_id[name]["status"] in ("ready", "idle", "busy") for name in wanted)
    assert all((by_id[name]["status"], by_id[name]["stop_reason"]) == ("stopped", "requested") for name in stopped)
    running = collections.Counter(host.processes().values())
    assert set(running) == wanted and all(running[name] == 1 for name in wanted)
    assert {by_id[name]["pid"] for name in wanted} == set(host.processes())
