"""Camera feature sampling from points in the reference frame: projection and visibility test are folded in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bev.geometry.projection import MIN_DEPTH_M, in_image, project
from bev.ops.camera_sampling import _backward_bags, camera_sampling
from bev.ops.exporting import is_exporting, plugin_node, wants_plugins
from bev.ops.triton import takes


def projected_sampling(
    features: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
    points_m: Tensor,  # (B, Q, P, 3)
    img_from_ref: Tensor,  # (B, N, 4, 4)
    weights: Tensor,  # (B, Q, N, P, L)
    image_size_px: tuple[int, int],
) -> Tensor:
    """Sum of bilinear samples where points are seen, over cameras, points and levels.

    Args:
        features: feature maps of each level, covering the whole image, of one float dtype; fastest where channels_last.
        points_m: in the reference frame, m.
        img_from_ref: as ``CameraRig.img_from_ref``.
        weights: weight of each sample, float32.
        image_size_px: (H, W) of the network's image, padding included.

    Returns:
        (B, Q, C) float32. Differentiable (once) with respect to features, points and weights. On a GPU the gradient of
        the features is summed in no fixed order.

    Raises:
        ValueError: the shapes disagree, or the matrices require a gradient, which there is none of.

    Reference: Wang et al., DETR3D (CoRL 2021), equations 4 to 7. A point is seen where its depth is above 1e-5 m and
    its pixel strictly inside the image.
    """
    _check(features, points_m, img_from_ref, weights)
    points_m, img_from_ref, weights = points_m.float(), img_from_ref.float(), weights.float()
    if wants_plugins():
        shape = (points_m.shape[0], points_m.shape[1], features[0].shape[2])
        sizes = {"image_height": image_size_px[0], "image_width": image_size_px[1]}
        inputs = [*features, points_m, img_from_ref, weights]
        return plugin_node(f"camera_sampling_{len(features)}", inputs, sizes, shape, points_m)
    if takes(points_m.device) and not is_exporting():
        return _projected(list(features), points_m, img_from_ref, weights, *image_size_px)
    return _composed(features, points_m, img_from_ref, weights, image_size_px)


def _check(features: Sequence[Tensor], points_m: Tensor, img_from_ref: Tensor, weights: Tensor) -> None:
    b, n = img_from_ref.shape[:2]
    expected = (b, points_m.shape[1], n, points_m.shape[2], len(features))
    if points_m.shape[0] != b or points_m.shape[-1] != 3 or tuple(weights.shape) != expected:
        raise ValueError(
            f"projected_sampling: points {tuple(points_m.shape)} and weights {tuple(weights.shape)} should be "
            f"({b}, Q, P, 3) and (B, Q, {n}, P, {len(features)})"
        )
    for level, feature in enumerate(features):
        if feature.ndim != 5 or tuple(feature.shape[:3]) != (b, n, features[0].shape[2]):
            raise ValueError(
                f"projected_sampling: features[{level}] has shape {tuple(feature.shape)}, expected ({b}, {n}, C, H, W)"
            )
    if img_from_ref.requires_grad and torch.is_grad_enabled():
        raise ValueError("projected_sampling: there is no gradient of img_from_ref; use project and camera_sampling")


def _composed(
    features: Sequence[Tensor],
    points_m: Tensor,
    img_from_ref: Tensor,
    weights: Tensor,
    image_size_px: tuple[int, int],
) -> Tensor:
    """The plain form: pixels and visibility are tensors of their own. The oracle of the tests."""
    count = points_m.shape[1:3]
    pixels_px, depth_m = project(points_m.flatten(1, 2), img_from_ref)
    visible = in_image(pixels_px, depth_m, image_size_px)
    pixels_px, visible = pixels_px.unflatten(2, count), visible.unflatten(2, count)
    return camera_sampling(features, pixels_px, visible, weights, image_size_px)


@torch.library.custom_op("bev::projected_sampling", mutates_args=())
def _projected(
    features: Sequence[Tensor], points_m: Tensor, img_from_ref: Tensor, weights: Tensor, height: int, width: int
) -> Tensor:
    if 0 in (weights.numel(), *(feature.numel() for feature in features)):
        return points_m.new_zeros(*points_m.shape[:2], features[0].shape[2])
    if takes(points_m.device):
        from bev.ops.triton import camera_sampling as kernels

        return kernels.forward(features, points_m, img_from_ref, weights, (height, width), project=True)
    return _composed(features, points_m, img_from_ref, weights, (height, width))


@_projected.register_fake
def _(
    features: Sequence[Tensor], points_m: Tensor, img_from_ref: Tensor, weights: Tensor, height: int, width: int
) -> Tensor:
    return points_m.new_empty(*points_m.shape[:2], features[0].shape[2])


@torch.library.custom_op("bev::projected_sampling_backward", mutates_args=())
def _projected_backward(
    grad: Tensor,
    features: Sequence[Tensor],
    points_m: Tensor,
    img_from_ref: Tensor,
    weights: Tensor,
    height: int,
    width: int,
) -> list[Tensor]:
    """Gradients of each feature map (laid out channels_last), then of the points, then of the weights."""
    leaves = [*features, points_m, weights]
    if 0 in (x.numel() for x in leaves):
        maps = [_like(feature).zero_() for feature in features]
        return [*maps, torch.zeros_like(points_m), torch.zeros_like(weights)]
    if takes(points_m.device):
        from bev.ops.triton import camera_sampling as kernels

        return kernels.backward(grad, features, points_m, img_from_ref, weights, (height, width), project=True)
    return _composed_backward(grad, features, points_m, img_from_ref, weights, height, width)


def _composed_backward(
    grad: Tensor,
    features: Sequence[Tensor],
    points_m: Tensor,
    img_from_ref: Tensor,
    weights: Tensor,
    height: int,
    width: int,
) -> list[Tensor]:
    """Through the gradient at the pixels; written out, for autograd does not reach into an operator."""
    count = points_m.shape[1:3]
    pixels_px, depth_m = project(points_m.flatten(1, 2), img_from_ref)
    visible = in_image(pixels_px, depth_m, (height, width)).unflatten(2, count)
    pixels = pixels_px.unflatten(2, count)
    *maps, by_pixels, by_weights = _backward_bags(grad, features, pixels, visible, weights, height, width)
    by_pixels, pixels_px = by_pixels.flatten(2, 3), pixels_px.masked_fill(by_pixels.flatten(2, 3) == 0, 0.0)
    # u = first / depth: a step of the first row moves it by 1 / depth, a step of the third by -u / depth.
    by_rows = torch.cat([by_pixels, -(by_pixels * pixels_px).sum(-1, keepdim=True)], -1)
    by_rows = by_rows / depth_m.clamp(min=MIN_DEPTH_M).unsqueeze(-1)
    by_points = (by_rows @ img_from_ref[:, :, :3, :3]).sum(1)
    return [*maps, by_points.unflatten(1, count).contiguous(), by_weights]


def _like(feature: Tensor) -> Tensor:
    """Empty, of the shape of (B, N, C, H, W) maps, laid out channels_last."""
    b, n, c, h, w = feature.shape
    return feature.new_empty(b, n, h, w, c).permute(0, 1, 4, 2, 3)


@_projected_backward.register_fake
def _(
    grad: Tensor,
    features: Sequence[Tensor],
    points_m: Tensor,
    img_from_ref: Tensor,
    weights: Tensor,
    height: int,
    width: int,
) -> list[Tensor]:
    return [*map(_like, features), points_m.new_empty(points_m.shape), weights.new_empty(weights.shape)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, points_m, img_from_ref, weights, ctx.height, ctx.width = inputs
    ctx.save_for_backward(*features, points_m, img_from_ref, weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    *features, points_m, img_from_ref, weights = ctx.saved_tensors
    *maps, by_points, by_weights = _projected_backward(
        grad.contiguous(), features, points_m, img_from_ref, weights, ctx.height, ctx.width
    )
    return maps, by_points, None, by_weights, None, None


_projected.register_autograd(_backward, setup_context=_setup_context)
