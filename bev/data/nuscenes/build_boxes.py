"""Annotations to columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bev.data.nuscenes.rows import MAX_M, Columns, Frames, is_unit, neighbours, numbers, refuse
from bev.data.nuscenes.tables import (
    Annotation,
    Instance,
    Lookup,
    Named,
    RecordError,
    Visibility,
    iterate_table,
    read_table,
)
from bev.io.columns import Strings
from bev.structures.conventions import ATTRIBUTES, CLASS_OF_CATEGORY, CLASSES

# Longest time between two annotations of an object that still gives a velocity (the devkit's ``box_velocity``).
MAX_VELOCITY_GAP_S = 1.5


def box_columns(folder: Path, frames: Frames) -> Columns:
    """The ``box_`` columns of the index, in the order of the frames."""
    kinds = _Kinds(folder)
    parts: list[Columns] = [_decode([], frames, kinds)]
    tokens: list[str] = []
    before: list[str] = []
    after: list[str] = []
    for chunk in iterate_table(folder, "sample_annotation", Annotation):
        parts.append(_decode(chunk, frames, kinds))
        tokens += [a.token for a in chunk]
        before += [a.prev for a in chunk]
        after += [a.next for a in chunk]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    frame = columns.pop("frame")
    lookup = Lookup("sample_annotation", tokens)
    links = (
        neighbours(lookup, tokens, before, "sample_annotation.prev"),
        neighbours(lookup, tokens, after, "sample_annotation.next"),
    )
    _check_links(*links, frame, frames.timestamp_us, tokens)
    columns["box_velocity_mps"] = _velocities(*links, columns["box_center_m"], frame, frames.timestamp_us)
    order = np.argsort(frame, kind="stable")
    return {
        "category": Strings.pack(kinds.categories),
        "box_end": np.cumsum(np.bincount(frame, minlength=len(frames.rows))).astype(np.int64),
        **{name: column[order] for name, column in columns.items()},
    }


def _decode(rows: list[Any], frames: Frames, kinds: _Kinds) -> Columns:
    """Columns of some annotations, in the table's order."""
    tokens = [a.token for a in rows]
    frame = frames.lookup.rows([a.sample_token for a in rows], tokens, "sample_annotation.sample_token")
    size_wlh = numbers([a.size for a in rows], 3)
    center, rotation = numbers([a.translation for a in rows], 3), numbers([a.rotation for a in rows], 4)
    finite = np.isfinite(size_wlh).all(1) & np.isfinite(center).all(1) & np.isfinite(rotation).all(1)
    refuse(~finite, "sample_annotation", tokens, "holds a NaN or infinite value")
    refuse((size_wlh <= 0).any(1), "sample_annotation", tokens, "has a size that is not positive")
    refuse(~is_unit(rotation), "sample_annotation", tokens, "has a rotation that is no unit quaternion")
    far = (abs(center) > MAX_M).any(1) | (size_wlh > MAX_M).any(1)
    refuse(far, "sample_annotation", tokens, f"has a translation or size beyond {MAX_M:g} m")
    return {
        "frame": np.array(frame, np.int64),
        "box_center_m": center,
        "box_size_m": size_wlh[:, [1, 0, 2]],
        "box_rotation": rotation,
        "box_num_lidar_pts": np.array([a.num_lidar_pts for a in rows], np.int32),
        "box_num_radar_pts": np.array([a.num_radar_pts for a in rows], np.int32),
        **kinds.of(rows, tokens),
    }


