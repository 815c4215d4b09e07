"""Carries temporal detectors' memory from batch to batch: in training, in evaluation, for direct callers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def state_dict(self) -> dict[str, Any]:
        """On the CPU."""
        return {
            "scenes": list(self.scenes),
            "timestamp_us": self.timestamp_us.cpu(),
            "global_from_ref": self.global_from_ref.cpu(),
            # Copies: a view into a larger tensor would take all of it into the file.
            "memory": {name: value.cpu().clone() for name, value in self.memory.items()},
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], device: torch.device | str) -> Past:
        """What :meth:`state_dict` gave, on ``device``."""
        memory = {name: value.to(device) for name, value in state["memory"].items()}
        return cls(list(state["scenes"]), state["timestamp_us"].to(device), state["global_from_ref"].to(device), memory)


class FrameStream:
    """Carries a temporal detector's memory through recordings, frame by frame, and keeps no gradient.

    Whether a frame continues an earlier one, ``batch.starts`` says: a row that starts begins anew, one that does not
    continues the same row of a remembered batch. Where ``starts`` is None (samples read one by one, without a sampler)
    a frame continues a frame of its own scene, wherever in a remembered batch that was. Either way only an earlier
    frame of the same scene can be continued, the latest of them; whatever else is there begins anew. A batch that
    brings its own past (``previous``) is neither continued nor remembered.

    Args:
        detector: with a memory.
        reach: batches that are remembered: as many as recordings take turns in a row (``SceneStreamSampler``).

    Attributes:
        continued: frames that continued another one so far.
        pasts: the remembered batches, the last one last; may be put back to undo a batch.
    """

    def __init__(self, detector: TemporalDetector, reach: int = 1) -> None:
        self.detector, self.reach = detector, reach
        self.continued = 0
        self.pasts: tuple[Past, ...] = ()

    def reset(self) -> None:
        """Forget everything."""
        self.pasts, self.continued = (), 0

    def enter(self, batch: Batch) -> State:
        """State with which ``detector.forward`` must be called for this batch."""
        first = Motion.first(batch)
        places = self._continued(batch)
        found = [place for place in places if place is not None]
        # Without any past the state has no memory; with one, rows that begin anew hold something that is not read.
        used = sorted({index for index, _ in found}) or list(range(len(self.pasts)))[-1:]
        if not used:
            return self.detector.motion_inputs(first)
        past, first_row = _joined([self.pasts[index] for index in used])
        rows = [-1 if place is None else first_row[used.index(place[0])] + place[1] for place in places]
        device = batch.global_from_ref.device
        row, continues = torch.tensor(rows, device=device).clamp(min=0), torch.tensor(rows, device=device) >= 0
        elapsed_s = (batch.timestamp_us - past.timestamp_us[row]).double() * 1e-6
        motion = first.since(continues, past.global_from_ref.double()[row], elapsed_s)
        same = rows == list(range(len(past.scenes)))
        memory = past.memory if same else {name: value[row] for name, value in past.memory.items()}
        self.continued += len(found)
        return {**memory, **self.detector.motion_inputs(motion)}

    def leave(self, batch: Batch, memory: State) -> None:
        """Keep what the detector remembers of this batch."""
        kept = {name: value.detach() for name, value in memory.items()}
        past = Past(batch.scenes, batch.timestamp_us, batch.global_from_ref, kept)
        self.pasts = (*self.pasts, past)[-self.reach :]

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
            self.pasts = ()
            return self.detector.predict(batch)
        return self.detector.decode(self.forward(batch))

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Losses of this batch, see ``Detector.loss``, continuing what was learned from before."""
        if batch.previous:
            self.pasts = ()
            return self.detector.loss(batch, avg_factors)
        losses, memory = self.detector.stream_loss(batch, self.enter(batch), avg_factors)
        self.leave(batch, memory)
        return losses

    def state_dict(self) -> list[dict[str, Any]]:
        """What is remembered, on the CPU and fit for a checkpoint; one entry a batch."""
        return [past.state_dict() for past in self.pasts]

    def load_state_dict(self, states: Any, device: torch.device | str = "cpu") -> None:
        """Remember what :meth:`state_dict` gave; also one entry alone, or None, as older checkpoints have it."""
        entries = [] if states is None else [states] if isinstance(states, Mapping) else states
        self.pasts = tuple(Past.from_state_dict(entry, device) for entry in entries)

    def _continued(self, batch: Batch) -> list[tuple[int, int] | None]:
        """For each frame the number of the past and the row in it that it continues, None for none."""
        then = [past.timestamp_us.tolist() for past in self.pasts]
        starts = [None] * len(batch) if batch.starts is None else batch.starts.tolist()
        places: list[tuple[int, int] | None] = []
        for i, (scene, now, anew) in enumerate(zip(batch.scenes, batch.timestamp_us.tolist(), starts)):
            rows = (range(len(times)) if anew is None else range(0) if anew else range(i, i + 1) for times in then)
            there = [(k, row) for k, candidates in enumerate(rows) for row in candidates if row < len(then[k])]
            earlier = [(k, row) for k, row in there if self.pasts[k].scenes[row] == scene and then[k][row] < now]
            places.append(max(earlier, key=lambda place: then[place[0]][place[1]], default=None))
        return places


def _joined(pasts: Sequence[Past]) -> tuple[Past, list[int]]:
    """Several pasts as one, and the row of it that each begins at."""
    if len(pasts) == 1:
        return pasts[0], [0]
    first_row = [0]
    for past in pasts[:-1]:
        first_row.append(first_row[-1] + len(past.scenes))
    times, poses = (torch.cat([getattr(p, name) for p in pasts]) for name in ("timestamp_us", "global_from_ref"))
    memory = {name: torch.cat([past.memory[name] for past in pasts]) for name in pasts[0].memory}
    return Past([scene for past in pasts for scene in past.scenes], times, poses, memory), first_row
