"""How ground truth and predictions are told apart; one place for the images, the bird's-eye view and the legend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bev.structures import Boxes3D, Sample
from bev.viz.options import DrawOptions
from bev.viz.palette import GROUND_TRUTH, Color, class_color


@dataclass(frozen=True)
class BoxLayer:
    """Boxes that are drawn alike.

    Attributes:
        name: in the legend.
        boxes: in the reference frame, on the CPU.
        class_names: name of each label.
        by_class: coloured by class with a filled front face and a label; else thin, dashed and white.
        scores: the scores mean something and are written.

    Raises:
        ValueError: a label without a class name.
    """

    name: str
    boxes: Boxes3D
    class_names: tuple[str, ...]
    by_class: bool
    scores: bool

    def __post_init__(self) -> None:
        labels = self.boxes.label
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.class_names):
            raise ValueError(
                f"{self.name}: labels {int(labels.min())}..{int(labels.max())}, but {len(self.class_names)} class names"
            )

    def class_name(self, index: int) -> str:
        """Name of a box's class."""
        return self.class_names[int(self.boxes.label[index])]

    def color(self, index: int) -> Color:
        """Colour of one box."""
        label = int(self.boxes.label[index])
        return class_color(self.class_names[label], label) if self.by_class else GROUND_TRUTH

    def caption(self, index: int) -> str:
        """Text of one box: its class and, of predictions, the track's number or else the score."""
        name = self.class_name(index).replace("_", " ")
        if self.scores and self.boxes.track_id is not None:
            return f"{name} #{int(self.boxes.track_id[index])}"
        return f"{name} {float(self.boxes.score[index]):.2f}" if self.scores else name

    def corners_m(self) -> NDArray[np.float64]:
        """(M, 8, 3), as ``Boxes3D.corners_m``."""
        return self.boxes.corners_m().double().numpy()


def box_layers(sample: Sample, predictions: Boxes3D | None, options: DrawOptions) -> tuple[BoxLayer, ...]:
    """The layers of a frame, in drawing order.

    Predictions below the score threshold are left out. Ground truth is white and dashed over predictions; where no
    predictions were asked for (None), it is coloured by class itself. Boxes with a NaN or infinite place or size are
    never drawn.
    """
    layers = []
    if predictions is not None:
        kept = predictions.to("cpu")
        kept = _drawable(kept[kept.score >= options.score_threshold])
        name = "prediction" if kept.track_id is None else "track"
        layers.append(BoxLayer(name, kept, options.class_names, by_class=True, scores=True))
    if sample.boxes is not None:
        truth = _drawable(sample.boxes.to("cpu"))
        alone = predictions is None
        layers.append(BoxLayer("ground truth", truth, options.class_names, by_class=alone, scores=False))
    return tuple(layers)


def _drawable(boxes: Boxes3D) -> Boxes3D:
    return boxes[boxes.corners_m().isfinite().flatten(1).all(1)]
