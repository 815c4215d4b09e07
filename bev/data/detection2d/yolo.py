"""YOLO folders: one text file a picture, a line an object: class, centre x, centre y, width, height in shares; or class
and the corners of a polygon, of which the bounding box is taken."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from bev.data.detection2d.records import PICTURE_SUFFIXES, Objects, PictureList, broken, collect_objects, make_record
from bev.io import FileError
from bev.registry import DATASETS


@DATASETS.register_module(name="YoloPictures")
def read_yolo(
    root: str | Path,
    split: str = "train",
    classes: Sequence[str] | None = None,
    images: str | None = None,
) -> PictureList:
    """Pictures with Darknet's labels: for ``.../images/a/b.jpg`` the file ``.../labels/a/b.txt``.

    Args:
        root: a folder, or its ``data.yaml`` with ``path``, ``names`` and for each split a folder of pictures, a text
            file that lists them, or several of these. Relative paths are looked up from ``path`` (that itself from
            ``data.yaml``), then from the file that has them.
        split: key of ``data.yaml``; with a folder, the folder ``images/<split>``.
        classes: names in the order of their numbers; needed where there is no ``data.yaml`` or ``classes.txt``.
        images: folder of pictures or list of them, relative to the root, in place of the split's.

    Raises:
        FileError: no such folder, or no class names. A label file that is damaged is a problem of its picture alone; a
            picture without one has no objects.
    """
    base, content = _describe(Path(root))
    names = tuple(classes) if classes is not None else _class_names(base, content, root)
    given = images or content.get(split) or f"images/{split}"
    paths = [path for part in ([given] if isinstance(given, str) else given) for path in _pictures(base, str(part))]
    records = []
    for number, path in enumerate(paths, start=1):
        label_file = _label_file(path)
        size = _picture_size(path)
        objects = _objects(label_file, len(names), size, path)
        token = str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
        records.append(make_record(path, token, number, objects, size))
    return PictureList(f"{root} ({split})", names, tuple(range(len(names))), tuple(records))


def _describe(root: Path) -> tuple[Path, dict[str, Any]]:
    """Base folder and content of ``data.yaml``, if there is one."""
    file = root if root.suffix in (".yaml", ".yml") else root / "data.yaml"
    if not file.is_file():
        if file == root or not root.is_dir():
            raise FileError(f"{root}: no such folder or data.yaml")
        return root, {}
    try:
        content = yaml.safe_load(file.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FileError(f"{file}: cannot read: {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{file}: expected keys such as names, train, val")
    return file.parent / str(content.get("path") or "."), content


def _class_names(base: Path, content: dict[str, Any], root: str | Path) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        by_number = {int(number): name for number, name in names.items()}
        names = [by_number[number] for number in range(len(names))]
    if names is None and (base / "classes.txt").is_file():
        try:
            lines = (base / "classes.txt").read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{base / 'classes.txt'}: cannot read: {error}") from error
        names = [line.strip() for line in lines if line.strip()]
    if not isinstance(names, list) or not names:
        raise FileError(f"{root}: no class names: 'names' in data.yaml, classes.txt, or the argument classes")
    if content.get("nc", len(names)) != len(names):
        raise FileError(f"{root}: it has {len(names)} names, but 'nc' is {content['nc']}")
    return tuple(str(name) for name in names)


def _pictures(base: Path, given: str) -> list[Path]:
    place = _found(given, (base,))
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not place.is_file():
        raise FileError(f"{place}: no such folder of pictures or list of them")
    try:
        lines = [line.strip() for line in place.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{place}: cannot read the list of pictures: {error}") from error
    return [_found(line, (base, place.parent)) for line in lines if line]


def _found(given: str, folders: Sequence[Path]) -> Path:
    """The first place where a path of a file leads somewhere; the first of all where none does.

    Also tried: Windows' separators, and a path without its leading ``../`` (as a well-known annotation service writes
    paths that begin beside the folder of ``data.yaml``, not in it).
    """
    forms = dict.fromkeys((given, given.replace("\\", "/"), given.replace("\\", "/").removeprefix("../")))
    places = [folder / form for form in forms for folder in folders]
    return next((place for place in places if place.exists()), places[0])


def _label_file(picture: Path) -> Path:
    """The last folder called ``images`` becomes ``labels``; else the text lies beside the picture."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            return Path(*parts[:index], "labels", *parts[index + 1 :]).with_suffix(".txt")
    return picture.with_suffix(".txt")


def _picture_size(path: Path) -> tuple[int, int] | None:
    """(H, W) from the head of the file; None where it cannot be read (the reader of pixels will say why)."""
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            turned = picture.getexif().get(0x0112) in (5, 6, 7, 8)  # read_image turns it upright
            return (picture.width, picture.height) if turned else (picture.height, picture.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _values(line: str) -> tuple[float, float, float, float, float]:
    """Class, centre, width and height of a line; raises ValueError."""
    first, *rest = map(float, line.split())
    if len(rest) >= 6 and len(rest) % 2 == 0:
        left, top, right, bottom = min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2])
        rest = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    x, y, w, h = rest
    return first, x, y, w, h


def _objects(path: Path, num_classes: int, size_px: tuple[int, int] | None, picture: Path) -> Objects:
    try:
        lines = path.read_text("utf-8-sig").splitlines() if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        return broken(f"{path}: cannot read: {error}")
    if size_px is None:
        return broken(f"{picture}: not a picture: its size cannot be read")
    rows: list[tuple[Sequence[float], int, bool, float | None]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            first, x, y, w, h = _values(line)
        except ValueError:
            return broken(f"{path}: line {number} is {line!r:.60}, expected: class x y width height")
        if not first.is_integer() or not 0 <= first < num_classes or not all(-0.01 <= v <= 1.01 for v in (x, y, w, h)):
            return broken(f"{path}: line {number} is {line!r:.60}: class of {num_classes}, then shares of the picture")
        height, width = size_px
        corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        rows.append((corners, int(first), False, None))
    return collect_objects(rows, str(path), size_px)
