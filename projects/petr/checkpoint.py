"""PETR's published files."""

from __future__ import annotations

from bev.models.checkpoints import Family, Properties, register_family
from bev.models.checkpoints.families import Weights, image_colours
from bev.models.checkpoints.properties import CAFFE, IMAGENET
from bev.structures.conventions import CAMERAS_DETR3D


def _properties(weights: Weights) -> Properties:
    """All of the authors' ResNets are Caffe's, with and without deformable convolutions."""
    colours = image_colours(weights)
    return Properties("mmdet3d_v0", "lidar", CAMERAS_DETR3D, CAFFE if colours == IMAGENET else colours)


PETR_FILES = register_family(
    Family(
        "petr",
        (r"pts_bbox_head\.adapt_pos3d\.0\.", r"pts_bbox_head\.input_proj\."),
        ("projects/petr/configs/petr_r50_p4_nusc.py", "projects/petr/configs/petr_vovnet_800x320_nusc.py"),
        _properties,
        ambiguous=True,
    )
)
