"""PASCAL VOC folders: one xml file a picture (VOC2012 development kit, section 5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from bev.data.detection2d.records import (
    PICTURE_SUFFIXES,
    Objects,
    PictureList,
    broken,
    collect_objects,
    label_of,
    make_record,
)
from bev.io import FileError
from bev.registry import DATASETS

# No annotation is larger; a larger file is not read into memory. Entities are refused, since they can grow without end.
_LARGEST_BYTES = 16 * 2**20
# The second column of lists of one class.
_CLASS_COLUMN = re.compile(r"\s+(-1|0|1)$")


@DATASETS.register_module(name="VocPictures")
def read_voc(
    root: str | Path,
    split: str | None,
    classes: Sequence[str] | None = None,
    difficult: Literal["keep", "ignore"] = "ignore",
    first_pixel: int = 1,
    annotations: str = "Annotations",
    images: str = "JPEGImages",
) -> PictureList:
    """Pictures that ``ImageSets/Main/<split>.txt`` names, with ``Annotations/<name>.xml`` and ``JPEGImages/<name>.*``.

    Args:
        root: folder that holds the three.
        split: train, val, trainval, test, or any other list; None for every xml file, without a list.
        classes: names in the order of their labels; objects of other classes are an error. None for all that the split
            has, in alphabetical order.
        difficult: whether difficult objects are taught and scored, or regions that do not count.
        first_pixel: number of the leftmost and topmost pixel: 1 as VOC's own, 0 as some tools write. A box covers its
            last pixel.
        annotations, images: names of the two folders; they may be the same, ``.`` included.

    Raises:
        FileError: no such folder or list, or an unknown class. An annotation that is missing or damaged is a problem of
            its picture alone.
    """
    if difficult not in ("keep", "ignore") or first_pixel not in (0, 1):
        raise ValueError(f"VOC: difficult {difficult!r} must be 'keep' or 'ignore', first_pixel {first_pixel} 0 or 1")
    root = Path(root)
    folder = root / annotations
    listed = folder if split is None else root / "ImageSets" / "Main" / f"{split}.txt"
    names = sorted(path.stem for path in folder.glob("*.xml")) if split is None else _names(listed)
    trees = [_parse(folder / f"{name}.xml") for name in names]
    if classes is None:
        found = {_text(o, "name") for tree in trees if not isinstance(tree, str) for o in tree.iter("object")}
        classes = sorted(name for name in found if name)
    pictures = _find_pictures(root / images)
    records = []
    for number, (name, tree) in enumerate(zip(names, trees), start=1):
        where = str(folder / f"{name}.xml")
        size = None if isinstance(tree, str) else _size(tree)
        if isinstance(tree, str):
            objects = broken(tree)
        else:
            objects = _objects(tree, classes, where, size, difficult, first_pixel)
        path = pictures.get(name, root / images / f"{name}.jpg")
        records.append(make_record(path, name, number, objects, size))
    return PictureList(str(listed), tuple(classes), tuple(range(1, len(classes) + 1)), tuple(records))


def _names(path: Path) -> list[str]:
    """A name a line, which may have spaces; lists of one class have a second column."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot read the list of pictures: {error}") from error
    return [_CLASS_COLUMN.sub("", line.strip()) for line in lines if line.strip()]


def _find_pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES}


def _parse(path: Path) -> ElementTree.Element | str:
    """The document, or why there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"{path}: cannot read: {error.strerror or error}"
    if len(data) > _LARGEST_BYTES or b"<!ENTITY" in data or b"<!DOCTYPE" in data:
        return f"{path}: not an annotation: larger than {_LARGEST_BYTES >> 20} MiB, or with a document type of its own"
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        return f"{path}: damaged xml: {error}"


def _text(node: ElementTree.Element, tag: str) -> str:
    return (node.findtext(tag) or "").strip()


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    try:
        height, width = int(_text(tree, "size/height")), int(_text(tree, "size/width"))
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None


def _objects(
    tree: ElementTree.Element,
    classes: Sequence[str],
    where: str,
    size_px: tuple[int, int] | None,
    difficult: str,
    first_pixel: int,
) -> Objects:
    rows: list[tuple[Sequence[float], int, bool, float | None]] = []
    for index, node in enumerate(tree.iter("object")):
        texts = [_text(node, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            left, top, right, bottom = map(float, texts)
        except ValueError:
            return broken(f"{where}: object {index} has the bndbox {texts}, expected four numbers")
        label = label_of(_text(node, "name"), classes, f"{where}: object {index}")
        # Pixel n covers [n - first, n - first + 1); the last one is part of the box.
        corners = (left - first_pixel, top - first_pixel, right - first_pixel + 1, bottom - first_pixel + 1)
        hard = difficult == "ignore" and _text(node, "difficult") == "1"
        rows.append((corners, label, hard, None))
    return collect_objects(rows, where, size_px)
