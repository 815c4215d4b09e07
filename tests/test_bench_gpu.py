"""The GPU benchmark without a GPU: it refuses; on a CPU, quickly, everything but its timings can be tried."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from benchmarks.gpu.__main__ import RESULTS, main
from benchmarks.gpu.case import Case
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.operators import Deadline, measure
from benchmarks.gpu.table import markdown
from tests.paths import REPO_ROOT

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_there_is_one_line_and_no_table(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [["--quick"], ["--quick", "--out", str(RESULTS)], []])
def test_a_cpu_never_writes_the_table(options, capsys):
    before = sorted(RESULTS.iterdir())
    assert main(["--device", "cpu", *options]) == 2
    assert "benchmarks/results" in capsys.readouterr().err
    assert sorted(RESULTS.iterdir()) == before


def test_every_operator_and_model_is_measured_and_written(tmp_path):
    code = main(["--device", "cpu", "--quick", "--budget-s", "0", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["operator"] for row in result["operators"]} == {case.name for case in CASES}
    rows = [*result["operators"], *result["models"], *result["engines"]]
    problems = {text for row in rows for text in row["problems"]}
    assert code == 1 and problems == {"compiled: no time left"}
    for row in result["operators"]:
        bound = 1e-5 if row["dtype"] == "float32" else 0.05
        assert row["ours_ms"] > 0 and row["eager_ms"] > 0
        assert max(row["ours_error"], row.get("ours_gradient_error", 0)) < bound, row
    assert {(row["what"], row["precision"]) for row in result["models"]} == {
        (what, precision) for what in ("one frame", "training step") for precision in ("float32", "bf16 autocast")
    }
    assert all(row["eager_ms"] > 0 for row in result["models"])
    assert [row["what"] for row in result["engines"]] == ["torch, eager", "AOTInductor"]
    assert result["engines"][0]["network_ms"] > 0
    text = (tmp_path / "gpu.md").read_text()
    assert text == markdown(result) and all(case.name in text for case in CASES)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_kernels_run_interpreted_and_references_compile(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO_ROOT)}
    options = ["--device", "cpu", "--quick", "--only", "bias_relu", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.gpu", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO_ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads((tmp_path / "gpu.json").read_text())
    assert all(row["compiled_step_ms"] > 0 and not row["problems"] for row in result["operators"])


def _inputs(device, dtype, quick):
    return (torch.ones(3, device=device, dtype=dtype, requires_grad=True),)


def test_what_fails_is_named_and_the_rest_goes_on():
    def broken(x):
        raise RuntimeError("no such kernel\nsecond line")

    row = measure(Case("op", "3", _inputs, torch.sin, broken), torch.float32, Clock(CPU, True), Deadline(0))
    assert row["problems"] == [
        "error of ours: RuntimeError: no such kernel", "compiled: no time left", "ours: RuntimeError: no such kernel"
    ]  # fmt: skip
    assert row["eager_ms"] > 0 and "ours_ms" not in row
    row = measure(Case("op", "3", _inputs, torch.sin, torch.log), torch.float32, Clock(CPU, True), Deadline(0))
    assert row["ours_error"] == pytest.approx(1.0) and row["reference_error"] < 1e-6
    unknown = Case("op", "3", _inputs, torch.sin, lambda x: x / 0 - x / 0)
    row = measure(unknown, torch.float32, Clock(CPU, True), Deadline(0))
    assert any("not a number" in text for text in row["problems"])


def test_an_engine_that_does_not_build_does_not_stop_the_others(monkeypatch):
    from benchmarks.gpu import engines

    def broken(graph, folder):
        raise RuntimeError("no such compiler\nsecond line")

    def works(graph, folder):
        (folder / "file").write_bytes(b"x" * 200_000)

        def run():
            with torch.inference_mode():
                return {name: value.numpy() for name, value in zip(graph.facts.outputs, graph(*graph.example.values()))}

        return folder / "file", run, lambda clock: clock.median_ms(run)

    monkeypatch.setattr(engines, "_forms", lambda clock: {"broken": broken, "works": works})
    rows = {row["what"]: row for row in engines.measure_engines(Clock(CPU, True), Deadline(600))}
    assert rows["broken"]["problems"] == ["building: RuntimeError: no such compiler"]
    assert not rows["works"]["problems"] and rows["works"]["error"] < 1e-6 and rows["works"]["size_mb"] == 0.2
    assert rows["works"]["call_ms"] > 0 and rows["torch, eager"]["network_ms"] > 0
