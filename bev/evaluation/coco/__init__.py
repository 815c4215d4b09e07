"""COCO and VOC detection scores of boxes in pictures."""

from bev.evaluation.coco.evaluate import CocoEvaluation, evaluate_coco
from bev.evaluation.coco.report import write_coco_report

__all__ = ["CocoEvaluation", "evaluate_coco", "write_coco_report"]
