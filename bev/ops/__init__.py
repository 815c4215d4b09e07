"""Operators: one file each, with a plain reference form, a fast form and a gradient."""

from bev.ops.bias_activation import bias_gelu, bias_relu
from bev.ops.box_iou import box_iou
from bev.ops.box_iou_3d import box_iou_3d, box_iou_bev, box_overlap_bev, nms_bev
from bev.ops.deform_conv import deform_conv2d
from bev.ops.deformable_attention import multi_scale_deformable_attention
from bev.ops.focal_loss import sigmoid_focal_loss
from bev.ops.layer_norm import add_layer_norm, add_layer_norm_with_sum
from bev.ops.point_sets import ball_query, furthest_point_sampling, three_interpolate, three_nn
from bev.ops.points_in_boxes import box_of_points
from bev.ops.roi_align import roi_align_rotated
from bev.ops.rotated_iou import box_iou_rotated, nms_rotated
from bev.ops.voxelize import dynamic_scatter, dynamic_voxelize, hard_voxelize

__all__ = [
    "add_layer_norm",
    "add_layer_norm_with_sum",
    "ball_query",
    "bias_gelu",
    "bias_relu",
    "box_iou",
    "box_iou_3d",
    "box_iou_bev",
    "box_iou_rotated",
    "box_of_points",
    "box_overlap_bev",
    "deform_conv2d",
    "dynamic_scatter",
    "dynamic_voxelize",
    "furthest_point_sampling",
    "hard_voxelize",
    "multi_scale_deformable_attention",
    "nms_bev",
    "nms_rotated",
    "roi_align_rotated",
    "sigmoid_focal_loss",
    "three_interpolate",
    "three_nn",
]
