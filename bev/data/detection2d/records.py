"""What an annotation says about each picture, whatever file it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bev.io import FileError
from bev.registry import suggest

# Of the files that folders of pictures are searched for, in small letters.
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class PictureRecord:
    """One picture and its annotation.

    Attributes:
        path: of the picture.
        token: its name, unique in the list.
        image_id: its number in COCO results.
        boxes_px: (M, 4) float32 left, top, right, bottom in the file's continuous pixel coordinates.
        label: (M,) int64 index of the class.
        crowd: (M,) bool: regions that are neither taught nor count as missed (COCO's crowds, VOC's difficult objects).
        area_px: (M,) float64, COCO's area of the object (of its mask where there is one).
        size_px: (H, W) that the annotation gives, None where it gives none.
        problem: why the annotation cannot be used; None where it can.
    """

    path: Path
    token: str
    image_id: int
    boxes_px: np.ndarray
    label: np.ndarray
    crowd: np.ndarray
    area_px: np.ndarray
    size_px: tuple[int, int] | None = None
    problem: str | None = None


@dataclass(frozen=True, eq=False)
class PictureList:
    """The pictures of a data set.

    Attributes:
        source: file or folder, for messages.
        classes: names.
        category_ids: number of each class in COCO results.
        records: the pictures.
    """

    source: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    records: tuple[PictureRecord, ...]

    def __post_init__(self) -> None:
        if not self.records:
            raise FileError(f"{self.source}: it lists no pictures")
        if len(self.classes) != len(self.category_ids) or len(set(self.classes)) != len(self.classes):
            raise FileError(f"{self.source}: its classes {self.classes} are not different names with an id each")
        seen: set[str] = set()
        for record in self.records:
            if record.token in seen:
                raise FileError(f"{self.source}: picture {record.token} is listed twice")
            seen.add(record.token)


@dataclass(frozen=True, eq=False)
class Objects:
    """Annotated objects of one picture, as a reader collects them; ``problem`` as in :class:`PictureRecord`."""

    boxes_px: np.ndarray
    label: np.ndarray
    crowd: np.ndarray
    area_px: np.ndarray
    problem: str | None = None


def collect_objects(
    rows: Sequence[tuple[Sequence[float], int, bool, float | None]], where: str, size_px: tuple[int, int] | None
) -> Objects:
    """Checked objects from rows of (corners px, label, crowd, area or None for the box's).

    Boxes end at the picture's border (annotators overshoot by a pixel or two); boxes that have no area then are left
    out, as published loaders do. A number that is not finite or a box that is inside out is a problem of the picture.
    """
    boxes = np.array([row[0] for row in rows], np.float64).reshape(-1, 4)
    bad = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] < boxes[:, :2]).any(1)
    if bad.any():
        index = int(bad.argmax())
        return broken(f"{where}: object {index} has the corners {boxes[index].tolist()}: not a box")
    if size_px is not None:
        boxes = boxes.clip(0, [size_px[1], size_px[0]] * 2)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    given = np.array([np.nan if row[3] is None else row[3] for row in rows], np.float64).reshape(-1)
    return Objects(
        boxes[solid].astype(np.float32),
        np.array([row[1] for row in rows], np.int64).reshape(-1)[solid],
        np.array([row[2] for row in rows], bool).reshape(-1)[solid],
        np.where(np.isfinite(given), given, area)[solid],
    )


def broken(problem: str) -> Objects:
    """No objects, and why."""
    return Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0), problem)


def make_record(
    path: Path, token: str, image_id: int, objects: Objects, size_px: tuple[int, int] | None
) -> PictureRecord:
    """A record of a picture's objects."""
    o = objects
    return PictureRecord(path, token, image_id, o.boxes_px, o.label, o.crowd, o.area_px, size_px, o.problem)


def label_of(name: str, classes: Sequence[str], where: str) -> int:
    """Index of a class; raises FileError for a name that is none, with the nearest that is."""
    if name not in classes:
        raise FileError(f"{where}: unknown class {name!r}{suggest(name, classes)}")
    return list(classes).index(name)


def to_coco(pictures: PictureList) -> dict[str, Any]:
    """The list as COCO annotations, whose image names are tokens (for scoring; sizes that nobody gave are left out)."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in pictures.records:
        image: dict[str, Any] = {"id": record.image_id, "file_name": record.token}
        if record.size_px is not None:
            image |= {"height": record.size_px[0], "width": record.size_px[1]}
        images.append(image)
        for box, label, crowd, area in zip(
            record.boxes_px.astype(np.float64).tolist(), record.label.tolist(), record.crowd.tolist(), record.area_px
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": pictures.category_ids[label],
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    categories = [{"id": i, "name": name} for i, name in zip(pictures.category_ids, pictures.classes)]
    return {"images": images, "annotations": annotations, "categories": categories}
