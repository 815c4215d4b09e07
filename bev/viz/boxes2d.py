"""Boxes drawn on single pictures, and many pictures on one sheet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from bev.data.detection2d import PictureDataset
from bev.io.images import read_image
from bev.structures import Boxes2D, ImageBatch
from bev.viz.drawing_paths import drawing_paths
from bev.viz.legend import class_legend
from bev.viz.palette import PAGE, Color, class_color, ink_on
from bev.viz.text import Picture, draw_text, text_size


def draw_boxes(
    picture: Picture,
    boxes: Boxes2D,
    classes: Sequence[str],
    with_scores: bool = True,
    with_names: bool = True,
    numbers: Sequence[int] | None = None,
) -> Picture:
    """A copy of a picture with its boxes. A name that would cover another one is left out: the colour says the class.

    Args:
        picture: (H, W, 3) uint8 RGB.
        boxes: px of the picture; the best score is drawn last, on top, and gets its name first.
        classes: names of the labels.
        with_scores: write the score after the name.
        with_names: write the name.
        numbers: of the boxes' objects, written after the name.
    """
    drawn = np.ascontiguousarray(picture).copy()
    height, width = drawn.shape[:2]
    thick = max(1, round(min(height, width) / 300))
    order = boxes.score.argsort(stable=True).tolist()
    corners = boxes.xyxy_px.clamp(-1e5, 1e5).round().int().tolist()
    labels = boxes.label.tolist()
    for index in order:
        left, top, right, bottom = corners[index]
        color = class_color(classes[labels[index]], labels[index])
        cv2.rectangle(drawn, (left, top), (right, bottom), tuple(color), thick, cv2.LINE_AA)
    taken: list[tuple[int, int, int, int]] = []
    for index in reversed(order):
        name = classes[labels[index]]
        words = [name] * with_names + ([] if numbers is None else [f"#{numbers[index]}"])
        words += [f"{float(boxes.score[index]):.2f}"] * with_scores
        if words:
            color = class_color(name, labels[index])
            _tag(drawn, " ".join(words), (corners[index][0], corners[index][1]), color, taken)
    return drawn


def _tag(
    picture: Picture, text: str, corner_px: tuple[int, int], color: Color, taken: list[tuple[int, int, int, int]]
) -> None:
    """A name on a ground of its class's colour, above the box where there is room; not over ``taken`` places."""
    size = max(10, round(min(picture.shape[:2]) / 36))
    width, height = text_size(text, size)
    left = min(max(corner_px[0], 0), max(picture.shape[1] - width - 4, 0))
    top = corner_px[1] - height if corner_px[1] >= height else corner_px[1]
    top = min(max(top, 0), max(picture.shape[0] - height, 0))
    right, bottom = left + width + 4, top + height
    if any(left < r and x < right and top < b and y < bottom for x, y, r, b in taken):
        return
    taken.append((left, top, right, bottom))
    picture[top:bottom, left:right] = color
    draw_text(picture, text, (left + 2, top), size, ink_on(color))


def sheet(pictures: Sequence[Picture], columns: int = 4, width_px: int = 1600) -> Picture:
    """Pictures side by side in rows, each scaled to fit its cell of one size; (H, W, 3) uint8."""
    if not len(pictures):
        raise ValueError("sheet: no pictures")
    columns = min(columns, len(pictures))
    cell_w = width_px // columns
    cell_h = max(1, round(cell_w * float(np.median([p.shape[0] / p.shape[1] for p in pictures]))))
    rows = -(-len(pictures) // columns)
    canvas = np.full((rows * cell_h, columns * cell_w, 3), tuple(PAGE), np.uint8)
    for index, picture in enumerate(pictures):
        scale = min(cell_h / picture.shape[0], cell_w / picture.shape[1])
        h, w = max(1, int(picture.shape[0] * scale)), max(1, int(picture.shape[1] * scale))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        top, left = index // columns * cell_h, index % columns * cell_w
        canvas[top : top + h, left : left + w] = cv2.resize(picture, (w, h), interpolation=way)
    return canvas


def batch_sheet(
    batch: ImageBatch, boxes: Sequence[Boxes2D], classes: Sequence[str], with_scores: bool, most: int = 16
) -> Picture:
    """The network's images of a batch with boxes in network px; the classes that occur are explained above them."""
    images = batch.images[:most].permute(0, 2, 3, 1).cpu().numpy()
    found = [one.to("cpu") for one in boxes[:most]]
    pictures = sheet([draw_boxes(image, one, classes, with_scores, False) for image, one in zip(images, found)])
    labels = sorted({label for one in found for label in one.label.tolist()})
    if not labels:
        return pictures
    named = [(classes[label], class_color(classes[label], label)) for label in labels]
    return np.concatenate([class_legend(named, pictures.shape[1], 22), pictures])


def in_network(batch: ImageBatch, predictions: Sequence[Boxes2D]) -> list[Boxes2D]:
    """Predictions in px of each file's picture -> px of the network's images (scaled and shifted alike)."""
    moved = []
    for matrix, boxes in zip(batch.network_from_picture.cpu(), predictions):
        scale, shift = matrix.diagonal()[:2].repeat(2), matrix[:2, 2].repeat(2)
        moved.append(Boxes2D((boxes.xyxy_px.double() * scale + shift).float(), boxes.label, boxes.score))
    return moved


def better_than(boxes: Boxes2D, score_threshold: float) -> Boxes2D:
    """Those whose score is at least the threshold."""
    return boxes[torch.as_tensor(boxes.score >= score_threshold)]


def draw_found(
    dataset: PictureDataset, predictions: Mapping[str, Boxes2D], directory: str | Path, score_threshold: float = 0.25
) -> list[Path]:
    """Draw the predictions of a data set's pictures (by token, px of the files) over the files; returns the paths."""
    paths = []
    drawings = drawing_paths([r.token for r in dataset.records], directory, [r.path for r in dataset.records])
    for record, path in zip(dataset.records, drawings):
        if record.token in predictions:
            found = better_than(predictions[record.token], score_threshold)
            image = read_image(record.path, record.token, record.size_px, upright=True)
            picture = draw_boxes(image, found, dataset.pictures.classes)
            write_picture(path, picture)
            paths.append(path)
    return paths


def write_picture(path: Path, picture: Picture) -> None:
    """Write (H, W, 3) uint8 RGB by the path's suffix; readers see the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(picture[..., ::-1]))
    if not done:
        raise ValueError(f"{path}: cannot encode a picture of {picture.shape} as {path.suffix}")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data.tobytes())
    os.replace(temporary, path)
