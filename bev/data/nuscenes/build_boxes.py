"""Annotations to columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bev.data.nuscenes.rows import Columns, Frames, neighbours, refuse
from bev.data.nuscenes.tables import Lookup
from bev.io.columns import Strings
from bev.structures.conventions import ATTRIBUTES, CLASS_OF_CATEGORY, CLASSES

# Longest time between two annotations of an object that still gives a velocity (the devkit's ``box_velocity``).
MAX_VELOCITY_GAP_S = 1.5


def box_columns(tables: dict[str, Any], frames: Frames) -> Columns:
    """The ``box_`` columns of the index, in the order of the frames."""
    rows = tables["sample_annotation"]
    tokens = [a.token for a in rows]
    frame = np.array(
        frames.lookup.rows([a.sample_token for a in rows], tokens, "sample_annotation.sample_token"), np.int64
    )
    velocity = _velocities(rows, tokens, frame, np.array([r.timestamp for r in frames.rows], np.int64))
    order = np.argsort(frame, kind="stable")
    rows = [rows[i] for i in order]
    size_wlh = np.array([a.size for a in rows], np.float64).reshape(-1, 3)
    center = np.array([a.translation for a in rows], np.float64).reshape(-1, 3)
    rotation = np.array([a.rotation for a in rows], np.float64).reshape(-1, 4)
    finite = np.isfinite(size_wlh).all(1) & np.isfinite(center).all(1) & np.isfinite(rotation).all(1)
    refuse(~finite, "sample_annotation", rows, "holds a NaN or infinite value")
    refuse((size_wlh <= 0).any(1), "sample_annotation", rows, "has a size that is not positive")
    refuse(~rotation.any(1), "sample_annotation", rows, "has a rotation of zeros")
    return {
        "box_end": np.cumsum(np.bincount(frame, minlength=len(frames.rows))).astype(np.int64),
        "box_center_m": center,
        "box_size_m": size_wlh[:, [1, 0, 2]],
        "box_rotation": rotation,
        "box_velocity_mps": velocity[order],
        "box_num_lidar_pts": np.array([a.num_lidar_pts for a in rows], np.int32),
        "box_num_radar_pts": np.array([a.num_radar_pts for a in rows], np.int32),
        **_box_kinds(tables, rows),
    }


def _box_kinds(tables: dict[str, Any], rows: Sequence[Any]) -> Columns:
    """Category, label, attribute, visibility and track of each box."""
    tokens = [a.token for a in rows]
    instances, categories = tables["instance"], tables["category"]
    track = Lookup("instance", [i.token for i in instances]).rows(
        [a.instance_token for a in rows], tokens, "sample_annotation.instance_token"
    )
    category_of_instance = Lookup("category", [c.token for c in categories]).rows(
        [i.category_token for i in instances], [i.token for i in instances], "instance.category_token"
    )
    category = np.array(category_of_instance, np.int16)[track] if rows else np.zeros(0, np.int16)
    names = [c.name for c in categories]
    label_of = np.array([CLASSES.index(CLASS_OF_CATEGORY[n]) if n in CLASS_OF_CATEGORY else -1 for n in names], np.int8)
    return {
        "category": Strings.pack(names),
        "box_category": category,
        "box_label": label_of[category] if rows else np.zeros(0, np.int8),
        "box_attribute": _attributes(tables["attribute"], rows, tokens),
        "box_visibility": _visibilities(tables["visibility"], rows, tokens),
        "box_track": np.array(track, np.int32),
    }


def _attributes(attributes: Sequence[Any], rows: Sequence[Any], tokens: list[str]) -> np.ndarray:
    several = np.array([len(a.attribute_tokens) > 1 for a in rows], bool)
    refuse(several, "sample_annotation", rows, "has more than one attribute")
    number_of = [ATTRIBUTES.index(a.name) if a.name in ATTRIBUTES else -1 for a in attributes]
    column = np.full(len(rows), -1, np.int8)
    present = [i for i, a in enumerate(rows) if a.attribute_tokens]
    lookup = Lookup("attribute", [a.token for a in attributes])
    found = lookup.rows(
        [rows[i].attribute_tokens[0] for i in present],
        [tokens[i] for i in present],
        "sample_annotation.attribute_tokens",
    )
    column[present] = [number_of[i] for i in found]
    return column


def _visibilities(levels: Sequence[Any], rows: Sequence[Any], tokens: list[str]) -> np.ndarray:
    """Levels 1..4 by the order of their names: v0-40, v40-60, v60-80, v80-100."""
    order = sorted(levels, key=lambda v: int(v.level.removeprefix("v").partition("-")[0]))
    number_of = {v.token: i + 1 for i, v in enumerate(order)}
    column = np.zeros(len(rows), np.int8)
    present = [i for i, a in enumerate(rows) if a.visibility_token]
    Lookup("visibility", [v.token for v in levels]).rows(
        [rows[i].visibility_token for i in present],
        [tokens[i] for i in present],
        "sample_annotation.visibility_token",
    )
    column[present] = [number_of[rows[i].visibility_token] for i in present]
    return column


def _velocities(rows: Sequence[Any], tokens: list[str], frame: np.ndarray, timestamp_us: np.ndarray) -> np.ndarray:
    """(M, 3) m/s, bit for bit as the devkit's ``box_velocity``.

    Central difference where an object has both neighbours, else one-sided; NaN where it has none or where they are more
    than 1.5 s (both: 3 s) apart.
    """
    lookup = Lookup("sample_annotation", tokens)
    before = neighbours(lookup, tokens, [a.prev for a in rows], "sample_annotation.prev")
    after = neighbours(lookup, tokens, [a.next for a in rows], "sample_annotation.next")
    own = np.arange(len(rows))
    first, last = np.where(before >= 0, before, own), np.where(after >= 0, after, own)
    center = np.array([a.translation for a in rows], np.float64).reshape(-1, 3)
    seconds = 1e-6 * timestamp_us
    elapsed = seconds[frame[last]] - seconds[frame[first]] if len(rows) else np.zeros(0)
    limit = np.where((before >= 0) & (after >= 0), 2 * MAX_VELOCITY_GAP_S, MAX_VELOCITY_GAP_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        velocity = (center[last] - center[first]) / elapsed[:, None]
    velocity[((before < 0) & (after < 0)) | (elapsed > limit)] = np.nan
    return velocity
