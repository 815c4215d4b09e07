"""What the tracker in space assumes of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bev.registry import check_keys
from bev.structures.conventions import CLASSES
from bev.tracking.association import METHODS
from bev.tracking.motion import MotionNoise


@dataclass(frozen=True)
class ClassTracking:
    """Settings of one class.

    Attributes:
        motion: ``turn`` (constant turn rate and speed) or ``straight`` (constant velocity).
        gate_m: farthest that a detection may lie from where its track is expected, in the plane.
        noise: see :class:`bev.tracking.motion.MotionNoise`.
    """

    motion: Literal["turn", "straight"]
    gate_m: float
    noise: MotionNoise = MotionNoise()

    def __post_init__(self) -> None:
        if self.motion not in ("turn", "straight") or not self.gate_m > 0:
            raise ValueError(f"motion must be 'turn' or 'straight' and gate_m positive, got {self}")


# Gates leave room for what an object of the class can gain or lose in half a second, and for the detector's error.
NUSCENES = {
    "bicycle": ClassTracking("turn", 3.0, MotionNoise(acceleration_mps2=1.5)),
    "bus": ClassTracking("turn", 5.0, MotionNoise(acceleration_mps2=1.5, turn_radps2=0.3, position_m=0.7)),
    "car": ClassTracking("turn", 4.0, MotionNoise(acceleration_mps2=2.0)),
    "motorcycle": ClassTracking("turn", 4.0, MotionNoise(acceleration_mps2=2.5)),
    "pedestrian": ClassTracking("straight", 2.0, MotionNoise(acceleration_mps2=1.0, position_m=0.4, start_mps=1.5)),
    "trailer": ClassTracking("turn", 5.0, MotionNoise(acceleration_mps2=1.5, turn_radps2=0.3, position_m=0.7)),
    "truck": ClassTracking("turn", 4.5, MotionNoise(acceleration_mps2=1.5, turn_radps2=0.3, position_m=0.7)),
}


@dataclass(frozen=True)
class TrackerSettings:
    """Settings of :class:`bev.tracking.Tracker3D`.

    Attributes:
        classes: by name; other classes are not tracked.
        association: ``hungarian`` (least sum of costs) or ``greedy`` (nearest pair first).
        cost: ``likelihood`` (how well a detection fits what the filter expects, by its own uncertainty) or
            ``distance`` (m in the plane).
        gate_sigma: farthest in standard deviations of what the filter expects; both gates must let a pair pass.
        max_age_s: a track that was not seen for longer ends.
        confirm_hits: detections before a track is reported; a track that is not yet reported ends when it is missed.
        min_score: detections below it are not used.
        start_score: detections below it continue tracks and start none.
        score: ``refined`` (a track that is seen often becomes surer, see ``Tracker3D``) or ``detection``.
        score_half_life_s: time in which the refined score of a track that is not seen halves.
        use_velocity: whether the detector's velocities are measurements.
    """

    classes: Mapping[str, ClassTracking] = field(default_factory=lambda: dict(NUSCENES))
    association: Literal["hungarian", "greedy"] = "hungarian"
    cost: Literal["likelihood", "distance"] = "likelihood"
    gate_sigma: float = 4.0
    max_age_s: float = 6.0
    confirm_hits: int = 1
    min_score: float = 0.05
    start_score: float = 0.05
    score: Literal["refined", "detection"] = "refined"
    score_half_life_s: float = 2.0
    use_velocity: bool = True

    def __post_init__(self) -> None:
        check_keys(self.classes, CLASSES, "classes")
        if not self.classes:
            raise ValueError("there is no class to track")
        for name, allowed in (
            ("association", tuple(METHODS)),
            ("cost", ("likelihood", "distance")),
            ("score", ("refined", "detection")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if not (self.gate_sigma > 0 and self.max_age_s > 0 and self.score_half_life_s > 0 and self.confirm_hits >= 1):
            raise ValueError("gate_sigma, max_age_s and score_half_life_s must be positive, confirm_hits at least 1")
