"""The devkit's own functions on the same boxes, and the comparison to the last bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.curves import FIELDS
from bev.evaluation.nuscenes.evaluate import Evaluation
from bev.evaluation.nuscenes.filters import BIKE_RACK, Surroundings
from bev.evaluation.nuscenes.settings import ERRORS, MAX_BOXES, DetectionSettings
from bev.structures.conventions import ATTRIBUTES, CLASSES


def eval_boxes(boxes: BoxColumns, tokens: Sequence[str]) -> Any:
    """Columns as the devkit's boxes."""
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.detection.data_classes import DetectionBox

    result = EvalBoxes()
    for token in tokens:
        result.add_boxes(token, [])
    for i in range(len(boxes)):
        box = DetectionBox(
            tokens[boxes.sample[i]],
            tuple(boxes.center_m[i].tolist()),
            tuple(boxes.size_m[i, [1, 0, 2]].tolist()),
            tuple(boxes.rotation[i].tolist()),
            tuple(boxes.velocity_mps[i].tolist()),
            num_pts=int(boxes.num_pts[i]),
            detection_name=CLASSES[boxes.label[i]],
            detection_score=float(boxes.score[i]),
            attribute_name=ATTRIBUTES[boxes.attribute[i]] if boxes.attribute[i] >= 0 else "",
        )
        result.add_boxes(box.sample_token, [box])
    return result


class Tables:
    """The few look-ups that the devkit's filters make in its tables, answered from surroundings."""

    def __init__(self, surroundings: Surroundings, tokens: Sequence[str]) -> None:
        self.rows: dict[tuple[str, str], Any] = {}
        for i, token in enumerate(tokens):
            racks = np.flatnonzero(surroundings.rack_sample == i)
            for k in racks:
                size = surroundings.rack_size_m[k, [1, 0, 2]].tolist()
                box = dict(translation=surroundings.rack_center_m[k].tolist(), size=size)
                rotation = surroundings.rack_rotation[k].tolist()
                self.rows["sample_annotation", f"rack{k}"] = dict(category_name=BIKE_RACK, rotation=rotation, **box)
            self.rows["sample", token] = dict(data=dict(LIDAR_TOP=token), anns=[f"rack{k}" for k in racks])
            self.rows["sample_data", token] = dict(ego_pose_token=token)
            self.rows["ego_pose", token] = dict(translation=surroundings.ego_m[i].tolist())

    def get(self, table: str, token: str) -> Any:
        """As ``NuScenes.get``."""
        return self.rows[table, token]


def official(
    truth: BoxColumns, predicted: BoxColumns, surroundings: Surroundings, settings: DetectionSettings, samples: int
) -> tuple[Any, Any]:
    """``DetectionMetrics`` and ``DetectionMetricDataList`` of the devkit."""
    from nuscenes.eval.common.loaders import add_center_dist, filter_eval_boxes
    from nuscenes.eval.detection.data_classes import DetectionConfig
    from nuscenes.eval.detection.evaluate import DetectionEval

    tokens = [f"token{i}" for i in range(samples)]
    tables = Tables(surroundings, tokens)
    config = DetectionConfig(
        dict(settings.class_range_m),
        "center_distance",
        list(settings.thresholds_m),
        settings.error_threshold_m,
        settings.min_recall,
        settings.min_precision,
        MAX_BOXES,
        settings.map_weight,
    )
    kept = []
    for boxes in (truth, predicted):
        evaluated = eval_boxes(boxes, tokens)
        if len(boxes):
            evaluated = filter_eval_boxes(tables, add_center_dist(tables, evaluated), config.class_range)
        kept.append(evaluated)
    scorer = SimpleNamespace(cfg=config, verbose=False, gt_boxes=kept[0], pred_boxes=kept[1])
    return DetectionEval.evaluate(scorer)


def assert_identical(ours: Evaluation, metrics: Any, data: Any) -> None:
    """Every curve and every score equal to the last bit."""
    for name in CLASSES:
        for threshold, curves in zip(ours.settings.thresholds_m, ours.curves[name], strict=True):
            for field in FIELDS:
                expected = getattr(data[(name, threshold)], field)
                np.testing.assert_array_equal(getattr(curves, field), expected, f"{name} {threshold} {field}")
    assert_same_scores(ours.scores, metrics)


def assert_same_scores(scores: Mapping[str, Any], metrics: Any) -> None:
    """The devkit's ``DetectionMetrics`` against a table of scores."""
    summary = metrics.serialize()
    assert scores["NDS"] == summary["nd_score"] and scores["mAP"] == summary["mean_ap"]
    for long, short in ERRORS.items():
        assert scores[f"m{short}"] == summary["tp_errors"][long], short
    for name, row in scores["classes"].items():
        assert row["AP"] == summary["mean_dist_aps"][name], name
        for threshold, value in summary["label_aps"][name].items():
            assert row[f"AP@{threshold}"] == value, (name, threshold)
        for long, short in ERRORS.items():
            np.testing.assert_equal(row[short], summary["label_tp_errors"][name][long], f"{name} {short}")
