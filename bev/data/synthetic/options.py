"""What a synthetic nuScenes is made of: the options and their checks."""

from __future__ import annotations

import dataclasses
import re

MAX_SCENES = 4000


@dataclasses.dataclass(frozen=True)
class WorldOptions:
    """Options of a synthetic data set.

    Args:
        scenes: number of scenes in all, training and held out (1 to 4000).
        seed: every byte of the output follows from it and from the options below.
        val_scenes: how many of the scenes are held out as ``synthetic_val``; None means a fifth, rounded up, of two
            scenes or more. Held-out scenes draw from a seed stream of their own: no training scene of any
            ``scenes`` ever equals a held-out one, and held-out scene k is the same whatever ``scenes`` is.
        width: picture width [px]; the real 1600x900 intrinsics are scaled to it.
        height: picture height [px].
        frames_per_scene: key frames a scene, 2 a second as in nuScenes.
        sweeps: LiDAR sweeps between two key frames (nuScenes has about 9; fewer are quicker).
        version: name of the folder that holds the tables.
        jpeg_quality: 1 to 100.
        traffic_percent: how many vehicles, people and work sites stand and move in the streets, 0 to 200; 100 is as
            busy as nuScenes (about 30 boxes within 50 m), 40 is a quiet town with half as many boxes. One object of
            each class near the start of every scene is there in any case.

    Raises:
        ValueError: an option is out of its range; the message names it and the range.
    """

    scenes: int
    seed: int = 0
    val_scenes: int | None = None
    width: int = 400
    height: int = 225
    frames_per_scene: int = 40
    sweeps: int = 2
    version: str = "v1.0-synthetic"
    jpeg_quality: int = 90
    traffic_percent: int = 100

    def __post_init__(self) -> None:
        for name, low, high in (
            ("scenes", 1, MAX_SCENES),
            ("seed", 0, 2**63 - 1),
            ("width", 32, 3840),
            ("height", 18, 2160),
            ("frames_per_scene", 1, 400),
            ("sweeps", 0, 9),
            ("jpeg_quality", 1, 100),
            ("traffic_percent", 0, 200),
        ):
            _check_range(name, getattr(self, name), low, high)
        if self.val_scenes is not None:
            _check_range("val_scenes", self.val_scenes, 0, self.scenes)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.version):
            raise ValueError(f"version must be a plain folder name such as v1.0-synthetic, got {self.version!r}")
        if self.version in ("samples", "sweeps", "maps"):
            raise ValueError(f"version {self.version!r} is the name of a sensor folder; take another")

    @property
    def held_out(self) -> int:
        """Number of scenes of the split ``synthetic_val``."""
        if self.val_scenes is not None:
            return self.val_scenes
        return 0 if self.scenes == 1 else -(-self.scenes // 5)


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, got {value}")


@dataclasses.dataclass(frozen=True)
class SceneKey:
    """Which scene: its split and its number in the split (from 0); all its content follows from (seed, key)."""

    held_out: bool
    number: int

    @property
    def name(self) -> str:
        """nuScenes scene name; held-out scenes are numbered from 5001."""
        return f"scene-{(5001 if self.held_out else 1) + self.number:04d}"


def scene_keys(options: WorldOptions) -> list[SceneKey]:
    """All scenes of a data set, training scenes first."""
    train = options.scenes - options.held_out
    return [SceneKey(False, i) for i in range(train)] + [SceneKey(True, i) for i in range(options.held_out)]
