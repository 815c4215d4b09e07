"""COCO annotation and result files, checked before anything is scored (https://cocodataset.org/#format-results)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bev.io import FileError


class CocoResult(msgspec.Struct, gc=False):
    """One detection; ``bbox`` is left, top, width, height in px."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


def read_annotations(path: str | Path) -> dict[str, Any]:
    """An annotation file as decoded JSON; raises FileError where it is none."""
    content = _decode(path, dict[str, Any])
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise FileError(f"{path}: expected an object with the lists 'images', 'annotations' and 'categories'")
    return content


def read_results(path: str | Path, images: Mapping[int, Any], categories: Mapping[int, str]) -> list[CocoResult]:
    """Read and check detections.

    Args:
        path: JSON list of detections.
        images, categories: those of the annotations, by id.

    Raises:
        FileError: missing, malformed, a picture or category that the annotations do not have, a box of negative size,
            or a number that is not finite; names the record.
    """
    results: list[CocoResult] = _decode(path, list[CocoResult])
    for i, result in enumerate(results):
        where = f"{path}: record {i}"
        if result.image_id not in images:
            raise FileError(f"{where}: image_id {result.image_id} is not in the annotations")
        if result.category_id not in categories:
            raise FileError(f"{where}: category_id {result.category_id} is not in the annotations")
        if not all(map(math.isfinite, (*result.bbox, result.score))) or min(result.bbox[2:]) < 0:
            raise FileError(f"{where}: bbox {result.bbox}, score {result.score} must be finite, the size not negative")
    return results


def _decode(path: str | Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=kind)
    except OSError as error:
        raise FileError(f"{path}: cannot read: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise FileError(f"{path}: {error}") from error
