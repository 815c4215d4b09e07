"""YOLOX-Nano on one CPU thread: the exported model, eager torch and torch.compile against the official ONNX file.

    python -m benchmarks.yolox_speed --weights yolox_nano.onnx [--runs 50] [--no-compile] [--out benchmarks/results]

All in one process, in turns, CPU time of the process (so that other programs of the machine count little), medians.
The official file takes a float BGR image and gives raw values of every prior; so does "exported, raw" from a uint8 RGB
image. "exported, boxes" also decodes them and chooses the best candidates, "exported, to the end" and "eager, to the
end" give the boxes after suppression. Writes ``yolox_speed.json`` and ``yolox_speed.md``. Without a C++ compiler
torch.compile is left out and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bev.models  # noqa: F401  (registers the parts)
from benchmarks.harness import alternate
from bev._optional import require
from bev.deploy import Exportable, OnnxRunner, prepare_export, write_onnx
from bev.deploy.finish import boxes2d_of, finish_of
from bev.structures import ImageBatch

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/yolox/yolox_nano_coco.py"
SIZE = (416, 416)
OFFICIAL = "onnxruntime, official file"
Calls = dict[str, Callable[[], Any]]


def official(weights: Path, images: np.ndarray) -> Callable[[], Any]:
    """The official file in onnxruntime, on one thread."""
    runtime = require("onnxruntime", extra="export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    given = {"images": np.ascontiguousarray(images[:, ::-1]).astype(np.float32)}
    return lambda: session.run(None, given)[0]


def exported(example: Exportable, folder: Path) -> Calls:
    """Our graphs in onnxruntime, on one thread."""
    calls: Calls = {}
    runners = {}
    for kind in ("raw", "boxes"):
        path = folder / f"{kind}.onnx"
        write_onnx(example.graph(outputs=kind), path, metadata=example.metadata)  # type: ignore[arg-type]
        runners[kind] = OnnxRunner(path, threads=1)
    given = {"images": example.images.numpy()}
    calls["exported, raw"] = lambda: runners["raw"](given)
    calls["exported, boxes"] = lambda: runners["boxes"](given)
    rule = finish_of(example.model, None)
    calls["exported, to the end"] = lambda: boxes2d_of(runners["boxes"](given), rule, [SIZE])
    return calls


def in_torch(example: Exportable) -> Calls:
    """The detector itself."""
    model: Any = example.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = ImageBatch(example.images, torch.eye(3, dtype=torch.float64)[None], [SIZE], ["picture"])
    return {"eager": lambda: model(example.images), "eager, to the end": lambda: model.predict(batch)}


def compiled(example: Exportable) -> Calls:
    """torch.compile, plain and with frozen weights (batch norms folded, weights laid out for the kernels)."""
    calls: Calls = {}
    for name, patch in (("torch.compile", nullcontext()), ("torch.compile, frozen", _freezing())):
        torch._dynamo.reset()
        model: Any = torch.compile(example.model, dynamic=False)
        with patch, torch.no_grad():
            model(example.images)
        calls[name] = partial(model, example.images)
    return calls


def _freezing() -> Any:
    import torch._inductor.config as inductor

    return inductor.patch(freezing=True)


def largest_difference(ours: dict[str, np.ndarray], theirs: np.ndarray) -> float:
    """Of the raw values; theirs (B, P, 85): box, then probabilities of objectness and classes."""

    def rows(name: str) -> np.ndarray:
        levels = [value for key, value in ours.items() if key.startswith(name)]
        return np.concatenate([v.reshape(*v.shape[:2], -1).transpose(0, 2, 1) for v in levels], 1)

    scores = 1 / (1 + np.exp(-np.concatenate([rows("quality"), rows("cls")], -1)))
    return float(np.abs(np.concatenate([rows("box"), scores], -1) - theirs).max())


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    lines = [f"{result['device']}, {result['threads']} thread, {result['runs']} runs in turns, CPU time, median", ""]
    lines += ["| | ms | against the official file in onnxruntime |", "|---|---|---|"]
    lines += [f"| {row['case']} | {row['ours_ms']:.2f} | {row['time_ratio']:.2f} |" for row in result["cases"]]
    notes = [f"Largest difference of the exported raw values from the official file's: {result['max_abs_diff']:.1e}."]
    return "\n".join([*lines, "", *notes, *result["notes"]]) + "\n"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All contestants; the result as it is written."""
    example = prepare_export(CONFIG, args.weights, size_px=SIZE)
    notes = ["torch.compile is left out (--no-compile)."] if args.no_compile else []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        calls = {OFFICIAL: official(args.weights, example.images.numpy()), **exported(example, Path(folder))}
        calls |= in_torch(example)
        try:
            calls |= {} if args.no_compile else compiled(example)
        except RuntimeError as error:  # no compiler, or one that fails: torch has a class for each
            notes.append(f"torch.compile is left out: {str(error).strip().splitlines()[0][:200]}")
        difference = largest_difference(calls["exported, raw"](), calls[OFFICIAL]())
        medians = alternate(calls, args.runs, time.process_time)
    if args.note:
        notes.append(args.note)
    cases = [
        {
            **{"case": name, "ours_ms": round(ms, 3), "baseline": OFFICIAL, "baseline_ms": round(medians[OFFICIAL], 3)},
            **{"ratio": round(medians[OFFICIAL] / ms, 3), "time_ratio": round(ms / medians[OFFICIAL], 3)},
        }
        for name, ms in medians.items()
    ]
    versions = {"torch": torch.__version__, "onnxruntime": require("onnxruntime", extra="export").__version__}
    return {
        **{"name": "yolox_speed", "device": f"cpu {platform.machine()}, {os.cpu_count()} cores", "threads": 1},
        **{"versions": versions, "runs": args.runs, "cases": cases, "max_abs_diff": difference, "notes": notes},
    }


def main() -> None:
    """Measure, write both files, print the table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="the official yolox_nano.onnx")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--note", help="a line for the table, e.g. what else the machine did")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "yolox_speed.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "yolox_speed.md").write_text(markdown(result))
    print(markdown(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
