"""A detector, a data set and a metric that train in milliseconds, for the tests of the engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.nn import functional as F

from bev.data.draw import Draw
from bev.models.detectors import Detector
from bev.registry import DATASETS, METRICS, MODELS
from bev.structures import Batch, Boxes3D, CameraRig, Sample


@DATASETS.register_module()
class ToyFrames:
    """``length`` frames of two 8x8 cameras; 1 to 3 boxes whose mean position is coded in the pictures.

    Args:
        length: number of frames.
        poison: index of a frame whose box lies at NaN.
        kill_at, kill_with: the process gets this signal when frame draw number ``kill_at`` is read.
    """

    metainfo = {"classes": ("thing",)}

    def __init__(self, length: int = 10, poison: int | None = None, kill_at: int = -1, kill_with: int = 9) -> None:
        self.length, self.poison = length, poison
        self.kill_at, self.kill_with, self.reads = kill_at, kill_with, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: Draw) -> Sample:
        if self.reads == self.kill_at:
            os.kill(os.getpid(), signal.Signals(self.kill_with))
        self.reads += 1
        generator = torch.Generator().manual_seed(draw.index)
        boxes = _boxes(1 + draw.index % 3, generator)
        if draw.index == self.poison:
            boxes.center_m[0, 0] = torch.nan
        level = 128 + 20 * boxes.center_m.nan_to_num().mean(0).view(1, 3, 1, 1)
        noise = torch.from_numpy(draw.generator().normal(0, 4, (2, 3, 8, 8))).float()
        return Sample(
            images=(level + noise).clamp(0, 255).to(torch.uint8),
            rig=_rig(),
            global_from_ref=torch.eye(4, dtype=torch.float64),
            token=f"frame{draw.index}",
            timestamp_us=draw.index,
            scene="toy",
            boxes=boxes,
        )


def _rig() -> CameraRig:
    eye = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    return CameraRig(eye[:, :3, :3], eye, eye[:, :3, :3], (8, 8), ("left", "right"), torch.zeros(2, dtype=torch.int64))


def _boxes(count: int, generator: torch.Generator) -> Boxes3D:
    center = torch.randn(count, 3, generator=generator)
    zeros = torch.zeros(count)
    return Boxes3D(center, torch.ones(count, 3), zeros, torch.zeros(count, 2), zeros.long(), torch.ones(count), "ego")


@MODELS.register_module()
class ToyDetector(Detector):
    """One box a frame, at a linear function of pooled pixels.

    Args:
        channels: of the hidden layer.
        dropout: probability; draws from torch's global generator.
        batch_norm: with running statistics.
    """

    def __init__(self, channels: int = 8, dropout: float = 0.0, batch_norm: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, channels, 3, stride=2)
        self.norm = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, 3)

    def forward(self, images: Tensor, rig: CameraRig, state: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        x = F.relu(self.norm(self.backbone(images.flatten(0, 1).float() / 128 - 1)))
        pooled = x.mean((-1, -2)).unflatten(0, images.shape[:2]).mean(1)
        return {"center": self.head(self.dropout(pooled))}

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        center = self(batch.images, batch.rig)["center"].float()
        assert batch.boxes is not None
        counts = avg_factors or self.target_counts(batch)
        distance = torch.cat([boxes.center_m - c for boxes, c in zip(batch.boxes, center)])
        return {
            "loss_center": distance.square().sum() / counts["boxes"],
            "loss_size": 1e-3 * center.square().sum() / counts["frames"],
        }

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        boxes = sum(len(b) for b in batch.boxes or [])
        return {"boxes": torch.tensor(float(boxes)), "frames": torch.tensor(float(len(batch)))}

    def predict(self, batch: Batch) -> list[Boxes3D]:
        centers = self(batch.images, batch.rig)["center"].float()
        one = torch.ones(1, device=centers.device)
        size, zero = one.expand(1, 3), torch.zeros(1, 2, device=centers.device)
        return [Boxes3D(c[None], size, zero[:, 0], zero, zero[:, 0].long(), one, "ego") for c in centers]


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Mean distance to the frame's mean box; counts frames, so that a repeated one shows."""

    default_prefix = "toy"

    def __init__(self, out: str | None = None) -> None:
        super().__init__()
        self.out = out

    def process(self, data_batch: Batch, data_samples: list[Boxes3D]) -> None:
        assert data_batch.boxes is not None
        for token, truth, found in zip(data_batch.tokens, data_batch.boxes, data_samples):
            self.results.append((token, float((truth.center_m.mean(0) - found.center_m[0]).norm())))

    def compute_metrics(self, results: list[tuple[str, float]]) -> dict[str, float]:
        tokens = [token for token, _ in results]
        if self.out is not None:
            with open(self.out, "w") as file:
                file.write("\n".join(tokens))
        distance = sum(value for _, value in results) / len(results)
        return {"distance": distance, "frames": len(tokens), "distinct": len(set(tokens))}
