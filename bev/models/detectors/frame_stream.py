"""Carries temporal detectors' memory from batch to batch: in training, in evaluation, for direct callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bev.models.detectors.base import State
from bev.models.detectors.temporal import TemporalDetector
from bev.models.motion import Motion
from bev.structures import Batch, Boxes3D


@dataclass(frozen=True, eq=False)
class Past:
    """The last batch that a stream has seen, and what the detector remembers of it."""

    scenes: list[str]
    timestamp_us: Tensor
    global_from_ref: Tensor
    memory: State


class FrameStream:
    """Carries a temporal detector's memory through recordings, frame by frame, and keeps no gradient.

    Which frame of the last batch a frame continues, ``batch.starts`` says: a row that starts begins anew, one that does
    not continues the same row. Where ``starts`` is None (samples read one by one, without a sampler) a frame continues
    the latest earlier frame of its own scene in the last batch, wherever that was. Either way only an earlier frame of
    the same scene can be continued; whatever else is there begins anew. A batch that brings its own past
    (``previous``) is neither continued nor remembered.

    Args:
        detector: with a memory.

    Attributes:
        continued: frames that continued another one so far.
        past: the last batch, None at the beginning; may be put back to undo a batch.
    """

    def __init__(self, detector: TemporalDetector) -> None:
        self.detector = detector
        self.continued = 0
        self.past: Past | None = None

    def reset(self) -> None:
        """Forget everything."""
        self.past, self.continued = None, 0

    def enter(self, batch: Batch) -> State:
        """State with which ``detector.forward`` must be called for this batch."""
        first = Motion.first(batch)
        if self.past is None:
            return self.detector.motion_inputs(first)
        rows, past = self._rows(batch), self.past
        device = batch.global_from_ref.device
        row, continues = torch.tensor(rows, device=device).clamp(min=0), torch.tensor(rows, device=device) >= 0
        elapsed_s = (batch.timestamp_us - past.timestamp_us[row]).double() * 1e-6
        motion = first.since(continues, past.global_from_ref.double()[row], elapsed_s)
        same = rows == list(range(len(past.scenes)))
        memory = past.memory if same else {name: value[row] for name, value in past.memory.items()}
        self.continued += sum(r >= 0 for r in rows)
        return {**memory, **self.detector.motion_inputs(motion)}

    def leave(self, batch: Batch, memory: State) -> None:
        """Keep what the detector remembers of this batch."""
        kept = {name: value.detach() for name, value in memory.items()}
        self.past = Past(batch.scenes, batch.timestamp_us, batch.global_from_ref, kept)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Outputs of ``detector.forward`` for this batch, whose memory is kept for the next."""
        outputs = self.detector(batch.images, batch.rig, self.enter(batch))
        self.leave(batch, outputs["state"])
        return outputs

    def remember(self, batch: Batch) -> None:
        """Keep this batch's memory without detecting anything in it."""
        self.leave(batch, self.detector.remember(batch.images, batch.rig, self.enter(batch)))

    def predict(self, batch: Batch) -> list[Boxes3D]:
        """Boxes of this batch in the reference frame, one entry a frame, by falling score."""
        if batch.previous:
            self.past = None
            return self.detector.predict(batch)
        return self.detector.decode(self.forward(batch))

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Losses of this batch, see ``Detector.loss``, continuing what was learned from before."""
        if batch.previous:
            self.past = None
            return self.detector.loss(batch, avg_factors)
        losses, memory = self.detector.stream_loss(batch, self.enter(batch), avg_factors)
        self.leave(batch, memory)
        return losses

    def state_dict(self) -> dict[str, Any] | None:
        """What is remembered, on the CPU and fit for a checkpoint; None where there is nothing."""
        if self.past is None:
            return None
        return {
            "scenes": list(self.past.scenes),
            "timestamp_us": self.past.timestamp_us.cpu(),
            "global_from_ref": self.past.global_from_ref.cpu(),
            # Copies: a view into a larger tensor would take all of it into the file.
            "memory": {name: value.cpu().clone() for name, value in self.past.memory.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any] | None, device: torch.device | str = "cpu") -> None:
        """Remember what :meth:`state_dict` gave."""
        if state is None:
            self.past = None
            return
        memory = {name: value.to(device) for name, value in state["memory"].items()}
        time, pose = state["timestamp_us"].to(device), state["global_from_ref"].to(device)
        self.past = Past(list(state["scenes"]), time, pose, memory)

    def _rows(self, batch: Batch) -> list[int]:
        """Row of the last batch that each frame continues, -1 for none."""
        assert self.past is not None
        now, then = batch.timestamp_us.tolist(), self.past.timestamp_us.tolist()
        starts = None if batch.starts is None else batch.starts.tolist()
        rows = []
        for i, (scene, time) in enumerate(zip(batch.scenes, now)):
            candidates = range(len(then)) if starts is None else range(0) if starts[i] else range(i, i + 1)
            there = [j for j in candidates if j < len(then) and self.past.scenes[j] == scene and then[j] < time]
            rows.append(max(there, key=lambda j: then[j], default=-1))
        return rows
