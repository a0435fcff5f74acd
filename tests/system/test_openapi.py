"""GET /v2/openapi.json against the daemon that serves it: valid OpenAPI 3.1, every route answers, every example of it is
answered as it says, and every answer is of the documented type, without a member that is not documented.
"""
import copy
import json
import pathlib
import shutil
import subprocess

import pytest
from conftest import take_ports
from pool_host import FAKE_WORKER, ROOT, Host, wait_until
from test_daemon import Daemon

jsonschema = pytest.importorskip("jsonschema")

VALIDATOR = ROOT / "tests" / "openapi"
SLOW_S = 60


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    directory = tmp_path_factory.mktemp("openapi")
    gpus, catalog = directory / "gpus.toml", directory / "catalog.toml"
    gpus.write_text('[[gpus]]\nuuid = "GPU-00000000-0000-4000-8000-00000000000a"\nvram_total_bytes = "24 GiB"\n')
    command = [str(FAKE_WORKER), "--port", "{port}", "--host", "{host}", "-m", "{model_path}"]
    host = Host(directory, take_ports(), config=(
        f'[backends.cpu]\ncommand = {json.dumps(command)}\n'
        f'[gpu]\ninventory = "static:{gpus}"\n[staging]\nmax_bytes = "1GiB"\n'))
    host.config.write_text(host.config.read_text().replace("[pool]\n", f'[pool]\ncatalogs = ["{catalog}"]\n', 1))
    catalog.write_text(f'[[models]]\nid = "qwen2.5-0.5b"\nfile = "{host.model}"\n')
    daemon = Daemon(host)
    daemon.start()
    yield daemon
    daemon.kill()
    host.stop_everything()


@pytest.fixture(scope="module")
def document(daemon):
    status, document, _ = daemon.get("/v2/openapi.json")
    assert status == 200
    return document


def operations(document):
    return [(path, method.upper(), operation) for path, item in document["paths"].items()
            for method, operation in item.items()]


def test_it_is_valid_openapi(document):
    if not shutil.which("node") or not (VALIDATOR / "node_modules").is_dir():
        pytest.skip("the validator is not installed: npm ci in tests/openapi")
    done = subprocess.run(["node", VALIDATOR / "validate.mjs"], input=json.dumps(document), text=True,
                          capture_output=True, timeout=SLOW_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3.1" in done.stdout


def test_it_names_every_route_of_the_contract(document):
    served = {f"{method} {path}" for path, method, _ in operations(document)}
    assert served >= {
        "GET /health", "GET /v2/state", "GET /v2/gpus", "GET /v2/gpus/{id}", "PUT /v2/gpus/{id}/cordon",
        "DELETE /v2/gpus/{id}/cordon", "GET /v2/models", "GET /v2/models/{id}", "POST /v2/models/{id}/verify",
        "PUT /v2/models/{id}/stage", "DELETE /v2/models/{id}/stage", "POST /v2/workers/start",
        "POST /v2/workers/check", "POST /v2/workers/stop", "POST /v2/workers/{id}/drain", "GET /v2/workers",
        "GET /v2/workers/{id}", "GET /v2/workers/{id}/logs", "GET /v2/events", "POST /v2/internal/workers/ready",
        "GET /metrics", "GET /v2/openapi.json"}
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))


def test_other_methods_are_told_what_there_is(daemon, document):
    for path, item in document["paths"].items():
        wanted = {method.upper() for method in item} | ({"HEAD"} if "get" in item else set())
        target = path.replace("{id}", "x")
        unused = next(m for m in ("PATCH", "DELETE", "PUT") if m not in wanted)
        status, answer, headers = daemon.ask(unused, target)
        assert (status, answer["error"]["code"]) == (405, "METHOD_NOT_ALLOWED"), target
        assert wanted <= set(headers["Allow"].split(", ")), target


def strict(document):
    """Its schemas, closed: a member that is not documented is an error."""
    closed = copy.deepcopy(document)
    for schema in closed["components"]["schemas"].values():
        schema["additionalProperties"] = False
    return closed


