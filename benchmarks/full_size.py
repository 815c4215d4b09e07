"""A forward pass of every published configuration at its full size: parameters, output shapes, memory, seconds.

Each runs in a process of its own, one after the other, on random weights and pictures with a real rig; temporal
detectors are measured on a second frame, which has a state. ``--only`` names one; without it the table is written to
``benchmarks/results/full_size.{json,md}``.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bev.models  # noqa: F401 (registers the models)
from benchmarks.frames import test_frame
from bev.engine.config import load_config
from bev.models.detectors import FrameStream, TemporalDetector
from bev.registry import MODELS
from bev.structures import Batch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
Shape = tuple[int, ...]

_TASKS = (1, 2, 2, 1, 2, 2)  # classes of CenterPoint's six heads


def _queries(state: Mapping[str, Shape] | None = None, queries: int = 900) -> dict[str, Shape]:
    own = {"cls_logits": (6, 1, queries, 10), "box_code": (6, 1, queries, 10)}
    return {**own, **{f"state.{name}": shape for name, shape in (state or {}).items()}}


def _tasks(tasks: Sequence[int] = _TASKS) -> dict[str, Shape]:
    """Every branch of every task on 128 x 128 cells."""
    branches = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
    return {
        f"tasks.{task}.{name}": (1, channels, 128, 128)
        for task, classes in enumerate(tasks)
        for name, channels in {**branches, "heatmap": classes}.items()
    }


@dataclass(frozen=True)
class Published:
    """What a configuration must give.

    Attributes:
        parameters: all of them, frozen ones and constants of the published files included.
        backbone: parameters of the image backbone as its authors count them (without classifier), if they do.
        outputs: shapes of the forward pass, one frame.
    """

    parameters: int
    outputs: Mapping[str, Shape]
    backbone: int | None = None


_R50 = 25_557_032 - 2_049_000  # torchvision's, less the classifier
_SWIN_T = 28_288_354 - 769_000 - 1_536  # Swin's, less the classifier and the last norm; two output norms are more
PUBLISHED = {
    "configs/detr3d/detr3d_r101_dcn_nusc.py": Published(53_665_555, _queries()),
    "configs/detr3d/detr3d_vovnet_nusc.py": Published(78_622_293, _queries()),
    "configs/bevdet/bevdet_r50_nusc.py": Published(47_975_297, _tasks(), _R50),
    "configs/bevdet/bevdet_r50_dev2_nusc.py": Published(44_248_527, _tasks([10]), _R50),
    "configs/bevdet/bevdet_swint_nusc.py": Published(55_723_451, _tasks(), _SWIN_T + 2 * (384 + 768)),
    "configs/bevdet/bevdet4d_r50_nusc.py": Published(48_307_649, _tasks(), _R50),
    "configs/bevdepth/bevdet_bevdepth_r50_nusc.py": Published(52_884_958, _tasks(), _R50),
    "configs/bevdepth/bevdepth_r50_2key_nusc.py": Published(76_384_590, _tasks(), _R50),
    "configs/lss/lss_effb0_nusc.py": Published(12_615_270, {"logits": (1, 200, 200)}),
    "configs/bevformer/bevformer_tiny_nusc.py": Published(33_521_157, _queries({"bev": (1, 2_500, 256)}), _R50),
    "configs/bevformer/bevformer_small_nusc.py": Published(59_463_619, _queries({"bev": (1, 22_500, 256)})),
    "configs/bevformer/bevformer_base_nusc.py": Published(69_034_947, _queries({"bev": (1, 40_000, 256)})),
    "projects/petr/configs/petr_r50_p4_nusc.py": Published(36_723_677, _queries()),
    "projects/petr/configs/petr_vovnet_800x320_nusc.py": Published(81_664_746, _queries()),
    "projects/streampetr/configs/streampetr_r50_704_nusc.py": Published(
        37_259_345, _queries({"embedding": (1, 1_280, 256), "point_m": (1, 1_280, 3)}), _R50
    ),
}


def shapes(outputs: Any, prefix: str = "") -> dict[str, Shape]:
    """Shapes of every tensor in nested outputs, by dotted name."""
    if isinstance(outputs, Tensor):
        return {prefix: tuple(outputs.shape)}
    items = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs)
    found: dict[str, Shape] = {}
    for name, value in items:
        if isinstance(value, (Tensor, Mapping, list, tuple)):
            found |= shapes(value, f"{prefix}.{name}".lstrip("."))
    return found


def mismatches(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> list[str]:
    """One line for every expected output that is absent or of another shape."""
    return [
        f"{name}: {found.get(name)}, expected {shape}" for name, shape in expected.items() if found.get(name) != shape
    ]


def one_frame(model: nn.Module, frames: Sequence[Batch]) -> tuple[Any, float]:
    """Outputs of the second frame, which continues the first where the detector remembers, and its processor seconds.

    Pictures say nothing of shapes or time: a temporal detector sees those of the second frame twice, so that its image
    encoder runs once.
    """
    if not (isinstance(model, TemporalDetector) and model.remembers):
        start = time.process_time()
        return model(frames[1].images, frames[1].rig), time.process_time() - start
    start = time.process_time()
    features = model.extract_features(frames[1].images)  # type: ignore[operator]
    encoding = time.process_time() - start
    model.extract_features = lambda images: features  # type: ignore[assignment]
    stream = FrameStream(model)
    stream.forward(frames[0])
    start = time.process_time()
    return stream.forward(frames[1]), encoding + time.process_time() - start


def measure(name: str) -> dict[str, Any]:
    """One configuration in this process."""
    config = load_config(ROOT / name)
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    frames = [test_frame(config, index) for index in range(2)]
    with torch.no_grad():
        outputs, seconds = one_frame(model, frames)
    found, expected = shapes(outputs), PUBLISHED[name]
    count = sum(p.numel() for p in model.parameters())
    backbone = sum(p.numel() for p in model.img_backbone.parameters())
    wrong = mismatches(found, expected.outputs)
    if count != expected.parameters:
        wrong.append(f"{count} parameters, expected {expected.parameters}")
    if expected.backbone not in (None, backbone):
        wrong.append(f"{backbone} parameters in the backbone, expected {expected.backbone}")
    return {
        "config": name,
        "image_px": list(frames[0].images.shape[-2:]),
        "parameters": count,
        "backbone_parameters": backbone,
        "backbone_published": expected.backbone,
        "outputs": {name: list(found.get(name, ())) for name in expected.outputs},
        "finite": all(bool(torch.isfinite(x).all()) for x in _tensors(outputs)),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "cpu_seconds": round(seconds, 2),
        "wrong": wrong,
    }


def _tensors(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs] if outputs.is_floating_point() else []
    values = outputs.values() if isinstance(outputs, Mapping) else outputs if isinstance(outputs, (list, tuple)) else ()
    return [tensor for value in values for tensor in _tensors(value)]


def table(rows: Sequence[Mapping[str, Any]], threads: int) -> str:
    """Markdown."""
    lines = [
        "# Every published configuration at full size",
        f"One frame of six cameras on a CPU ({threads} thread{'s' * (threads > 1)}), random weights and images, real"
        " rig; `python -m benchmarks.full_size`. Seconds of the processor, without warm-up, on a machine that was busy"
        " with other work; memory is the peak of the whole process.",
        "",
        "| configuration | image | parameters | of the backbone (published) | outputs | peak MB | CPU seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        known = f" ({row['backbone_published']:,})" if row["backbone_published"] else ""
        height, width = row["image_px"]
        lines.append(
            f"| `{Path(row['config']).stem}` | {height}x{width} | {row['parameters']:,} |"
            f" {row['backbone_parameters']:,}{known} | {_short(row['outputs'])} | {row['peak_mb']:,} |"
            f" {row['cpu_seconds']:.1f} |"
        )
    absent = [f"`{Path(name).stem}`" for name in PUBLISHED if name not in {row["config"] for row in rows}]
    if absent:
        lines += ["", f"Not measured yet (`--resume` goes on): {', '.join(absent)}."]
    return "\n".join(lines) + "\n"


def _short(outputs: Mapping[str, Sequence[int]]) -> str:
    tasks = {name.split(".")[1] for name in outputs if name.startswith("tasks.")}
    if tasks:
        return f"{len(tasks)} head{'s' * (len(tasks) > 1)} of {'x'.join(map(str, outputs['tasks.0.reg'][-2:]))} cells"
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in outputs.items())


def main() -> int:
    """The table, or one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", metavar="CONFIG", choices=list(PUBLISHED), help="measure one, print its row as JSON")
    parser.add_argument("--resume", action="store_true", help="keep the rows that an interrupted run wrote")
    args = parser.parse_args()
    if args.only:
        torch.set_num_threads(args.threads)
        print(json.dumps(measure(args.only)))
        return 0
    rows = _known_rows(args.threads) if args.resume else {}
    for name in sorted(PUBLISHED, key=_pixels):  # the quick ones first
        if name in rows:
            continue
        command = [sys.executable, "-m", "benchmarks.full_size", "--only", name, "--threads", str(args.threads)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            print(f"{name} failed ({done.returncode}):\n{done.stderr[-2000:]}", file=sys.stderr)
            return 1
        row = rows[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:58s} {row['parameters']:>11,} {row['peak_mb']:6d} MB {row['cpu_seconds']:7.2f} s", *row["wrong"])
        sys.stdout.flush()
        _write(rows, args.threads)
    print(json.dumps(_write(rows, args.threads)))
    return 1 if any(row["wrong"] or not row["finite"] for row in rows.values()) else 0


def _pixels(name: str) -> int:
    height, width = load_config(ROOT / name).test_dataloader.dataset.image.size
    return int(height) * int(width)


def _write(rows: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Both files, in the order of :data:`PUBLISHED`, after every row: the large models take minutes."""
    cases = [rows[name] for name in PUBLISHED if name in rows]
    device = platform.processor() or platform.machine()
    result = {"name": "full_size", "device": device, "threads": threads, "versions": _versions(), "cases": cases}
    (RESULTS / "full_size.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "full_size.md").write_text(table(cases, threads))
    return result


def _known_rows(threads: int) -> dict[str, Any]:
    """Rows of an interrupted run with the same versions."""
    path = RESULTS / "full_size.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    same = (known.get("versions"), known.get("threads")) == (_versions(), threads)
    return {row["config"]: row for row in known["cases"]} if same else {}


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "python": platform.python_version()}


if __name__ == "__main__":
    sys.exit(main())
