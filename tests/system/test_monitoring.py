"""What monitoring is given: the metrics of contract section 8, checked by promtool where there is one, and the alert rules
and the dashboard under packaging/, which may only ask for what a running daemon has.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest
from pool_host import ROOT, Host, wait_until
from test_daemon import Daemon

PROMTOOL = os.environ.get("POOL_PROMTOOL") or shutil.which("promtool")
RULES = ROOT / "packaging/prometheus/pool-core.rules.yml"
RULES_TESTS = ROOT / "tests/system/pool-core.rules.tests.yml"
DASHBOARD = ROOT / "packaging/grafana/pool-core.json"
GPU = "GPU-00000000-0000-4000-8000-000000000001"

# Contract, section 8: name -> its label, if it has one.
CONTRACT = {
    "pool_mgr_gpus": None, "pool_mgr_gpu_vram_total_bytes": "gpu", "pool_mgr_gpu_vram_used_bytes": "gpu",
    "pool_mgr_gpu_vram_allocated_bytes": "gpu", "pool_mgr_gpu_temperature_celsius": "gpu",
    "pool_mgr_gpu_power_watts": "gpu", "pool_mgr_gpu_utilization_ratio": "gpu", "pool_mgr_gpu_healthy": "gpu",
    "pool_mgr_workers": "status", "pool_mgr_worker_starts_total": "outcome", "pool_mgr_worker_stops_total": "reason",
    "pool_mgr_worker_start_duration_seconds_bucket": "le", "pool_mgr_worker_vram_bytes": "worker_id",
    "pool_mgr_model_staged_bytes": None, "pool_mgr_heartbeats_total": "outcome",
    "pool_mgr_http_requests_total": "code", "pool_mgr_http_request_duration_seconds_bucket": "route",
    "pool_mgr_build_info": "version",
}
SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)$')
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="there is no promtool: tests/support/get-promtool fetches one")


def read_samples(text):
    """name -> [(labels, value)]; every line must be one of the format's."""
    samples = {}
    for line in text.decode().splitlines():
        if line.startswith("# HELP ") or line.startswith("# TYPE "):
            continue
        match = SAMPLE.match(line)
        assert match, line
        labels = dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
        samples.setdefault(match[1], []).append((labels, float(match[3])))
    return samples


def value(samples, name, **labels):
    found = [v for have, v in samples[name] if labels.items() <= have.items()]
    assert len(found) == 1, (name, labels, samples[name])
    return found[0]


@pytest.fixture
def daemon(tmp_path, ports):
    """One with a GPU that has every reading, and an orchestrator that is not there."""
    (tmp_path / "gpus.toml").write_text(
        f'[[gpus]]\nuuid = "{GPU}"\nname = "Test \\"GPU\\""\nvram_total_bytes = "8 GiB"\nvram_used_bytes = "1 GiB"\n'
        'temperature_celsius = 40\npower_usage_mw = 125500\nutilization_percent = 25\n')
    host = Host(tmp_path, ports, device="gpu", config=(
        f'env = {{ G = "{{gpu_uuid}}" }}\n[gpu]\ninventory = "static:{tmp_path}/gpus.toml"\n'
        '[orchestrator]\nurl = "http://127.0.0.1:9"\nheartbeat_interval_ms = 100\n'))
    made = Daemon(host)
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()
    host.stop_everything()


def scrape(daemon):
    status, text, headers = daemon.get("/metrics")
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return text


def use(daemon):
    """Something of everything, so that every metric is there."""
    answer = daemon.begin("w", wait=True, required_vram_bytes=2 << 30)
    assert answer[0] == 200, answer
    assert daemon.begin("big", required_vram_bytes=1 << 40)[0] == 507
    assert daemon.begin("bad", "--never-ready", "--crash-after-ms", 1, wait=True, required_vram_bytes=1)[0] == 502
    assert daemon.get("/nothing")[0] == 404
    return answer[1]["pid"]


