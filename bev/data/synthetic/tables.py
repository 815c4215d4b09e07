"""nuScenes tables: tokens, the tables that all scenes share, and their writing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Iterable

import msgspec

from bev.data.synthetic.rig import LIDAR, SENSORS
from bev.data.synthetic.taxonomy import ATTRIBUTES, CATEGORIES, VISIBILITY

Record = dict[str, Any]
SHARED_TABLES = ("category", "attribute", "visibility", "sensor")
SCENE_TABLES = (
    "log",
    "map",
    "scene",
    "calibrated_sensor",
    "ego_pose",
    "sample",
    "sample_data",
    "instance",
    "sample_annotation",
)


def token(*parts: object) -> str:
    """32 hexadecimal digits that follow from the parts alone."""
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def shared_tables() -> dict[str, list[Record]]:
    """Category, attribute, visibility and sensor: the same in every synthetic data set."""
    level = "visibility of whole object is between {} and {}%"
    return {
        "category": [
            {"token": token("category", n), "name": n, "description": "", "index": i + 1}
            for i, n in enumerate(CATEGORIES)
        ],
        "attribute": [{"token": token("attribute", n), "name": n, "description": d} for n, d in ATTRIBUTES.items()],
        "visibility": [
            {"token": k, "level": v, "description": level.format(*v[1:].split("-"))} for k, v in VISIBILITY.items()
        ],
        "sensor": [
            {
                "token": token("sensor", s.channel),
                "channel": s.channel,
                "modality": "lidar" if s.channel == LIDAR else "camera",
            }
            for s in SENSORS
        ],
    }


def encode_rows(records: Iterable[Record]) -> bytes:
    """JSON rows without the brackets around them."""
    return b",\n".join(msgspec.json.encode(r) for r in records)


def write_table(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a table from encoded rows (atomic: a temporary file, then a rename)."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        file.write(b"[\n")
        for index, chunk in enumerate(c for c in chunks if c):
            file.write((b",\n" if index else b"") + chunk)
        file.write(b"\n]\n")
    os.replace(temporary, path)
