"""What two networks of equal names and shapes may still differ in: box code, frame, cameras' order, colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from bev.models.preprocess import ImageNormalizer
from bev.structures.boxes3d import Frame
from bev.structures.conventions import BoxConvention


@dataclass(frozen=True)
class Colours:
    """``(image - mean) / std`` of the network's input, 0..255, mean and std in the order ``order``."""

    order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __str__(self) -> str:
        return f"{self.order.upper()} mean {list(self.mean)} std {list(self.std)}"

    def reversed(self) -> Colours:
        """The same picture with its channels named in the other order."""
        return Colours("bgr" if self.order == "rgb" else "rgb", self.mean[::-1], self.std[::-1])


IMAGENET = Colours("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE = Colours("bgr", (103.530, 116.280, 123.675), (1.0, 1.0, 1.0))
DETECTRON = Colours("bgr", (103.530, 116.280, 123.675), (57.375, 57.120, 58.395))


@dataclass(frozen=True)
class Properties:
    """Of a file's weights, or of a model that shall hold them; None: does not matter, or is not known.

    Attributes:
        boxes: what the regression branches code.
        frame: that boxes and grid live in.
        cameras: names in the order that the weights belong to.
        colours: of the first convolution's input.
    """

    boxes: BoxConvention | None = None
    frame: Frame | None = None
    cameras: tuple[str, ...] | None = None
    colours: Colours | None = None


def properties_of_model(model: nn.Module, cameras: tuple[str, ...] | None = None) -> Properties:
    """What a built detector expects.

    Args:
        model: with ``preprocess`` and, where it predicts 3D boxes, ``pts_bbox_head.coder``.
        cameras: of the data that it will read.
    """
    coder = getattr(getattr(model, "pts_bbox_head", None), "coder", None)
    boxes: BoxConvention | None = getattr(coder, "convention", None)
    legacy = getattr(coder, "legacy_box_code", None)
    if boxes is None and legacy is not None:
        boxes = "mmdet3d_v0" if legacy else "mmdet3d_v1"
    return Properties(boxes, getattr(coder, "frame", None), cameras, _colours(getattr(model, "preprocess", None)))


def _colours(preprocess: nn.Module | None) -> Colours | None:
    if not isinstance(preprocess, ImageNormalizer):
        return None
    # Numbers of a configuration, not of a buffer: the model may have been built on the meta device.
    (m0, m1, m2), (s0, s1, s2) = preprocess.mean_values, preprocess.std_values
    return Colours("bgr" if preprocess.flip_channels else "rgb", (m0, m1, m2), (s0, s1, s2))