def test_what_a_scrape_says(daemon):
    pid = use(daemon)
    samples = read_samples(scrape(daemon))
    assert {name for name, label in CONTRACT.items() if name not in samples} == set()
    assert {name for name, label in CONTRACT.items() if label and label not in samples[name][0][0]} == set()
    assert value(samples, "pool_mgr_gpus") == 1
    assert value(samples, "pool_mgr_gpu_vram_total_bytes", gpu=GPU) == 8 << 30
    assert value(samples, "pool_mgr_gpu_vram_used_bytes", gpu=GPU) == 1 << 30
    assert value(samples, "pool_mgr_gpu_vram_allocated_bytes", gpu=GPU) == 2 << 30
    assert value(samples, "pool_mgr_gpu_temperature_celsius") == 40
    assert value(samples, "pool_mgr_gpu_power_watts") == 125.5
    assert value(samples, "pool_mgr_gpu_utilization_ratio") == 0.25
    assert value(samples, "pool_mgr_gpu_healthy") == 1
    assert value(samples, "pool_mgr_gpu_info", gpu=GPU, index="0", device_name='Test \\"GPU\\"') == 1
    assert value(samples, "pool_mgr_workers", status="ready") == 1
    assert value(samples, "pool_mgr_worker_vram_bytes", worker_id="w") == 2 << 30
    assert value(samples, "pool_mgr_worker_starts_total", outcome="ready") == 1
    assert value(samples, "pool_mgr_worker_starts_total", outcome="refused") == 1
    assert value(samples, "pool_mgr_worker_starts_total", outcome="failed") == 1
    assert value(samples, "pool_mgr_worker_stops_total", reason="start_failed") == 1
    assert value(samples, "pool_mgr_worker_start_duration_seconds_count") == 1
    assert value(samples, "pool_mgr_http_requests_total", route="/v2/workers/start", code="507") == 1
    assert value(samples, "pool_mgr_http_requests_total", route="none", code="404") == 1
    assert value(samples, "pool_mgr_http_request_duration_seconds_count", route="/v2/workers/start") == 3
    assert value(samples, "pool_mgr_orchestrator_registered") == 0
    wait_until(lambda: value(read_samples(scrape(daemon)), "pool_mgr_orchestrator_requests_total",
                             kind="register", outcome="unreachable") > 0, 60, "a try to register")

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: value(read_samples(scrape(daemon)), "pool_mgr_worker_stops_total", reason="signalled") == 1, 60,
               "the end of the worker")
    samples = read_samples(scrape(daemon))
    assert "pool_mgr_worker_vram_bytes" not in samples
    assert value(samples, "pool_mgr_workers", status="ready") == 0
    assert value(samples, "pool_mgr_gpu_vram_allocated_bytes", gpu=GPU) == 0


def test_histograms_add_up(daemon):
    use(daemon)
    samples = read_samples(scrape(daemon))
    for name in ("pool_mgr_http_request_duration_seconds", "pool_mgr_worker_start_duration_seconds"):
        for route in {labels.get("route") for labels, _ in samples[name + "_count"]}:
            labels = {"route": route} if route else {}
            counts = [v for have, v in samples[name + "_bucket"] if labels.items() <= have.items()]
            assert counts == sorted(counts) and counts[-1] == value(samples, name + "_count", **labels)
    requests = sum(v for _, v in samples["pool_mgr_http_requests_total"])
    assert requests == sum(v for _, v in samples["pool_mgr_http_request_duration_seconds_count"])


@needs_promtool
def test_promtool_likes_the_metrics(daemon):
    use(daemon)
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=scrape(daemon), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def dashboard_queries():
    found = []

    def walk(node):
        if isinstance(node, dict):
            found.extend(node[key] for key in ("expr", "definition") if key in node)
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                walk(child)

    walk(json.loads(DASHBOARD.read_text()))
    assert len(found) > 30
    return found


def rule_queries():
    text = RULES.read_text()
    found = [" ".join(match.split()) for match in re.findall(r"expr: (?:>-\n)?((?:.*)(?:\n {10}.*)*)", text)]
    assert len(found) == text.count("alert: ") > 10
    return found


@pytest.mark.parametrize("queries", [dashboard_queries, rule_queries])
def test_queries_ask_for_what_there_is(daemon, queries):
    use(daemon)
    samples = read_samples(scrape(daemon))
    given_by_prometheus = {"instance", "job"}
    for query in queries():
        names = re.findall(r"\b(?:pool_mgr|process)_[a-z_]+", query)
        assert names or query.startswith("up{"), query
        assert [name for name in names if name not in samples] == [], query
        # The labels in braces, those of the metric before them.
        for name, matchers in re.findall(r"\b((?:pool_mgr|process)_[a-z_]+)\{([^}]*)\}", query):
            labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers)) - given_by_prometheus
            assert labels <= set(samples[name][0][0]), (query, labels)
        # The values they are compared with, where the set is ours.
        for name, label, wanted in re.findall(r'\b(pool_mgr_worker_st\w+|pool_mgr_workers)\{[^}]*\b(\w+)=~?"([a-z_|]+)"',
                                              query):
            have = {labels[label] for labels, _ in samples[name]}
            assert set(wanted.split("|")) <= have, query


@needs_promtool
def test_promtool_likes_the_rules_and_the_dashboard(tmp_path):
    subprocess.run([PROMTOOL, "check", "rules", RULES], check=True, timeout=60, stdout=subprocess.DEVNULL)
    rules = [{"record": f"panel:query{i}", "expr": query.replace("$__rate_interval", "5m").replace("$instance", ".*")}
             for i, query in enumerate(dashboard_queries()) if not query.startswith("label_values(")]
    path = pathlib.Path(tmp_path, "dashboard.yml")
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_when_they_should_and_not_else():
    done = subprocess.run([PROMTOOL, "test", "rules", RULES_TESTS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_lie_on_each_other():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert max(x for x, _ in cells) < 24 and not taken & cells, panel["title"]
        taken |= cells
