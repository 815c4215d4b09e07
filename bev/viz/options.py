"""What a caller may choose about a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bev.structures.conventions import CLASSES


@dataclass(frozen=True)
class DrawOptions:
    """Options of one picture.

    Attributes:
        class_names: name of each label.
        score_threshold: predictions below it are not drawn.
        range_m: the bird's-eye view reaches this far to each side of the ego vehicle.
        tile_width_px: width of one camera image in the picture; line width and text scale with it.
        bev_position: ``right`` of the images, ``below`` them, or ``auto``: below where the images are wide strips.
        labels: write class and score at each box of the images.

    Raises:
        ValueError: a number is out of its range.
    """

    class_names: tuple[str, ...] = CLASSES
    score_threshold: float = 0.25
    range_m: float = 55.0
    tile_width_px: int = 640
    bev_position: Literal["auto", "right", "below"] = "auto"
    labels: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f"score_threshold is {self.score_threshold}, expected 0..1")
        if not 5 <= self.range_m <= 500:
            raise ValueError(f"range_m is {self.range_m}, expected 5..500 m")
        if not 64 <= self.tile_width_px <= 4096:
            raise ValueError(f"tile_width_px is {self.tile_width_px}, expected 64..4096")
        if self.bev_position not in ("auto", "right", "below"):
            raise ValueError(f"bev_position is {self.bev_position!r}, expected auto, right or below")
