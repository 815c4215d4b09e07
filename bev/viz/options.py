"""What a caller may choose about a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bev.structures.conventions import CLASSES

POINT_COLORS = ("height", "intensity", "camera", "distance")


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
        point_color: what the colours of the points mean: their height above the ground, the LiDAR's intensity, the
            colour in which the cameras see them, or their distance from the origin.
        view: the scene straight from above (``bev``), or ``free``: in perspective from behind and above the vehicle.
        azimuth_rad: turns the free view around the vehicle, counter-clockwise seen from above.
        elevation_rad: how steeply the free view looks down.

    Raises:
        ValueError: a number is out of its range.
    """

    class_names: tuple[str, ...] = CLASSES
    score_threshold: float = 0.25
    range_m: float = 55.0
    tile_width_px: int = 640
    bev_position: Literal["auto", "right", "below"] = "auto"
    labels: bool = True
    point_color: Literal["height", "intensity", "camera", "distance"] = "height"
    view: Literal["bev", "free"] = "bev"
    azimuth_rad: float = 0.0
    elevation_rad: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f"score_threshold is {self.score_threshold}, expected 0..1")
        if not 5 <= self.range_m <= 500:
            raise ValueError(f"range_m is {self.range_m}, expected 5..500 m")
        if not 64 <= self.tile_width_px <= 4096:
            raise ValueError(f"tile_width_px is {self.tile_width_px}, expected 64..4096")
        if self.bev_position not in ("auto", "right", "below"):
            raise ValueError(f"bev_position is {self.bev_position!r}, expected auto, right or below")
        if self.point_color not in POINT_COLORS:
            raise ValueError(f"point_color is {self.point_color!r}, expected one of {', '.join(POINT_COLORS)}")
        if self.view not in ("bev", "free"):
            raise ValueError(f"view is {self.view!r}, expected bev or free")
        if not 0 <= self.elevation_rad <= 1.5:  # false for NaN, too; straight down, nothing says which way is up
            raise ValueError(f"elevation_rad is {self.elevation_rad}, expected 0..1.5 rad")
