"""COCO and VOC detection scores of boxes in pictures."""

from bev.evaluation.coco.evaluate import CocoEvaluation, evaluate_coco, score_coco
from bev.evaluation.coco.metric import CocoMetric
from bev.evaluation.coco.report import write_coco_report

__all__ = ["CocoEvaluation", "CocoMetric", "evaluate_coco", "score_coco", "write_coco_report"]
