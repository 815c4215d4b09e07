"""Names that mmcv asks its extension for and that no supported model needs: calling one says so by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

SPARSE = (
    *("get_indice_pairs_2d_forward", "get_indice_pairs_3d_forward", "get_indice_pairs_4d_forward"),
    *("get_indice_pairs_2d_backward", "get_indice_pairs_3d_backward", "indice_conv_forward", "indice_conv_backward"),
    *("fused_indice_conv_forward", "indice_maxpool_forward", "indice_maxpool_backward"),
)
OTHERS = (
    *("active_rotated_filter_forward", "active_rotated_filter_backward", "assign_score_withk_forward"),
    *("assign_score_withk_backward", "stack_ball_query_forward", "bezier_align_forward", "bezier_align_backward"),
    *("bias_act", "border_align_forward", "border_align_backward", "box_iou_quadri", "chamfer_distance_forward"),
    *("chamfer_distance_backward", "contour_expand", "convex_iou", "convex_giou", "correlation_forward"),
    *("correlation_backward", "deform_roi_pool_forward", "deform_roi_pool_backward"),
    *("diff_iou_rotated_sort_vertices_forward", "filtered_lrelu", "filtered_lrelu_act_"),
    *("furthest_point_sampling_with_dist_forward", "fused_bias_leakyrelu", "stack_group_points_forward"),
    *("stack_group_points_backward", "knn_forward", "masked_im2col_forward", "masked_col2im_forward"),
    *("min_area_polygons", "nms_quadri", "pixel_group", "points_in_polygons_forward", "prroi_pool_forward"),
    *("prroi_pool_backward", "prroi_pool_coor_backward", "psamask_forward", "psamask_backward"),
    *("riroi_align_rotated_forward", "riroi_align_rotated_backward", "roiaware_pool3d_forward"),
    *("roiaware_pool3d_backward", "roipoint_pool3d_forward", "rotated_feature_align_forward"),
    *("rotated_feature_align_backward", "sync_bn_forward_mean", "sync_bn_forward_var", "sync_bn_forward_output"),
    *("sync_bn_backward_param", "sync_bn_backward_data", "tin_shift_forward", "tin_shift_backward", "upfirdn2d"),
)


class NotProvided(NotImplementedError):
    """A function of mmcv's compiled extension that this project does not offer."""


def _missing(name: str, hint: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotProvided(
            f"mmcv._ext.{name} is not provided by bev.ops{hint}; a model that needs it needs the compiled mmcv 2.1"
        )

    call.__name__ = name
    return call


def missing_functions() -> dict[str, Callable[..., Any]]:
    """Every such name, with a function that raises :class:`NotProvided`."""
    sparse = {name: _missing(name, " (sparse 3D convolution)") for name in SPARSE}
    return {**sparse, **{name: _missing(name, "") for name in OTHERS}}
