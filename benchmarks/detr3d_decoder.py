"""DETR3D's decoder, end to end: six layers and their branches, ours against the published camera sampling.

The published head (900 queries, 256 channels, four levels) on random features of 928 x 1600 images and a real rig. Ours
reads channels_last maps, which the neck emits; the published form samples all cameras of maps in the default layout.
``--quick``: features of half the size.

``max_abs_diff`` is the first layer's, in box code: on noise, with untrained weights, rounding grows tenfold a layer, so
that of the last layer the median query is told. The golden tests compare every layer.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

import bev.models  # noqa: F401 (registers the models)
from benchmarks.camera_sampling import _channels_last
from benchmarks.frames import test_frame
from benchmarks.harness import arguments, compare, report
from benchmarks.published import published_forms
from bev.engine.config import load_config
from bev.registry import MODELS

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "detr3d" / "detr3d_r101_dcn_nusc.py"
STRIDES_PX = {"ResNet-101 (strides 8 to 64)": (8, 16, 32, 64), "VoVNet-99 (strides 4 to 32)": (4, 8, 16, 32)}


@torch.no_grad()
def measure(case: str, strides_px: tuple[int, ...], runs: int, quick: bool) -> list[dict[str, Any]]:
    """One row."""
    config = load_config(CONFIG)
    torch.manual_seed(0)
    head = MODELS.build(config.model.pts_bbox_head).eval()
    rig = test_frame(config).rig
    height, width = (side // (2 if quick else 1) for side in rig.image_size_px)
    maps = [torch.randn(1, 6, 256, -(-height // s), -(-width // s)) for s in strides_px]
    fast = [_channels_last(level) for level in maps]

    def published() -> Any:
        with published_forms():
            return head(maps, rig)

    ours, theirs = head(fast, rig), published()
    difference = (ours["box_code"] - theirs["box_code"]).abs()
    error, typical = float(difference[0].max()), float(difference[-1].amax(-1).median())
    rows = compare(case, lambda: head(fast, rig), {"published": published}, runs, time.process_time, memory=True)
    return [{**row, "max_abs_diff": error, "last_layer_median_diff": typical} for row in rows]


def main() -> None:
    """The published pyramids."""
    args = arguments(__doc__ or "")
    runs = 5 if args.quick else 7
    report("detr3d_decoder", args.threads, [
        row for case, strides in STRIDES_PX.items() for row in measure(case, strides, runs, args.quick)
    ])  # fmt: skip


if __name__ == "__main__":
    main()
