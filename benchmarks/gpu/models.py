"""Whole detectors: one frame through the network, and one training step; eager and compiled, float32 and bf16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import bev.models  # noqa: F401 (registers the models)
from benchmarks.frames import test_frame
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.operators import Deadline, Row, attempt, compiled
from bev.engine.config import load_config
from bev.models.detectors import FrameStream, StreamingDetector
from bev.registry import MODELS
from bev.structures import Batch, Boxes3D, PointCloud

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODELS_RUN = ("bevdet/bevdet_r50_nusc.py", "detr3d/detr3d_r101_dcn_nusc.py", "bevformer/bevformer_tiny_nusc.py")
QUICK = ("bevformer/bevformer_tiny_synthetic.py",)
_BOXES, _POINTS = 40, 20_000


def truth(frame: Batch) -> Batch:
    """The frame with random boxes and points around the car, so that there is something to learn from."""
    generator = torch.Generator().manual_seed(1)
    share = torch.rand(_BOXES, 5, generator=generator)
    boxes = Boxes3D(
        center_m=torch.cat([80 * share[:, :2] - 40, 2 * share[:, 2:3] - 2], 1),
        size_m=torch.tensor([[4.6, 1.9, 1.7]]).repeat(_BOXES, 1),
        yaw_rad=6.28 * share[:, 3],
        velocity_mps=torch.zeros(_BOXES, 2),
        label=(10 * share[:, 4]).long(),
        score=torch.ones(_BOXES),
        frame="lidar",
    )
    spread = torch.tensor([100.0, 100.0, 4.0])
    points = PointCloud((torch.rand(_POINTS, 3, generator=generator) - 0.5) * spread)
    return replace(frame, boxes=[boxes], points=[points])


def measure_models(clock: Clock, deadline: Deadline) -> Iterator[Row]:
    """Two rows a model and precision."""
    for name in QUICK if clock.quick else MODELS_RUN:
        for dtype in (torch.float32, torch.bfloat16):
            for what, build in (("one frame", _inference), ("training step", _training)):
                precision = "float32" if dtype == torch.float32 else "bf16 autocast"
                row: Row = {"model": Path(name).stem, "what": what, "precision": precision, "problems": []}
                yield _measure(row, name, dtype, build, clock, deadline)


def _measure(row: Row, name: str, dtype: torch.dtype, build: Any, clock: Clock, deadline: Deadline) -> Row:
    torch.compiler.reset()
    torch.manual_seed(0)
    # A network takes a minute to compile: one precision is enough, and on a CPU nothing is learned.
    compiles = clock.device.type == "cuda" and dtype != torch.float32
    for form in ("eager", "compiled") if compiles else ("eager",):
        if form == "compiled" and deadline.passed:
            row["problems"].append("compiled: no time left")
            continue
        memory = clock.device.type == "cuda" and form == "eager"
        if memory:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        call = attempt(row, f"{form}, building", lambda: build(name, dtype, clock.device, form == "compiled"))
        if call is not None:
            row[f"{form}_ms"] = attempt(row, form, lambda: clock.median_ms(call))
        if memory:
            row["peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return row


def _model(name: str, device: torch.device) -> tuple[Any, list[Batch]]:
    config = load_config(CONFIGS / name)
    model = MODELS.build(config.model).to(device)
    return model, [truth(test_frame(config, index)).to(device) for index in range(2)]


def _inference(name: str, dtype: torch.dtype, device: torch.device, fast: bool) -> Callable[[], Any]:
    """The second frame, which continues the first where the detector remembers."""
    model, frames = _model(name, device)
    model.eval()
    state = None
    autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    with torch.no_grad(), autocast:
        if isinstance(model, StreamingDetector):
            stream = FrameStream(model)
            stream.forward(frames[0])
            state = stream.enter(frames[1])
    forward = compiled(model, device) if fast else model

    def call() -> Any:
        with torch.no_grad(), autocast:
            return forward(frames[1].images, frames[1].rig, state)

    return call


def _training(name: str, dtype: torch.dtype, device: torch.device, fast: bool) -> Callable[[], Any]:
    """Losses, gradients and an AdamW step of one frame."""
    model, frames = _model(name, device)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    loss = compiled(model.loss, device) if fast else model.loss

    def call() -> None:
        batch = frames[1].to(device)  # forgets what was derived from the ground truth in the run before
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            total = sum(term.mean() for name, term in loss(batch).items() if "loss" in name)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return call