class _Kinds:
    """What annotations refer to: instances and their categories, attributes, visibility levels."""

    def __init__(self, folder: Path) -> None:
        categories = read_table(folder, "category", Named)
        instances = read_table(folder, "instance", Instance)
        self.categories = [c.name for c in categories]
        self.instances = Lookup("instance", [i.token for i in instances])
        category = Lookup("category", [c.token for c in categories]).rows(
            [i.category_token for i in instances], [i.token for i in instances], "instance.category_token"
        )
        self.category_of = np.array(category, np.int16)
        labels = [CLASSES.index(CLASS_OF_CATEGORY[n]) if n in CLASS_OF_CATEGORY else -1 for n in self.categories]
        self.label_of = np.array(labels, np.int8)
        attributes = read_table(folder, "attribute", Named)
        self.attributes = Lookup("attribute", [a.token for a in attributes])
        self.attribute_number = [ATTRIBUTES.index(a.name) if a.name in ATTRIBUTES else -1 for a in attributes]
        levels = read_table(folder, "visibility", Visibility)
        self.visibilities = Lookup("visibility", [v.token for v in levels])
        self.level_of = _levels(levels)

    def of(self, rows: list[Any], tokens: list[str]) -> Columns:
        """Category, label, attribute, visibility and track of each annotation."""
        field = "sample_annotation.instance_token"
        track = np.array(self.instances.rows([a.instance_token for a in rows], tokens, field), np.int32)
        category = self.category_of[track]
        refuse(
            np.array([len(a.attribute_tokens) > 1 for a in rows], bool),
            "sample_annotation",
            tokens,
            "has more than one attribute",
        )
        attribute, visibility = np.full(len(rows), -1, np.int8), np.zeros(len(rows), np.int8)
        there = [i for i, a in enumerate(rows) if a.attribute_tokens]
        attribute[there] = [
            self.attribute_number[i]
            for i in self.attributes.rows(
                [rows[i].attribute_tokens[0] for i in there],
                [tokens[i] for i in there],
                "sample_annotation.attribute_tokens",
            )
        ]
        there = [i for i, a in enumerate(rows) if a.visibility_token]
        visibility[there] = [
            self.level_of[i]
            for i in self.visibilities.rows(
                [rows[i].visibility_token for i in there],
                [tokens[i] for i in there],
                "sample_annotation.visibility_token",
            )
        ]
        return {
            "box_category": category,
            "box_label": self.label_of[category],
            "box_attribute": attribute,
            "box_visibility": visibility,
            "box_track": track,
        }


def _levels(levels: list[Visibility]) -> list[int]:
    """Levels 1..4 by the order of their names: v0-40, v40-60, v60-80, v80-100."""
    begins = [v.level.removeprefix("v").partition("-")[0] for v in levels]
    for level, begin in zip(levels, begins):
        if not begin.isdecimal():
            raise RecordError(f"table visibility: record {level.token} has level {level.level!r}, expected e.g. v40-60")
    order = sorted(range(len(levels)), key=lambda i: int(begins[i]))
    return [order.index(i) + 1 for i in range(len(levels))]


def _check_links(
    before: np.ndarray, after: np.ndarray, frame: np.ndarray, timestamp_us: np.ndarray, tokens: list[str]
) -> None:
    time = timestamp_us[frame]
    late, early = (before >= 0) & (time[before] >= time), (after >= 0) & (time[after] <= time)
    refuse(late, "sample_annotation", tokens, "has a prev that is not earlier")
    refuse(early, "sample_annotation", tokens, "has a next that is not later")


def _velocities(
    before: np.ndarray, after: np.ndarray, center_m: np.ndarray, frame: np.ndarray, timestamp_us: np.ndarray
) -> np.ndarray:
    """(M, 3) m/s, bit for bit as the devkit's ``box_velocity``.

    Central difference where an object has both neighbours, else one-sided; NaN where it has none or where they are more
    than 1.5 s (both: 3 s) apart.
    """
    own = np.arange(len(frame))
    first, last = np.where(before >= 0, before, own), np.where(after >= 0, after, own)
    seconds = 1e-6 * timestamp_us
    elapsed = seconds[frame[last]] - seconds[frame[first]]
    limit = np.where((before >= 0) & (after >= 0), 2 * MAX_VELOCITY_GAP_S, MAX_VELOCITY_GAP_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        velocity = (center_m[last] - center_m[first]) / elapsed[:, None]
    velocity[((before < 0) & (after < 0)) | (elapsed > limit)] = np.nan
    return velocity
