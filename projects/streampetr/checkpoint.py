"""StreamPETR's published files."""

from __future__ import annotations

from bev.models.checkpoints import Family, Properties, register_family
from bev.models.checkpoints.families import image_colours

STREAMPETR_FILES = register_family(
    Family(
        "streampetr",
        (r"pts_bbox_head\.pseudo_reference_points\.", r"pts_bbox_head\.ego_pose_memory\."),
        ("projects/streampetr/configs/streampetr_r50_704_nusc.py",),
        lambda weights: Properties("mmdet3d_v1", "lidar", None, image_colours(weights)),
        # The head that finds 2D boxes and centres in the images.
        training_only=("img_roi_head.",),
        size_rows=(3, 4),  # its code is cx, cy, cz, log l, log w, log h, ...
    )
)
