"""What `models estimate` says against what a real llama-server reserves, for one model of each kind of memory: keys and
values of all layers, windows, latent rows, mixtures, recurrent states, and what options change. The whole table is in
docs/estimates.md, made by tests/support/compare-estimates.
"""
import importlib.machinery
import importlib.util
import os
import pathlib
import sys

import pytest

ENGINE = os.environ.get("POOL_LLAMA_SERVER")
SUPPORT = pathlib.Path(__file__).resolve().parent.parent / "support"
MIB = 1 << 20

pytestmark = pytest.mark.skipif(not ENGINE, reason="POOL_LLAMA_SERVER does not name a llama-server")


def load_compare():
    loader = importlib.machinery.SourceFileLoader("compare_estimates", str(SUPPORT / "compare-estimates"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


compare_estimates = load_compare()


@pytest.mark.parametrize("text", [
    "llama,ctx=1000,parallel=3",
    "llama,-ctk,q8_0,-ctv,q4_0",
    "llama,-fa,off",
    "gemma3,parallel=4,--kv-unified",
    "qwen2moe",
    "deepseek2",
    "jamba,parallel=3",
    "mamba2",
])
def test_parts_are_those_of_the_engine(tmp_path, ports, monkeypatch, text):
    monkeypatch.setenv("PATH", f"{pathlib.Path(ENGINE).parent}:{os.environ['PATH']}")
    program = pathlib.Path(os.environ["POOL_BUILD_DIR"]) / "bin" / "rbees-pool"
    estimated, measured, _ = compare_estimates.compare(ENGINE, program, tmp_path, compare_estimates.Case(text),
                                                       ports[0])
    # The log rounds each buffer to a hundredth of a MiB, of which there are three at the most.
    assert estimated["model"] == pytest.approx(measured["model"], rel=0.002)
    assert estimated["cache"] == pytest.approx(measured["cache"], abs=0.03 * MIB)
    assert estimated["state"] == pytest.approx(measured["state"], abs=0.03 * MIB)
    # Too little here would admit what does not fit; too much costs a little room until it is measured.
    assert 0.97 * measured["compute"] <= estimated["compute"] <= 1.6 * measured["compute"] + 4 * MIB
