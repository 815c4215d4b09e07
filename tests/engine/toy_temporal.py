"""A detector with a memory and recordings of different lengths, for the tests of streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.nn import functional as F

from bev.data.draw import Draw
from bev.models.detectors import State, TemporalDetector
from bev.models.motion import Motion
from bev.registry import DATASETS, METRICS, MODELS
from bev.structures import Batch, Boxes3D, CameraRig, Sample
from tests.engine.toy import ToyFrames

LENGTHS = (5, 3, 7, 1, 4)
SCENE = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
PLACE = np.concatenate([np.arange(length) for length in LENGTHS])


@DATASETS.register_module()
class ToyRecordings(ToyFrames):
    """Five recordings, 20 frames; arguments as of ToyFrames."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(length=len(SCENE), **arguments)

    def scene_of_samples(self) -> np.ndarray:
        return SCENE

    def __getitem__(self, draw: Draw) -> Sample:
        time = 500_000 * int(PLACE[draw.index])
        return replace(
            super().__getitem__(draw), scene=f"scene{SCENE[draw.index]}", timestamp_us=time, starts=draw.starts
        )


@MODELS.register_module()
class ToyMemory(TemporalDetector):
    """One box a frame from pooled pixels and what was pooled before; its score is the age of the memory, in frames.

    Args:
        dropout: probability; draws from torch's global generator.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone, self.head, self.dropout = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(16, 3), nn.Dropout(dropout)

    def motion_inputs(self, motion: Motion) -> State:
        return {"continues": motion.continues, "elapsed_s": motion.elapsed_s}

    def forward(self, images: Tensor, rig: CameraRig, state: State | None = None) -> dict[str, Any]:
        x = F.relu(self.backbone(images.flatten(0, 1).float() / 128 - 1))
        pooled = self.dropout(x.mean((-1, -2)).unflatten(0, images.shape[:2]).mean(1))
        if state is None or "mean" not in state:
            state = {"mean": torch.zeros_like(pooled), "age": pooled.new_zeros(len(pooled)), **(state or {})}
            state["continues"] = torch.zeros(len(pooled), dtype=torch.bool)
        go_on = state["continues"]
        mean, age = torch.where(go_on[:, None], state["mean"], 0.0), torch.where(go_on, state["age"], 0.0)
        memory = {"mean": 0.5 * mean + 0.5 * pooled, "age": age + 1}
        return {"center": self.head(torch.cat([pooled, mean], 1)), "age": age, "state": memory}

    def stream_loss(
        self, batch: Batch, state: State, avg_factors: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], State]:
        assert batch.boxes is not None
        outputs, counts = self(batch.images, batch.rig, state), avg_factors or self.target_counts(batch)
        distance = torch.cat([b.center_m - c for b, c in zip(batch.boxes, outputs["center"].float())])
        return {"loss_center": distance.square().sum() / counts["boxes"]}, outputs["state"]

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        return self.stream_loss(batch, self.motion_inputs(Motion.first(batch)), avg_factors)[0]

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"boxes": torch.tensor(float(sum(len(b) for b in batch.boxes or [])))}

    def predict(self, batch: Batch) -> list[Boxes3D]:
        return self.decode(self(batch.images, batch.rig))

    def decode(self, outputs: dict[str, Any]) -> list[Boxes3D]:
        one, zero = torch.ones(1, 3), torch.zeros(1, 2)
        return [
            Boxes3D(center[None], one, zero[:, 0], zero, zero[:, 0].long(), age[None], "ego")
            for center, age in zip(outputs["center"].float(), outputs["age"])
        ]


@METRICS.register_module()
class ToyAge(BaseMetric):
    """How many frames there were, and at how many the memory was as old as the frame's place in its recording."""

    default_prefix = "toy"

    def process(self, data_batch: Batch, data_samples: list[Boxes3D]) -> None:
        for token, found in zip(data_batch.tokens, data_samples):
            self.results.append((token, float(found.score[0]), float(found.center_m[0, 0])))

    def compute_metrics(self, results: list[tuple[str, float, float]]) -> dict[str, float]:
        place = {f"frame{i}": PLACE[i] for i in range(len(PLACE))}
        right = sum(age == place[token] for token, age, _ in results)
        # In the order of tokens: the same to the last bit however frames were dealt out.
        total = sum(value for _, _, value in sorted(results))
        return {"frames": len({token for token, _, _ in results}), "right": int(right), "sum": total}
