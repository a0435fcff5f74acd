"""Why: what was decided about a worker or a request can be asked for afterwards, by every id that it has, and comes as
an event. Workers are the fake one; the daemon is test_daemon's.
"""
import json

import pytest
from test_daemon import Daemon, UnixConnection  # noqa: F401


@pytest.fixture
def daemon(host):
    made = Daemon(host)
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()


def explanations(daemon, some_id):
    status, answer, _ = daemon.get(f"/v2/explain/{some_id}")
    assert status == 200, answer
    return answer["explanations"]


def test_a_refusal_is_found_by_each_of_its_ids(daemon):
    status, answer, _ = daemon.ask("POST", "/v2/workers/start",
                                   {"backend": "fake", "model_ref": f"file:{daemon.host.model}", "worker_id": "big",
                                    "required_vram_bytes": 1 << 60}, {"X-Correlation-Id": "why-not"})
    error = answer["error"]
    assert status == 507 and error["correlation_id"] == "why-not"
    for some_id in ("big", "why-not", error["details"]["explain_id"]):
        (record,) = explanations(daemon, some_id)
        assert record["record_id"] == error["details"]["explain_id"]
        assert (record["kind"], record["code"], record["message"]) == ("refusal", error["code"], error["message"])
        (candidate,) = record["candidates"]
        ledger = candidate["ledger"]
        assert ledger["available_bytes"] == ledger["free_bytes"] - ledger["pending_bytes"] - ledger["headroom_bytes"]
        assert candidate["left_bytes"] == ledger["available_bytes"] - record["required_bytes"] < 0
        assert error["details"]["available_memory_bytes"] == ledger["available_bytes"]


def test_a_life_is_told_with_who_asked_for_what(daemon):
    body = {"backend": "fake", "model_ref": f"file:{daemon.host.model}", "worker_id": "w", "wait": True}
    assert daemon.ask("POST", "/v2/workers/start", body, {"X-Correlation-Id": "start-it"})[0] == 200
    assert daemon.ask("POST", "/v2/workers/stop", {"worker_id": "w", "wait": True},
                      {"X-Correlation-Id": "stop-it"})[0] == 200
    told = [(r["kind"], r["correlation_id"], r["stop_reason"]) for r in reversed(explanations(daemon, "w"))]
    assert told == [("start", "start-it", None), ("stop", "stop-it", "requested"), ("end", "stop-it", "requested")]
    assert [r["kind"] for r in explanations(daemon, "stop-it")] == ["end", "stop"]
    # the same without the daemon, and over another one
    daemon.kill()
    alone = daemon.host.json("explain", "w")["explanations"]
    daemon.start()
    assert alone == explanations(daemon, "w")


def test_explanations_are_events(daemon):
    connection = UnixConnection(daemon.socket)
    connection.request("GET", "/v2/events")
    stream = connection.getresponse()
    assert daemon.begin("w", wait=True)[0] == 200
    assert daemon.stop("w")[0] == 200
    seen = []
    kind = None
    while [k for k, _ in seen] != ["explain.start", "explain.stop", "explain.end"]:
        line = stream.readline().decode().strip()
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: ") and kind.startswith("explain."):
            seen.append((kind, json.loads(line[6:])))
    connection.close()
    assert [record for _, record in reversed(seen)] == explanations(daemon, "w")


def test_what_is_not_known(daemon):
    assert daemon.get("/v2/explain/nobody")[1]["error"]["code"] == "NOT_FOUND"
    assert daemon.get("/v2/explain/%20")[1]["error"]["code"] == "INVALID_REQUEST"
