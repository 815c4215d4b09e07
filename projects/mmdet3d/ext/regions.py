"""Regions of interest, forwards and backwards. Gradients by the maps do not depend on the maps' values (means) or only
on the cells that the forward pass has noted (RoIPool), so that mmcv need not keep the maps; nor does this."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from bev.ops import roi_align_rotated
from bev.ops.roi_align import roi_align
from bev.ops.roi_pool import roi_pool_backward as pool_backward
from bev.ops.roi_pool import roi_pool_with_source
from projects.mmdet3d.ext.gradients import pull_back
from projects.mmdet3d.ext.missing import NotProvided

__all__ = [
    *("roi_align_forward", "roi_align_backward", "roi_align_rotated_forward", "roi_align_rotated_backward"),
    *("roi_pool_forward", "roi_pool_backward"),
]


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the pooled regions (M, C, h, w) into ``output``; ``pool_mode`` 0: largest sample, 1: mean."""
    size = aligned_height, aligned_width
    mode = "avg" if pool_mode else "max"
    output.copy_(roi_align(input, rois, size, spatial_scale, sampling_ratio, mode, aligned))  # type: ignore[arg-type]


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the maps' gradient to ``grad_input``.

    Raises:
        NotProvided: the largest sample was asked for.
    """
    if not pool_mode:
        raise NotProvided("mmcv._ext.roi_align_backward is provided for pool_mode 'avg' alone, not for 'max'")
    size = aligned_height, aligned_width
    pool = partial(
        roi_align,
        rois_px=rois,
        output_size=size,
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    grad_input.add_(pull_back(pool, (grad_input,), grad_output)[0])


def roi_align_rotated_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> None:
    """Write the means of turned regions (M, C, h, w) into ``output``."""
    size = pooled_height, pooled_width
    output.copy_(roi_align_rotated(input, rois, size, spatial_scale, sampling_ratio, "avg", aligned, clockwise))


def roi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> None:
    """Add the maps' gradient to ``grad_input``."""
    pool = partial(
        roi_align_rotated,
        rois_px=rois,
        output_size=(pooled_height, pooled_width),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
        clockwise=clockwise,
    )
    grad_input.add_(pull_back(pool, (grad_input,), grad_output)[0])


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the largest cell of every bin into ``output`` and which one it is into ``argmax``, both (M, C, h, w)."""
    pooled, source = roi_pool_with_source(input, rois, pooled_height, pooled_width, spatial_scale)
    output.copy_(pooled)
    argmax.copy_(source)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add the maps' gradient to ``grad_input``."""
    grad_input.add_(pool_backward(grad_output, argmax.long(), grad_input, rois))
