"""The tables of a nuScenes folder to a FrameIndex."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bev.data.frame_index import FrameIndex
from bev.data.nuscenes.build_boxes import box_columns
from bev.data.nuscenes.build_sensors import sensor_columns
from bev.data.nuscenes.rows import Columns, Frames, neighbours
from bev.data.nuscenes.tables import Lookup, RecordError, SampleRow, Scene, read_table
from bev.io import FileError
from bev.io.columns import Strings


def build_index(folder: Path) -> FrameIndex:
    """Read the tables of one version, e.g. ``<root>/v1.0-mini``.

    Raises:
        FileError: a table is missing or malformed, a token points nowhere, or a number is not usable (NaN calibration,
            negative size ...); names the table, the record and the field.
    """
    try:
        frames, scene_columns = _order_frames(
            read_table(folder, "scene", Scene), read_table(folder, "sample", SampleRow)
        )
        sensors = sensor_columns(folder, frames, scene_columns["scene"])
        return FrameIndex(**scene_columns, **sensors, **box_columns(folder, frames))
    except RecordError as error:
        raise FileError(f"{folder}: {error}") from error


def _order_frames(scenes: Sequence[Any], samples: Sequence[Any]) -> tuple[Frames, Columns]:
    scene_lookup = Lookup("scene", [s.token for s in scenes])
    tokens = [s.token for s in samples]
    scene = np.array(scene_lookup.rows([s.scene_token for s in samples], tokens, "sample.scene_token"), np.int32)
    timestamp = np.array([s.timestamp for s in samples], np.int64)
    order = np.lexsort((timestamp, scene))
    rows = [samples[i] for i in order]
    frames = Frames(rows, Lookup("sample", [r.token for r in rows]))
    return frames, {
        "scene_name": Strings.pack([s.name for s in scenes]),
        "token": Strings.pack(frames.tokens),
        "scene": scene[order],
        "timestamp_us": timestamp[order],
        "previous": neighbours(frames.lookup, frames.tokens, [r.prev for r in rows], "sample.prev"),
        "following": neighbours(frames.lookup, frames.tokens, [r.next for r in rows], "sample.next"),
    }
