"""Transforms of one picture's shape and place: affine, flip, expand."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from bev.data.detection2d.picture import PAD_VALUE, Chance, Picture, PictureTransform, inside, moved
from bev.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomAffine(PictureTransform):
    """Rotation, scale, shear and shift about the picture's middle, which comes to the middle of the network's window.

    Args:
        rotate_deg: largest angle, degrees.
        scale: range of the factor.
        shear_deg: largest shear of each axis, degrees.
        shift: largest shift, in shares of the window.
        least_share: boxes of which less is left are dropped.
        pad_value: grey beside the picture.
        probability: of doing so; else the picture stays as it is.
    """

    def __init__(
        self,
        rotate_deg: float = 10.0,
        scale: tuple[float, float] = (0.5, 1.5),
        shear_deg: float = 2.0,
        shift: float = 0.1,
        least_share: float = 0.2,
        pad_value: int = PAD_VALUE,
        probability: float = 1.0,
    ) -> None:
        if not 0 < scale[0] <= scale[1] or min(rotate_deg, shear_deg, shift) < 0 or not 0 <= probability <= 1:
            raise ValueError(
                f"RandomAffine: scale {scale} must be positive, rotate_deg {rotate_deg}, shear_deg {shear_deg}, "
                f"shift {shift} not negative, probability {probability} between 0 and 1"
            )
        self.rotate_deg, self.scale, self.shear_deg, self.shift = rotate_deg, scale, shear_deg, shift
        self.least_share, self.pad_value, self.probability = least_share, pad_value, probability

    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        if chance.rng.random() >= self.probability:
            return picture
        matrix = self._matrix(picture.size_px, chance)
        height, width = chance.size_px
        # cv2 counts from pixels' middles, boxes from their upper left corners.
        half = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        pixels = np.linalg.inv(half) @ matrix @ half
        image = cv2.warpAffine(picture.image, pixels[:2], (width, height), borderValue=(self.pad_value,) * 3)
        corners = picture.boxes_px[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        turned = corners @ matrix[:2, :2].T + matrix[:2, 2]
        boxes = np.concatenate([turned.min(1), turned.max(1)], 1).astype(np.float32)
        changed = replace(picture, image=image, boxes_px=boxes, from_file=matrix @ picture.from_file)
        return inside(changed, least_share=self.least_share)

    def _matrix(self, size_px: tuple[int, int], chance: Chance) -> np.ndarray:
        rng = chance.rng
        angle = math.radians(rng.uniform(-self.rotate_deg, self.rotate_deg))
        factor = rng.uniform(*self.scale)
        shear = [math.tan(math.radians(rng.uniform(-self.shear_deg, self.shear_deg))) for _ in range(2)]
        move = [(0.5 + rng.uniform(-self.shift, self.shift)) * side for side in chance.size_px[::-1]]
        cos, sin = math.cos(angle) * factor, math.sin(angle) * factor
        to_middle = np.array([[1, 0, -size_px[1] / 2], [0, 1, -size_px[0] / 2], [0, 0, 1]])
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        lean = np.array([[1, shear[0], 0], [shear[1], 1, 0], [0, 0, 1]])
        back = np.array([[1, 0, move[0]], [0, 1, move[1]], [0, 0, 1]])
        result: np.ndarray = back @ lean @ turn @ to_middle
        return result


@TRANSFORMS.register_module()
class RandomFlip(PictureTransform):
    """Left and right, and top and bottom, changed at random.

    Args:
        horizontal, vertical: probabilities.
    """

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        if not (0 <= horizontal <= 1 and 0 <= vertical <= 1):
            raise ValueError(f"RandomFlip: probabilities {horizontal}, {vertical} must be between 0 and 1")
        self.horizontal, self.vertical = horizontal, vertical

    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        across, down = chance.rng.random(2) < (self.horizontal, self.vertical)
        if not across and not down:
            return picture
        height, width = picture.size_px
        matrix = np.eye(3)
        if across:
            matrix[0] = [-1, 0, width]
        if down:
            matrix[1] = [0, -1, height]
        image = cv2.flip(picture.image, -1 if across and down else int(across))
        return moved(picture, image, matrix)


@TRANSFORMS.register_module()
class RandomExpand(PictureTransform):
    """The picture at a random place of a larger canvas: objects become small (SSD, ECCV 2016, section 2.2).

    Args:
        probability: of doing so.
        ratio: range of the canvas's side against the picture's.
        pad_value: grey of the canvas.
    """

    def __init__(
        self, probability: float = 0.5, ratio: tuple[float, float] = (1.0, 4.0), pad_value: int = PAD_VALUE
    ) -> None:
        if not 0 <= probability <= 1 or not 1 <= ratio[0] <= ratio[1]:
            raise ValueError(f"RandomExpand: probability {probability} in 0..1, ratio {ratio} a range from 1 up")
        self.probability, self.ratio, self.pad_value = probability, ratio, pad_value

    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        if chance.rng.random() >= self.probability:
            return picture
        ratio, (h, w) = chance.rng.uniform(*self.ratio), picture.size_px
        height, width = int(h * ratio), int(w * ratio)
        top, left = int(chance.rng.integers(0, height - h + 1)), int(chance.rng.integers(0, width - w + 1))
        canvas = np.full((height, width, 3), self.pad_value, np.uint8)
        canvas[top : top + h, left : left + w] = picture.image
        return moved(picture, canvas, np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]]))
