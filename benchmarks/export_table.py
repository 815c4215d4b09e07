"""The cases of ``benchmarks.export`` and their table: one row a case, kept as JSON and written as Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is exported: a configuration, and for detectors of pictures (H, W) px."""

    config: str
    size_px: tuple[int, int] | None = None


CASES = {
    "yolox_nano": Case("configs/yolox/yolox_nano_coco.py", (416, 416)),
    "ppyoloe_s": Case("configs/ppyoloe/ppyoloe_s_coco.py", (640, 640)),
    "one_to_one_s": Case("configs/one_to_one/one_to_one_s_coco.py", (640, 640)),
    "bevdet_r50": Case("configs/bevdet/bevdet_r50_nusc.py"),
    "bevformer_tiny": Case("configs/bevformer/bevformer_tiny_nusc.py"),
    "retinanet_r50": Case("configs/retinanet/retinanet_r50_coco.py", (800, 1344)),
    "bevdepth_r50": Case("configs/bevdepth/bevdepth_r50_2key_nusc.py"),
    "petr_vovnet": Case("projects/petr/configs/petr_vovnet_800x320_nusc.py"),
    "streampetr_r50": Case("projects/streampetr/configs/streampetr_r50_704_nusc.py"),
    "tood_r50": Case("configs/tood/tood_r50_coco.py", (800, 1344)),
    "fcos_r50": Case("configs/fcos/fcos_r50_coco.py", (800, 1344)),
    "atss_r50": Case("configs/atss/atss_r50_coco.py", (800, 1344)),
    "gfl_r50": Case("configs/gfl/gfl_r50_coco.py", (800, 1344)),
    "lss_effb0": Case("configs/lss/lss_effb0_nusc.py"),
    "petr_r50": Case("projects/petr/configs/petr_r50_p4_nusc.py"),
    "detr3d_r101_dcn": Case("configs/detr3d/detr3d_r101_dcn_nusc.py"),
    "detr3d_vovnet": Case("configs/detr3d/detr3d_vovnet_nusc.py"),
}

_HEAD = """# Exported graphs at published full size

`python -m benchmarks.export --all` (resumes; `--case NAME` for one). One frame, batch 1, one thread, milliseconds of
the processor on a machine that was busy with other work, float32. *Raw*: the network's own maps in onnxruntime against
torch, largest difference relative to the largest magnitude of its output (limit 1e-4). *Boxes*: of torch, and how many
of either side have no partner. *float64*: distance of torch's and of onnxruntime's float32 from the same network in
float64. Weights are random with the gains and statistics of trained networks (`benchmarks/weights.py`) unless named.
int8 columns stand in `docs/quantisation.md`.
"""
_PENDING = "not measured yet, `--all` goes on with it"
_COLUMNS = {
    "case": "case",
    "image": "image",
    "parameters": "parameters",
    "nodes": "nodes",
    "gflops": "GFLOP",
    "size_mb": "MB",
    "raw": "raw",
    "float64": "float64: torch, onnx",
    "boxes": "boxes, unpaired",
    "torch_ms": "torch eager ms",
    "compiled_ms": "torch.compile ms",
    "onnx_ms": "onnxruntime ms",
    "rtx": "TensorRT-RTX builds",
}


def load(folder: Path) -> dict[str, Row]:
    """Rows by case; empty where there is no file yet."""
    path = folder / "export.json"
    if not path.is_file():
        return {}
    return {row["case"]: row for row in json.loads(path.read_text())["cases"]}


def save(folder: Path, row: Row, names: Sequence[str]) -> None:
    """Add or replace a row and write both files; ``names`` of all cases, in the table's order."""
    rows = {**load(folder), row["case"]: row}
    versions = {"python": platform.python_version(), **{name: version(name) for name in ("torch", "onnxruntime")}}
    content = {"name": "export", "threads": 1, "versions": versions, "cases": list(rows.values())}
    _write(folder / "export.json", json.dumps(content, indent=1) + "\n")
    _write(folder / "export.md", markdown(rows, names))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def markdown(rows: Mapping[str, Row], names: Sequence[str]) -> str:
    """The table, and below it why cells are empty."""
    rows = {name: rows.get(name, {"case": name, "reasons": {"every cell": _PENDING}}) for name in names}
    lines = [_HEAD, f"| {' | '.join(_COLUMNS.values())} |", "|" + "---|" * len(_COLUMNS)]
    reasons: dict[str, list[str]] = {}
    for row in rows.values():
        lines.append(f"| {' | '.join(_cell(row, name) for name in _COLUMNS)} |")
        for cell, reason in row.get("reasons", {}).items():
            reasons.setdefault(f"{_COLUMNS.get(cell, cell)}: {reason}", []).append(row["case"])
    if reasons:
        lines += ["", "Empty cells:", ""]
        lines += [f"* {reason} ({', '.join(cases)})" for reason, cases in reasons.items()]
    return "\n".join(lines) + "\n"


def _cell(row: Row, name: str) -> str:
    value = row.get(name)
    if name == "image":
        return row.get("image") or ""
    if name == "boxes":
        return f"{row['boxes']}, {row['unmatched']}" if "boxes" in row else ""
    if value is None:
        return ""
    if name == "raw":
        return f"{value:.1e} (`{row['raw_output']}`)"
    if name == "float64":
        return f"{value['torch']:.1e}, {value['onnx']:.1e}"
    if name in ("gflops", "size_mb"):
        return f"{value:.1f}"
    return f"{value:,.0f}" if isinstance(value, (int, float)) else str(value)
