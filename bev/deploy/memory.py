"""The memory of temporal detectors outside torch's modules: which frame continues which, and what the graph is told.

A graph takes ``state_*`` and gives ``next_*``. What it gave is the next frame's state; the rest of the state tells of
the motion since then. Both are described in the graph's own facts, so that no detector is built to run it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bev.deploy.facts import NEXT, STATE
from bev.models.detectors.bevdet import invert_pose
from bev.models.detectors.temporal import TemporalDetector
from bev.models.motion import Motion
from bev.models.view.ego_motion import can_bus_vector

Told = Callable[[Motion, Mapping[str, Any]], Tensor]
# What detectors are told of the motion, by the name that their ``motion_inputs`` give it.
TOLD: dict[str, Told] = {
    "continues": lambda motion, how: motion.continues,
    "newest_from_ref": lambda motion, how: invert_pose(motion.ref_from_previous),
    "ref_from_previous": lambda motion, how: motion.ref_from_previous,
    "elapsed_s": lambda motion, how: motion.elapsed_s,
    "can_bus": lambda motion, how: can_bus_vector(motion, how["frame"], how["wrap"]),
}


def memory_of(model: nn.Module, state: Mapping[str, Tensor] | None) -> dict[str, Any] | None:
    """What the facts of a graph say of its state, for :class:`FrameMemory`; None without a state.

    Args:
        model: the detector.
        state: example, as its ``forward`` takes it.

    Raises:
        ValueError: the detector wants to be told something of the motion that is not known here.
    """
    if not state:
        return None
    how: dict[str, Any] = {}
    head = getattr(model, "pts_bbox_head", None)
    if "can_bus" in state:
        how = {"frame": head.transformer.frame, "wrap": head.wrap_turns}  # type: ignore[union-attr]
    still = Motion(torch.zeros(1, dtype=torch.bool), *(torch.eye(4).double()[None],) * 2, torch.zeros(1).double())
    asked = sorted(model.motion_inputs(still)) if isinstance(model, TemporalDetector) else []
    unknown = [name for name in asked if name not in TOLD]
    if unknown:
        raise ValueError(f"{type(model).__name__} is told {unknown} of the motion, which has no export form")
    rows = {STATE + name: [list(value.shape[1:]), _type_name(value)] for name, value in state.items()}
    return {"state": rows, "motion": {"names": asked, **how}}


def _type_name(value: Tensor) -> str:
    """As numpy names it."""
    return str(value.dtype).removeprefix("torch.")


def motion_arrays(motion: Motion, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inputs of a graph that follow from the motion, by name: float32 and bool.

    Args:
        motion: of B vehicles.
        settings: ``memory["motion"]`` of the graph's facts.
    """
    values = {name: TOLD[name](motion, settings) for name in settings["names"]}
    kept = {name: value.float() if value.is_floating_point() else value for name, value in values.items()}
    return {STATE + name: np.ascontiguousarray(value.numpy()) for name, value in kept.items()}


@dataclass(frozen=True, eq=False)
class _Past:
    scene: str
    timestamp_us: int
    global_from_ref: Tensor
    kept: Mapping[str, Any]


class FrameMemory:
    """Carries one vehicle's state from frame to frame, for whatever runs the graph.

    A frame continues the last one where it is of the same scene, later, and at most ``longest_gap_s`` later; otherwise
    it begins anew.

    Args:
        memory: of the graph's facts.
        longest_gap_s: between two frames that belong together. Detectors are trained at 2 Hz on nuScenes.

    Attributes:
        continued: whether the present frame continues the last one.
    """

    def __init__(self, memory: Mapping[str, Any], longest_gap_s: float = 2.0) -> None:
        self._rows, self._motion = memory["state"], memory["motion"]
        self.longest_gap_s = longest_gap_s
        self._past: _Past | None = None
        self._now: tuple[str, int, Tensor] | None = None
        self.continued = False

    def reset(self) -> None:
        """Forget everything: the next frame begins anew."""
        self._past, self._now, self.continued = None, None, False

    def enter(self, scene: str, timestamp_us: int, global_from_ref: Any) -> dict[str, Any]:
        """The state inputs of a frame.

        Args:
            scene: name of the recording.
            timestamp_us: of the frame.
            global_from_ref: (4, 4) m, pose of the reference frame; float64, since global places are large.

        Raises:
            ValueError: not a pose.
        """
        pose = torch.as_tensor(np.asarray(global_from_ref, dtype=np.float64))
        if pose.shape != (4, 4) or not bool(pose.isfinite().all()) or abs(float(torch.linalg.det(pose))) < 1e-6:
            raise ValueError(f"global_from_ref must be a finite, invertible (4, 4) matrix, got {pose.tolist()}")
        self._now, past = (scene, int(timestamp_us), pose), self._past
        elapsed_s = 0.0 if past is None else 1e-6 * (int(timestamp_us) - past.timestamp_us)
        self.continued = past is not None and past.scene == scene and 0 < elapsed_s <= self.longest_gap_s
        motion = Motion(torch.tensor([False]), pose[None], torch.eye(4).double()[None], torch.zeros(1).double())
        if not self.continued or past is None:
            blank = {name: np.zeros((1, *shape), kind) for name, (shape, kind) in self._rows.items()}
            return {**blank, **motion_arrays(motion, self._motion)}
        elapsed = torch.tensor([elapsed_s], dtype=torch.float64)
        moved = motion.since(torch.tensor([True]), past.global_from_ref[None], elapsed)
        return {**past.kept, **motion_arrays(moved, self._motion)}

    def leave(self, outputs: Mapping[str, Any]) -> None:
        """Keep what the graph gave for the next frame."""
        assert self._now is not None
        kept = {STATE + n.removeprefix(NEXT): value for n, value in outputs.items() if n.startswith(NEXT)}
        self._past = _Past(*self._now, kept)
