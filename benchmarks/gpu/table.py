"""The two files that a run leaves: JSON with everything, Markdown for reading."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

Row = Mapping[str, Any]


def surroundings(device: torch.device) -> dict[str, Any]:
    """Device, driver, versions and date."""
    known: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "driver": _driver() if device.type == "cuda" else None,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda},
    }
    for package in ("triton", "bevstack"):
        try:
            known["versions"][package] = version(package)
        except PackageNotFoundError:
            known["versions"][package] = None
    return known


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None  # containers come without the tool; the table says "unknown"
    return lines[0].strip() if lines else None


def write(folder: Path, result: Mapping[str, Any]) -> None:
    """``gpu.json`` and ``gpu.md``; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = json.dumps(result, indent=1, allow_nan=False) + "\n"
    for name, text in (("gpu.json", whole), ("gpu.md", markdown(result))):
        part = folder / f".{name}.part"
        part.write_text(text)
        os.replace(part, folder / name)


def markdown(result: Mapping[str, Any]) -> str:
    """Headings, tables, and what went wrong."""
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items() if value)
    peaks = ", ".join(f"{name} {value / 1e12:.1f} TFLOP/s" for name, value in result["matmul_flops_per_s"].items())
    lines = [
        "# GPU kernels and models",
        "",
        f"{result['device']}, driver {result['driver'] or 'unknown'}, {versions}; {result['date']};"
        " `python -m benchmarks.gpu`.",
        f"Copy {result['copy_bytes_per_s'] / 1e12:.2f} TB/s (read and written); square matrix products: {peaks}.",
        "",
        "Medians by CUDA events after a warm-up, second-level cache overwritten before each run; ms. *eager* is the"
        " plain torch form, *compiled* the same through `torch.compile`. Errors are shares of the largest value,"
        " against the plain form in float64. Rates are of our forward pass: bytes that must move at least against the"
        " copy, operations against the product of the same dtype.",
        "",
        *_table(_OPERATORS, [_operator_cells(row, result) for row in result["operators"]]),
        "",
        *_table(_MODELS, [_model_cells(row) for row in result["models"]]),
        "",
        "Exported graphs, float32 without TF32: *network* on inputs that are on the device, *call* from host to host"
        " (graphs give all their raw outputs here); errors of raw outputs against torch.",
        "",
        *_table(_ENGINES, [_engine_cells(row) for row in result["engines"]]),
    ]
    rows = [*result["operators"], *result["models"], *result["engines"]]
    wrong = [f"* {_name(row)}: {text}" for row in rows for text in row["problems"]]
    return "\n".join([*lines, *(["", "Not measured:", "", *wrong] if wrong else [])]) + "\n"


_OPERATORS = (
    "operator, size", "dtype", "forward: eager", "compiled", "ours", "with backward: eager", "compiled", "ours",
    "peak MB: eager", "ours", "error: eager", "ours", "of gradients: ours", "of copy", "of matmul",
)  # fmt: skip
_MODELS = ("model", "what", "precision", "eager", "compiled", "peak MB")
_ENGINES = ("model", "form", "network", "call", "error", "MB", "build s")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(row)} |" for row in rows)]


def _name(row: Row) -> str:
    if "operator" in row:
        return f"{row['operator']} ({row['size']}, {row['dtype']})"
    return f"{row['model']}, {row['what']}, {row['precision']}"


def _operator_cells(row: Row, result: Mapping[str, Any]) -> list[str]:
    times = [_ms(row.get(f"{form}{step}_ms")) for step in ("", "_step") for form in ("eager", "compiled", "ours")]
    peaks = [_number(row.get(f"{form}_step_peak_mb"), "d") for form in ("eager", "ours")]
    errors = [_number(row.get(key), ".1e") for key in ("reference_error", "ours_error", "ours_gradient_error")]
    matmul = result["matmul_flops_per_s"].get(row["dtype"])
    shares = [
        _share(row.get("bytes_per_s"), result["copy_bytes_per_s"]),
        _share(row.get("flops_per_s"), matmul),
    ]
    return [f"`{row['operator']}` {row['size']}", row["dtype"], *times, *peaks, *errors, *shares]


def _model_cells(row: Row) -> list[str]:
    times = [_ms(row.get(f"{form}_ms")) for form in ("eager", "compiled")]
    return [row["model"], row["what"], row["precision"], *times, _number(row.get("peak_mb"), "d")]


def _engine_cells(row: Row) -> list[str]:
    times = [_ms(row.get("network_ms")), _ms(row.get("call_ms"))]
    rest = [_number(row.get(key), form) for key, form in (("error", ".1e"), ("size_mb", ".1f"), ("build_s", ".0f"))]
    return [row["model"], row["what"], *times, *rest]


def _ms(value: float | None) -> str:
    return _number(value, ".3f" if value is not None and value < 10 else ".1f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _share(rate: float | None, peak: float | None) -> str:
    return "-" if rate is None or not peak else f"{100 * rate / peak:.0f} %"
