"""What of a tracking submission is scored, and how: the devkit's ``tracking_nips_2019`` or a file in its format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bev._optional import require
from bev.evaluation.nuscenes.settings import MAX_BOXES
from bev.evaluation.tracking.submission import TRACKING_CLASSES
from bev.io import FileError
from bev.registry import check_keys

DEFAULT = "tracking_nips_2019"


def tracking_config(path: str | Path | None = None) -> Any:
    """The devkit's ``TrackingConfig``.

    Args:
        path: JSON with fields of the devkit's configuration files, each optional, such as ``{"class_range": {"car":
            30}, "dist_th_tp": 1.0}``; None: those of the challenge.

    Raises:
        FileError: missing, not JSON, an unknown field or class, or a value that cannot be used.
        ImportError: the devkit is not installed.
    """
    factory = require("nuscenes.eval.common.config", extra="nuscenes").config_factory
    config = factory(DEFAULT)
    if path is None:
        return config
    fields = {**config.serialize(), **(changes := _changes(path, config.serialize()))}
    fields["class_range"] = {**config.class_range, **changes.get("class_range", {})}
    return type(config).deserialize(fields)


def _changes(path: str | Path, known: dict[str, Any]) -> dict[str, Any]:
    try:
        changes = json.loads(Path(path).read_text())
        if not isinstance(changes, dict):
            raise ValueError(f"expected an object, got {type(changes).__name__}")
        check_keys(changes, list(known), "settings")
        if not isinstance(ranges := changes.get("class_range", {}), dict):
            raise ValueError(f"class_range: expected an object, got {type(ranges).__name__}")
        check_keys(ranges, TRACKING_CLASSES, "class_range")
        _check_values(changes)
    except OSError as error:
        raise FileError(f"{path}: cannot read the settings: {error.strerror or error}") from error
    except ValueError as error:
        raise FileError(f"{path}: {error}") from error
    return changes


def _check_values(changes: dict[str, Any]) -> None:
    lengths = [*changes.get("class_range", {}).values(), changes.get("dist_th_tp", 1.0)]
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) and 0 < x < float("inf") for x in lengths):
        raise ValueError("class_range and dist_th_tp must be positive numbers of metres")
    if changes.get("dist_fcn", "center_distance") != "center_distance":
        raise ValueError("dist_fcn must be 'center_distance'")
    if changes.get("max_boxes_per_sample", MAX_BOXES) != MAX_BOXES:
        raise ValueError(f"max_boxes_per_sample must be {MAX_BOXES}")
    recall, steps = changes.get("min_recall", 0.1), changes.get("num_thresholds", 40)
    if not (0 < recall < 1 and isinstance(steps, int) and steps > 0):
        raise ValueError("min_recall must lie between 0 and 1, num_thresholds must be a positive integer")
