"""COCO annotation files (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bev.data.detection2d.records import Objects, PictureList, broken, collect_objects, make_record
from bev.io import FileError
from bev.registry import DATASETS, suggest


@DATASETS.register_module(name="CocoPictures")
def read_coco(
    annotations: str | Path, images: str | Path, classes: Sequence[str] | None = None, keep_empty: bool = True
) -> PictureList:
    """Pictures and boxes of a COCO instances file; masks and key points are not read.

    Args:
        annotations: JSON file with ``images``, ``annotations`` and ``categories``.
        images: folder of the pictures.
        classes: names to use, in the order of their labels; None for all, in the file's order.
        keep_empty: whether pictures without any object of the classes are listed.

    Raises:
        FileError: no such file, no COCO annotations, or an annotation of a picture or category that the file does not
            list. A box that is none is a problem of its picture alone.
    """
    content = _decode(Path(annotations))
    names = {int(c["id"]): str(c["name"]) for c in _rows(content, "categories", ("id", "name"), annotations)}
    chosen = tuple(names.values()) if classes is None else tuple(classes)
    for name in chosen:
        if name not in names.values():
            raise FileError(f"{annotations}: it has no category {name!r}{suggest(name, names.values())}")
    label_of = {category: chosen.index(name) for category, name in names.items() if name in chosen}
    objects_of: dict[int, list[dict[str, Any]]] = {}
    for image in _rows(content, "images", ("id", "file_name"), annotations):
        if image["id"] in objects_of:
            raise FileError(f"{annotations}: two pictures have the id {image['id']}, one is {image['file_name']}")
        objects_of[int(image["id"])] = []
    for row in _rows(content, "annotations", ("image_id", "category_id", "bbox"), annotations):
        if row["image_id"] not in objects_of or row["category_id"] not in names:
            raise FileError(
                f"{annotations}: annotation {row.get('id')} is of picture {row['image_id']} and category "
                f"{row['category_id']}, of which the file does not list both"
            )
        objects_of[row["image_id"]].append(row)
    records = []
    for image in content["images"]:
        size = _size(image)
        objects = _objects(objects_of[image["id"]], label_of, f"{annotations}: picture {image['file_name']}", size)
        if keep_empty or len(objects.label) or objects.problem:
            name = str(image["file_name"])
            path = Path(images) / name
            path = path if "\\" not in name or path.exists() else Path(images) / name.replace("\\", "/")
            records.append(make_record(path, name, int(image["id"]), objects, size))
    category_of = {name: category for category, name in names.items()}
    return PictureList(str(annotations), chosen, tuple(category_of[name] for name in chosen), tuple(records))


def _decode(path: Path) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise FileError(f"{path}: cannot read: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise FileError(f"{path}: not COCO annotations: {error}") from error
    return content


def _rows(content: dict[str, Any], key: str, needed: Sequence[str], path: str | Path) -> list[dict[str, Any]]:
    rows = content.get(key)
    if not isinstance(rows, list):
        raise FileError(f"{path}: expected an object with the lists 'images', 'annotations' and 'categories'")
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or any(name not in row for name in needed):
            raise FileError(f"{path}: {key}[{index}] needs {', '.join(needed)}, got {row!r:.120}")
        if not all(isinstance(row[name], int) for name in needed if name.endswith("id")):
            raise FileError(f"{path}: {key}[{index}]: ids must be whole numbers, got {row!r:.120}")
    return rows


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    """(H, W); None where the file does not say, or says 0 as some tools do for "unknown"."""
    height, width = image.get("height"), image.get("width")
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _objects(
    rows: list[dict[str, Any]], label_of: dict[int, int], where: str, size_px: tuple[int, int] | None
) -> Objects:
    found: list[tuple[Sequence[float], int, bool, float | None]] = []
    for row in rows:
        box = row["bbox"]
        numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(v, (int, float)) for v in box)
        if not numbers or box[2] < 0 or box[3] < 0:
            return broken(f"{where}: annotation {row.get('id')} has the bbox {box!r:.80}, expected left, top, w, h")
        if row["category_id"] in label_of:
            corners = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
            area = row.get("area")
            area = float(area) if isinstance(area, (int, float)) else None
            found.append((corners, label_of[row["category_id"]], bool(row.get("iscrowd")), area))
    return collect_objects(found, where, size_px)
