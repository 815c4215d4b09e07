"""DETR3D's camera sampling: ours against the published all-camera grid_sample and a visible-only grid_sample.

900 queries, six cameras, four levels from 116 x 200, 256 channels; a point is seen by 1.15 cameras on average. Ours
on channels_last maps is a weighted bag; on contiguous maps it falls back to visible-only sampling.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import arguments, compare, report
from bev.ops.camera_sampling import _camera_sampling_reference, camera_sampling

IMAGE_PX = (928, 1600)
SIZES = ((116, 200), (58, 100), (29, 50), (15, 25))
SEEN_BY = 1.15  # cameras a point


def _visible_only(features: list[Tensor], pixels: Tensor, visible: Tensor, weights: Tensor, *_: Any) -> Tensor:
    """The known improvement, restated: one grid_sample a camera and level, on the queries that camera sees."""
    grid = 2 * pixels / pixels.new_tensor([IMAGE_PX[1], IMAGE_PX[0]]) - 1
    total = pixels.new_zeros(visible.shape[2], features[0].shape[2])
    cameras = [feature.unbind(1) for feature in features]  # one gradient a level, not one a camera
    for camera in range(visible.shape[1]):
        seen = visible[0, camera, :, 0].nonzero().squeeze(1)
        points = grid[:, camera, seen, 0][:, None]
        for level, maps in enumerate(cameras):
            sampled = F.grid_sample(maps[camera], points, align_corners=False)[0, :, 0].T
            total = total.index_add(0, seen, sampled * weights[0, seen, camera, 0, level, None])
    return total[None]


def _inputs(queries: int, channels: int) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(1, 6, channels, *size, generator=generator) for size in SIZES]
    size_px = torch.tensor([IMAGE_PX[1], IMAGE_PX[0]])
    pixels = torch.rand(1, 6, queries, 1, 2, generator=generator) * size_px
    visible = torch.rand(1, 6, queries, 1, generator=generator) < SEEN_BY / 6
    weights = torch.rand(1, queries, 6, 1, len(SIZES), generator=generator)
    return features, pixels, visible, weights


def _step(
    sample: Callable[..., Tensor], features: list[Tensor], pixels: Tensor, visible: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    total = sample(features, pixels, visible, weights, IMAGE_PX).sum()
    return torch.autograd.grad(total, [*features, pixels, weights])


def _channels_last(feature: Tensor) -> Tensor:
    return feature.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def main() -> None:
    """Forward, and forward + backward, on both layouts."""
    args = arguments(__doc__ or "")
    runs = 5 if args.quick else 11
    features, pixels, visible, weights = _inputs(300 if args.quick else 900, 64 if args.quick else 256)
    doubled = [f.double() for f in features]
    exact = _camera_sampling_reference(doubled, pixels.double(), visible, weights.double(), IMAGE_PX)
    baselines: dict[str, Callable[..., Tensor]]
    baselines = {"published (all cameras)": _camera_sampling_reference, "visible-only grid_sample": _visible_only}
    cases: list[dict[str, Any]] = []
    for layout, maps in (("channels_last", [_channels_last(f) for f in features]), ("contiguous", features)):
        ours = partial(camera_sampling, maps, pixels, visible, weights, IMAGE_PX)
        error = float((ours().double() - exact).abs().max())
        calls = {name: partial(f, maps, pixels, visible, weights, IMAGE_PX) for name, f in baselines.items()}
        how: dict[str, Any] = {"runs": runs, "clock": time.process_time, "memory": True}
        rows = compare(f"forward, {layout}", ours, calls, **how)
        for leaf in (*maps, pixels, weights):
            leaf.requires_grad_()
        steps = {name: partial(_step, f, maps, pixels, visible, weights) for name, f in baselines.items()}
        ours_step = partial(_step, camera_sampling, maps, pixels, visible, weights)
        rows += compare(f"forward + backward, {layout}", ours_step, steps, **how)
        for leaf in (*maps, pixels, weights):
            leaf.requires_grad_(False)
        cases += [{**row, "max_abs_diff": error} for row in rows]
    report("camera_sampling", args.threads, cases)


if __name__ == "__main__":
    main()