def problems(document, schema, body):
    """What of a body is not as its schema says, a line each."""
    resolver = jsonschema.RefResolver.from_schema(document)
    validator = jsonschema.Draft202012Validator(schema, resolver=resolver, format_checker=jsonschema.FormatChecker())
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(body)]


def examples(document):
    return [(path, method, operation, example) for path, method, operation in operations(document)
            for example in operation.get("x-examples", [])]


def start_chat(daemon):
    """The worker that the examples speak of."""
    worker = daemon.worker("chat-1")
    if worker and worker["status"] == "stopping":
        wait_until(lambda: daemon.worker("chat-1")["status"] == "stopped", seconds=SLOW_S, what="its stop")
    if not worker or daemon.worker("chat-1")["status"] == "stopped":
        request = {"backend": "cpu", "model_ref": "qwen2.5-0.5b", "worker_id": "chat-1", "wait": True}
        status, answer, _ = daemon.ask("POST", "/v2/workers/start", request)
        assert status == 200, answer


def test_every_route_has_examples_good_and_bad(document):
    for path, method, operation in operations(document):
        statuses = [example["status"] for example in operation.get("x-examples", [])]
        assert any(status >= 400 for status in statuses), f"{method} {path} has no bad example"
        # A stream has no end, and a spawn token cannot be known beforehand: tests of their own show these.
        if path not in ("/v2/events", "/v2/internal/workers/ready"):
            assert any(status < 400 for status in statuses), f"{method} {path} has no good example"


def test_every_example_is_answered_as_it_says(daemon, document):
    closed = strict(document)
    for path, method, operation, example in examples(document):
        what = f"{method} {example['target']} {example.get('body')}"
        start_chat(daemon)
        status, body, headers = daemon.ask(method, example["target"], example.get("body"))
        assert status == example["status"], f"{what}: {status} {body}"
        assert headers["X-Correlation-Id"]
        described = operation["responses"][str(status)]
        if "code" in example:
            assert body["error"]["code"] == example["code"], what
            assert body["error"]["code"] in described["description"], what
            assert body["error"]["correlation_id"] == headers["X-Correlation-Id"]
        for media, content in described.get("content", {}).items():
            assert headers["Content-Type"] == media, what
            if media == "application/json":
                assert problems(closed, content["schema"], body) == [], what
        if "body" in example and "code" not in example:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            assert problems(document, schema, example["body"]) == [], what


def test_bad_bodies_are_bad_by_the_schema_too(document):
    """Where the schema can tell, it does: what the daemon refuses for its form is no instance of it."""
    for _, method, operation, example in examples(document):
        if example.get("code") != "INVALID_REQUEST" or "body" not in example:
            continue
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert problems(document, schema, example["body"]) != [], example


def test_every_refusal_has_its_shape_and_correlation_id(daemon, document):
    for headers in ({}, {"X-Correlation-Id": "mine-1"}, {"X-Correlation-Id": "not fine!"}):
        status, body, answered = daemon.ask("GET", "/v2/workers/nobody", headers=headers)
        assert status == 404
        assert problems(strict(document), {"$ref": "#/components/schemas/Error"}, body) == []
        asked = headers.get("X-Correlation-Id")
        assert (answered["X-Correlation-Id"] == asked) == (asked == "mine-1")
        assert body["error"]["correlation_id"] == answered["X-Correlation-Id"]


def test_head_is_get_without_the_body(daemon, document):
    for path in document["paths"]:
        if "get" in document["paths"][path] and "{id}" not in path:
            status, body, headers = daemon.ask("HEAD", path)
            assert status == 200 and body == b"", path
            assert headers["Content-Type"], path


def test_etag_and_not_modified(daemon):
    start_chat(daemon)
    status, _, headers = daemon.get("/v2/state")
    for known in (headers["ETag"], f'"other", {headers["ETag"]}', f'W/{headers["ETag"]}', "*"):
        status, body, again = daemon.get("/v2/state", **{"If-None-Match": known})
        assert (status, body, again["ETag"]) == (304, b"", headers["ETag"]), known
    assert daemon.get("/v2/state", **{"If-None-Match": '"other"'})[0] == 200
