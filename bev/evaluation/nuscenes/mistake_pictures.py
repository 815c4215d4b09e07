"""Cut-outs of the camera pictures around mistakes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from bev.data.frame_index import FrameIndex
from bev.evaluation.nuscenes.breakdown import camera_of
from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.confusion import Mistake
from bev.evaluation.nuscenes.evaluate import Evaluation
from bev.evaluation.nuscenes.exact import yaw
from bev.evaluation.report import Picture
from bev.io.images import read_image
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES

# Shape (H, W) of a cut-out, px, and how much larger than the box it is at least.
_SHAPE_PX, _MARGIN = (300, 400), 2.2


def mistake_pictures(
    done: Evaluation, mistakes: list[Mistake], missed: bool, index: FrameIndex, frames: np.ndarray, root: Path
) -> list[Picture]:
    """One picture a mistake whose camera picture is there; the box in question in colour, truth white and dashed.

    Args:
        done: the evaluation that the mistakes are of.
        mistakes: misses (``missed``) or false positives.
        index, frames: the data set and the frame of each sample.
        root: of the data set.

    Raises:
        FileError: a picture is damaged.
    """
    boxes = done.truth if missed else done.predicted
    cameras = camera_of(boxes[np.array([m.row for m in mistakes], int)], index, frames)
    pictures = []
    for number, (mistake, camera) in enumerate(zip(mistakes, cameras.tolist())):
        if camera == len(index.channels):
            continue
        frame = int(frames[mistake.sample])
        path = root / index.camera_file[frame * len(index.channels) + camera]
        if path.is_file():
            name = f"{'miss' if missed else 'false_positive'}_{number:02d}.jpg"
            data = _cut_out(done, mistake, boxes, index, frame, camera, path)
            pictures.append(Picture(name, describe(done, mistake, missed, index.channels[camera]), data))
    return pictures


def describe(done: Evaluation, mistake: Mistake, missed: bool, where: str) -> str:
    """A mistake in words."""
    boxes, others = (done.truth, done.predicted) if missed else (done.predicted, done.truth)
    what = CLASSES[boxes.label[mistake.row]].replace("_", " ")
    what += f" with {boxes.num_pts[mistake.row]} points" if missed else f" {boxes.score[mistake.row]:.2f}"
    near = "nothing near it"
    if mistake.nearest >= 0:
        kind = CLASSES[others.label[mistake.nearest]].replace("_", " ")
        near = f"nearest {'prediction' if missed else 'truth'}: {kind}, {mistake.distance_m:.1f} m"
    return f"{what}; {near}; {where}, sample {done.tokens[mistake.sample]}"


def _cut_out(
    done: Evaluation, mistake: Mistake, boxes: BoxColumns, index: FrameIndex, frame: int, camera: int, path: Path
) -> bytes:
    from bev.viz.cameras import draw_camera
    from bev.viz.options import DrawOptions
    from bev.viz.style import BoxLayer

    image = read_image(path, f"sample {done.tokens[mistake.sample]}")
    img_from_global = _img_from_global(index, frame, camera)
    target = _boxes(boxes, np.array([mistake.row]))
    left, top, width, height = _window(target, img_from_global, (image.shape[0], image.shape[1]))
    shift = np.eye(4)
    shift[:2, 2] = -left, -top
    here = np.flatnonzero(done.truth.sample == mistake.sample)
    truth = BoxLayer("ground truth", _boxes(done.truth, here), CLASSES, by_class=False, scores=False)
    question = BoxLayer("in question", target, CLASSES, by_class=True, scores=boxes is done.predicted)
    part = torch.from_numpy(np.ascontiguousarray(image[top : top + height, left : left + width])).permute(2, 0, 1)
    matrix = torch.from_numpy(shift @ img_from_global)
    picture = draw_camera(part, matrix, (truth, question), DrawOptions(tile_width_px=_SHAPE_PX[1]))
    encoded, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not encoded:
        raise ValueError(f"{path}: the cut-out could not be encoded")
    return data.tobytes()


def _img_from_global(index: FrameIndex, frame: int, camera: int) -> np.ndarray:
    """(4, 4) homogeneous px from global m."""
    calibration = index.camera_calibration[frame, camera]
    global_from_camera = index.global_from_ego_of_camera[frame, camera] @ index.ego_from_camera[calibration]
    intrinsics = np.eye(4)
    intrinsics[:3, :3] = index.intrinsics[calibration]
    return intrinsics @ np.linalg.inv(global_from_camera)


def _boxes(columns: BoxColumns, rows: np.ndarray) -> Boxes3D:
    part = columns[rows]
    numbers = (part.center_m, part.size_m, yaw(part.rotation), part.velocity_mps, part.label.astype("i8"), part.score)
    center, size, heading, velocity, label, score = (torch.from_numpy(np.ascontiguousarray(n)) for n in numbers)
    return Boxes3D(center, size, heading, velocity, label, score, "global")


def _window(target: Boxes3D, img_from_global: np.ndarray, shape_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width, height of a cut-out of the wanted shape around a box, inside the picture."""
    corners = target.corners_m()[0].numpy() @ img_from_global[:3, :3].T + img_from_global[:3, 3]
    seen = corners[corners[:, 2] > 0.5]
    pixels = seen[:, :2] / seen[:, 2:] if len(seen) else np.array([[shape_px[1] / 2, shape_px[0] / 2]])
    low, high = pixels.min(0), pixels.max(0)
    aspect = _SHAPE_PX[1] / _SHAPE_PX[0]
    width = max(_MARGIN * max(high[0] - low[0], aspect * (high[1] - low[1])), _SHAPE_PX[1] / 2)
    width = int(min(width, shape_px[1], aspect * shape_px[0]))
    height = int(width / aspect)
    middle = (low + high) / 2
    left = int(np.clip(middle[0] - width / 2, 0, shape_px[1] - width))
    top = int(np.clip(middle[1] - height / 2, 0, shape_px[0] - height))
    return left, top, width, height
