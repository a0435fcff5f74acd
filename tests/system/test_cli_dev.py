"""rbees-pool dev: what doctor finds in surroundings that are made for it, and what setup writes."""
import fcntl
import json
import os
import subprocess

import pytest
from pool_host import PROGRAM, Host


def findings(host, *arguments, status=0, environment=None):
    done = host.run("dev", "doctor", "--json", *arguments, environment=environment)
    assert done.returncode == status, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["n_failed"] == sum(finding["level"] == "failed" for finding in document["findings"])
    return document["findings"]


def of(check, listed):
    return [(finding["level"], finding["message"]) for finding in listed if finding["check"] == check]


def test_doctor(host, tmp_path):
    listed = findings(host)
    assert not host.state_dir.exists()  # it only looks
    assert all(finding["fix"] or finding["level"] in ("ok", "note") for finding in listed)
    assert of("config", listed) == [("ok", str(host.config))]
    assert [level for level, _ in of("daemon", listed)] == ["note"]
    assert any("fake-worker (backend fake)" in message for _, message in of("engines", listed))
    assert {finding["check"] for finding in listed} >= {"state", "driver", "gpu locks", "git", "hf", "disk", "ports",
                                                        "limits", "cgroups", "clock"}
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in (("llama-server", "echo banner; echo 'version: 9 (abc)' >&2"), ("hf", "echo 1.2.3"), ("git", "exit 3")):
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    listed = findings(host, environment={"PATH": str(tools)})
    assert ("ok", f"{tools}/llama-server (backend cpu): version: 9 (abc)") in of("engines", listed)
    assert of("hf", listed) == [("ok", "1.2.3")] and of("git", listed)[0][0] == "warning"
    for_people = host.run("dev", "doctor")
    assert for_people.returncode == 0 and "config" in for_people.stdout and max(map(len, for_people.stdout.split())) > 1


def test_doctor_finds(host):
    text = host.config.read_text()
    host.config.write_text(text + '[backends.own]\ncommand = ["/nonexistent/engine", "{port}"]\nready.http = "/"\n')
    assert [level for level, _ in of("engines", findings(host, status=7))].count("failed") == 1
    host.config.write_text(text.replace("[workers]\n", "[workers]\nstop_grace_ms = 1\n").replace("port_range", "port_rnage"))
    assert "port_range" in of("config", findings(host, status=2))[0][1]
    host.config.write_text(text)
    low, high = open("/proc/sys/net/ipv4/ip_local_port_range", encoding="utf-8").read().split()
    listed = findings(host, environment={"POOL_WORKERS_PORT_RANGE": f"{int(low) + 1}-{int(low) + 9}"})
    assert [level for level, _ in of("ports", listed)] == ["warning"]
    host.run("worker", "list")
    os.chmod(host.state_dir, 0o755)
    assert ("warning", f"{host.state_dir} can be entered by others") in of("state", findings(host))
    os.chmod(host.state_dir, 0o700)
    with open(host.state_dir / "daemon.lock", "r+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert [level for level, _ in of("daemon", findings(host, status=5))] == ["failed"]
    assert [level for level, _ in of("state", findings(host))] == ["ok"]
    listed = findings(host, "--url", f"unix:{host.directory}/none.sock", status=7)
    assert [level for level, _ in of("daemon", listed)] == ["failed"]


def test_doctor_judges_gpus(tmp_path, ports):
    gpus = tmp_path / "gpus.toml"
    gpus.write_text('[[gpus]]\nuuid = "GPU-00000000-0000-4000-8000-000000000001"\nname = "Fine"\n'
                    'vram_total_bytes = "24 GiB"\nvram_used_bytes = 0\n')
    host = Host(tmp_path, ports, config=f'[gpu]\ninventory = "static:{gpus}"\n')
    assert ("ok", "1 device by static") in of("driver", findings(host))
    gpus.write_text("nonsense")
    assert of("driver", findings(host, status=2))[0][0] == "failed"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_doctor_in_another_ones_state(host):
    host.run("worker", "list")
    os.chown(host.state_dir, 65534, 65534)
    assert [level for level, _ in of("state", findings(host, status=4))] == ["failed"]


def test_setup(host, tmp_path):
    place = tmp_path / "new" / "pool" / "pool.toml"

    def run(*words, **variables):
        return subprocess.run([PROGRAM, *words], env={**host.environment, **variables}, capture_output=True, text=True)

    done = run("dev", "setup", "--json", "--config", place)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == {"config": str(place), "catalog": str(place.parent / "catalog.toml")}
    assert run("config", "check", "--config", place).returncode == 0
    shown = json.loads(run("config", "show", "--json", "--config", place).stdout)["values"]
    set_there = {value["key"] for value in shown if str(place) in value["origin"]}
    assert set_there == {"pool.catalogs"}
    assert json.loads(run("models", "list", "--json", "--config", place).stdout)["models"] == []
    before = place.read_bytes()
    done = run("dev", "setup", "--json", POOL_CONFIG=str(place))
    assert done.returncode == 5 and json.loads(done.stdout)["error"]["code"] == "ALREADY_EXISTS"
    assert place.read_bytes() == before
    place.unlink()  # its catalog is still somebody's
    assert run("dev", "setup", "--json", "--config", place).returncode == 5
    assert not place.exists() and sorted(os.listdir(place.parent)) == ["catalog.toml"]
    assert run("dev", "setup", "--config", "/proc/no/pool.toml").returncode == 4
