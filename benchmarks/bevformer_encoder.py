"""BEVFormer's encoder: ours against its dense form and the published one, on the same weights and a real rig.

The whole encoder of each published size (temporal self-attention with a previous map, spatial cross-attention,
feed-forward) on random features. The dense form computes every query in every camera and masks; the published one
computes what a camera sees; both sample with ``grid_sample``. ``--quick``: tiny alone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bev.models  # noqa: F401 (registers the models)
from benchmarks.frames import test_frame
from benchmarks.harness import arguments, compare, report
from benchmarks.published import published_forms
from bev.engine.config import load_config
from bev.registry import MODELS

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "bevformer"
STRIDES_PX = {"tiny": (32,), "small": (32,), "base": (8, 16, 32, 64)}


def _encode(head: Any, features: list[Tensor], rig: Any, state: dict[str, Tensor]) -> Tensor:
    return head.encode(features, rig, state)


def _published(dense: bool, *inputs: Any) -> Tensor:
    with published_forms(dense):
        return _encode(*inputs)


@torch.no_grad()
def measure(size: str, runs: int) -> list[dict[str, Any]]:
    """Rows of one size."""
    config = load_config(FOLDER / f"bevformer_{size}_nusc.py")
    torch.manual_seed(0)
    head = MODELS.build(config.model.pts_bbox_head).eval()
    rig = test_frame(config).rig
    height, width = rig.image_size_px
    maps = [torch.randn(1, 6, 256, -(-height // s), -(-width // s)) for s in STRIDES_PX[size]]
    cells = head.bev_embedding.num_embeddings
    state = {"can_bus": torch.randn(1, 18), "continues": torch.tensor([True]), "bev": torch.randn(1, cells, 256)}
    inputs = (head, maps, rig, state)
    forms = {"dense": lambda: _published(True, *inputs), "published (seen queries)": lambda: _published(False, *inputs)}
    exact = forms["dense"]()
    error = float((_encode(*inputs) - exact).abs().max())
    rows = compare(f"encoder of {size}", lambda: _encode(*inputs), forms, runs, time.process_time, memory=True)
    return [{**row, "max_abs_diff": error} for row in rows]


def main() -> None:
    """Tiny, small and base."""
    args = arguments(__doc__ or "")
    sizes = {"tiny": 5} if args.quick else {"tiny": 7, "small": 5, "base": 3}
    report("bevformer_encoder", args.threads, [row for size, runs in sizes.items() for row in measure(size, runs)])


if __name__ == "__main__":
    main()
