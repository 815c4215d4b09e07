"""What is scored, and how: ranges, thresholds and weights of the detection task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bev.io import FileError
from bev.registry import check_keys
from bev.structures.conventions import CLASSES

# Metres of detection_cvpr_2019. The classes stand in the order of the devkit's file: means are sums in this order, and
# another order would give another last bit.
CLASS_RANGE_M = {
    "car": 50.0,
    "truck": 50.0,
    "bus": 50.0,
    "trailer": 50.0,
    "construction_vehicle": 50.0,
    "pedestrian": 40.0,
    "motorcycle": 40.0,
    "bicycle": 40.0,
    "traffic_cone": 30.0,
    "barrier": 30.0,
}
MAX_BOXES = 500

# Field of the curves -> name in every table of results; the order is that of the devkit's sums.
ERRORS = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE", "attr_err": "AAE"}
# Cones have no heading, and neither cones nor barriers move or have attributes.
UNDEFINED = {
    "traffic_cone": ("attr_err", "vel_err", "orient_err"),
    "barrier": ("attr_err", "vel_err"),
}


@dataclass(frozen=True)
class DetectionSettings:
    """Settings of the nuScenes detection task; the defaults are those of the challenge, detection_cvpr_2019.

    Attributes:
        class_range_m: by class, how near to the vehicle a box must be to be scored.
        thresholds_m: centre distances that make a match, ascending.
        error_threshold_m: the one of them at which the five errors are taken.
        min_recall, min_precision: below them the curves do not count.
        map_weight: of mAP in NDS, against 1 for each of the five errors.

    Raises:
        ValueError: an unknown class, a range or threshold that is not positive, or an error threshold that is not one
            of the thresholds.
    """

    class_range_m: Mapping[str, float] = field(default_factory=lambda: dict(CLASS_RANGE_M))
    thresholds_m: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    error_threshold_m: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    map_weight: float = 5

    def __post_init__(self) -> None:
        check_keys(self.class_range_m, CLASSES, "class_range_m")
        object.__setattr__(self, "class_range_m", {**CLASS_RANGE_M, **self.class_range_m})
        object.__setattr__(self, "thresholds_m", tuple(float(t) for t in self.thresholds_m))
        if not all(value > 0 for value in (*self.class_range_m.values(), *self.thresholds_m)):
            raise ValueError("ranges and distance thresholds must be positive")
        if sorted(set(self.thresholds_m)) != list(self.thresholds_m):
            raise ValueError(f"thresholds_m must ascend, got {self.thresholds_m}")
        if self.error_threshold_m not in self.thresholds_m:
            raise ValueError(f"error_threshold_m {self.error_threshold_m} is none of thresholds_m {self.thresholds_m}")
        if not (0 <= self.min_precision < 1 and 0 <= self.min_recall < 1):
            raise ValueError("min_recall and min_precision must be at least 0 and below 1")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The ten classes in the order in which means are summed."""
        return tuple(self.class_range_m)

    @property
    def error_index(self) -> int:
        """Position of the error threshold among the thresholds."""
        return self.thresholds_m.index(self.error_threshold_m)


class _SettingsFile(msgspec.Struct, forbid_unknown_fields=True):
    """The devkit's own JSON of a configuration is understood; fields that are left out keep their defaults."""

    class_range: dict[str, float] = {}
    dist_fcn: str = "center_distance"
    dist_ths: list[float] | None = None
    dist_th_tp: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    max_boxes_per_sample: int = MAX_BOXES
    mean_ap_weight: float = 5


def read_settings(path: str | Path) -> DetectionSettings:
    """Settings from a JSON with the fields of the devkit's configuration files, each of them optional.

    The fields: ``class_range``, ``dist_ths``, ``dist_th_tp``, ``min_recall``, ``min_precision``, ``mean_ap_weight``;
    ``dist_fcn`` and ``max_boxes_per_sample`` may only hold ``"center_distance"`` and 500.

    Raises:
        FileError: missing, not JSON, an unknown field, or a value that cannot be used.
    """
    try:
        content = msgspec.json.decode(Path(path).read_bytes(), type=_SettingsFile)
        if content.dist_fcn != "center_distance" or content.max_boxes_per_sample != MAX_BOXES:
            raise ValueError(f"dist_fcn must be 'center_distance' and max_boxes_per_sample {MAX_BOXES}")
        default = DetectionSettings()
        return DetectionSettings(
            content.class_range,
            default.thresholds_m if content.dist_ths is None else tuple(content.dist_ths),
            content.dist_th_tp,
            content.min_recall,
            content.min_precision,
            content.mean_ap_weight,
        )
    except OSError as error:
        raise FileError(f"{path}: cannot read the settings: {error.strerror or error}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise FileError(f"{path}: {error}") from error
