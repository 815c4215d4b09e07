"""What a detector computes on its way: depth distributions, bird's-eye-view features, and where its queries look.

A detector is not changed for it: hooks note what passes its modules. The three families of this library are known: lift
and splat (LSS, BEVDet, BEVDepth), DETR3D and BEVFormer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.frustum import frustum_points
from bev.geometry.projection import in_image, project
from bev.models.attention.camera_cross_attention import CameraCrossAttention
from bev.models.attention.spatial_cross_attention import SpatialCrossAttention
from bev.models.heads.bevformer_encoder import BEVFormerEncoder
from bev.models.heads.center_head import CenterHead
from bev.models.view.lift_splat import LiftSplatOutput
from bev.structures import Batch, CameraRig
from bev.viz.scene import Array

# Pixels whose lifted points fall this near to the chosen place are where lift and splat looks for it.
_REACH_M = 1.0


@dataclass(frozen=True, eq=False)
class Looks:
    """Where a model looks for one place of the scene.

    Attributes:
        xyz_m: (K, 3) reference points.
        pixels_px: N times (S, 2) network px.
        weight: N times (S,), not scaled.
        name: what they are, in words.
    """

    xyz_m: Array
    pixels_px: tuple[Array, ...]
    weight: tuple[Array, ...]
    name: str


@dataclass(frozen=True, eq=False)
class Insight:
    """What was noted of one frame, on the CPU; None for what the model has not got.

    Attributes:
        depth_m: (N, h, w) mean of the depth distribution of every feature pixel.
        depth_range_m: of the depth bins.
        bev: (Y, X) length of every cell's feature vector.
        x_m, y_m: (low, high) of that grid.
        looks: for the chosen place.
        rig: without batch axis, at network size.
    """

    rig: CameraRig
    depth_m: NDArray[np.float32] | None = None
    depth_range_m: tuple[float, float] = (0.0, 1.0)
    bev: NDArray[np.float32] | None = None
    x_m: tuple[float, float] = (0.0, 1.0)
    y_m: tuple[float, float] = (0.0, 1.0)
    looks: Looks | None = None


@dataclass
class Recorder:
    """Notes what passes through the modules of every detector that runs while it is entered.

    Args:
        place_m: (x, y) in the reference frame, whose query is looked at; None for none.
    """

    place_m: tuple[float, float] | None = None
    _calls: list[tuple[nn.Module, tuple[Any, ...], Any]] = field(default_factory=list)
    _handle: Any = None

    def __enter__(self) -> Recorder:
        self._handle = register_module_forward_hook(self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._handle.remove()

    def _note(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        known = (CameraCrossAttention, SpatialCrossAttention, CenterHead, BEVFormerEncoder)
        if isinstance(module, known) or isinstance(output, LiftSplatOutput):
            self._calls.append((module, arguments, output))

    def take(self, batch: Batch) -> list[Insight]:
        """What was noted since the last call, for each frame of the batch that was predicted meanwhile."""
        calls, self._calls = self._calls, []
        with torch.no_grad():
            return [self._insight(calls, batch, i) for i in range(len(batch))]

    def _insight(self, calls: list[tuple[nn.Module, tuple[Any, ...], Any]], batch: Batch, i: int) -> Insight:
        rig = batch.rig
        found: dict[str, Any] = {"rig": _of_frame(rig, i)}
        # The present frame is lifted first, before its mirror image and earlier frames; attention reads it last.
        lifted = next(((m, o) for m, _, o in calls if isinstance(o, LiftSplatOutput)), None)
        if lifted is not None:
            found |= _lifted(*lifted, rig, i, self.place_m)
        if (head := next((a for m, a, _ in calls if isinstance(m, CenterHead)), None)) is not None:
            bev = head[0][i].float()
            found["bev"] = bev.norm(dim=0).cpu().numpy()
        looks: tuple[tuple[type, Callable[..., Looks | None]], ...] = (
            (CameraCrossAttention, _camera_looks),
            (SpatialCrossAttention, _pillar_looks),
        )
        encoder = next((m for m, _, _ in reversed(calls) if isinstance(m, BEVFormerEncoder)), None)
        for kind, look in looks:
            passed = [(m, a) for m, a, _ in calls if isinstance(m, kind)]
            if passed and self.place_m is not None:
                found["looks"] = look(passed, rig, i, self.place_m, encoder)
        if encoder is not None:
            found |= _encoded(encoder, next(o for m, _, o in reversed(calls) if m is encoder), i)
        return Insight(**found)


def _of_frame(rig: CameraRig, i: int) -> CameraRig:
    rig = rig.to("cpu")
    return CameraRig(
        rig.intrinsics[i], rig.cam_from_ref[i], rig.image_aug[i], rig.image_size_px, rig.names, rig.timestamp_us[i]
    )


def _lifted(
    module: Any, output: LiftSplatOutput, rig: CameraRig, i: int, place_m: tuple[float, float] | None
) -> dict[str, Any]:
    """Depths and, for a place, the pixels that are lifted to it with their probabilities."""
    grid: BEVGrid = module.grid
    found: dict[str, Any] = {"x_m": grid.x_m[:2], "y_m": grid.y_m[:2], "bev": output.bev[i].float().norm(dim=0).cpu()}
    found["bev"] = found["bev"].numpy()
    if output.depth_logits is None or not hasattr(module, "depth_bins"):
        return found
    depth = output.depth_logits[i].float().softmax(-1)
    centers = module.depth_bins.centers_m().to(depth)
    found["depth_m"] = (depth @ centers).cpu().numpy()
    found["depth_range_m"] = (float(centers[0]), float(centers[-1]))
    if place_m is not None:
        points = frustum_points(rig, centers, module.stride_px)[i]
        near = (points[..., :2] - points.new_tensor(place_m)).norm(dim=-1) < _REACH_M
        weight = (depth * near).sum(-1)
        looks = [_pixels(weight[n], module.stride_px) for n in range(len(weight))]
        pixels, weights = zip(*looks)
        xyz = np.array([[*place_m, 0.0]])
        found["looks"] = Looks(xyz, pixels, weights, "pixels that are lifted here, by probability")
    return found


def _pixels(weight: Tensor, stride_px: int) -> tuple[Array, Array]:
    """(h, w) weights -> the places and weights of feature pixels that have more than nothing."""
    row, column = torch.nonzero(weight > 1e-3, as_tuple=True)
    places = (torch.stack([column, row], -1).double() + 0.5) * stride_px
    return places.cpu().numpy(), weight[row, column].double().cpu().numpy()


def _camera_looks(
    passed: list[tuple[Any, tuple[Any, ...]]], rig: CameraRig, i: int, place_m: tuple[float, float], _: Any
) -> Looks:
    """DETR3D: the query whose last reference point is nearest to the place; its points in all layers and cameras."""
    layers = list({id(module): (module, arguments) for module, arguments in passed}.values())
    metric = [module.range.to_metric(arguments[2][i].float()) for module, arguments in layers]
    chosen = int((metric[-1][:, :2] - metric[-1].new_tensor(place_m)).norm(dim=-1).argmin())
    module, (query, query_pos, *_rest) = layers[-1]
    raw = module.attention_weights(query[i, chosen] + query_pos[i, chosen]).float()
    weight = raw.unflatten(-1, module.weights_shape).sigmoid().sum((1, 2))
    points = torch.stack([m[chosen] for m in metric])
    pixels_px, depth_m = project(points, rig.img_from_ref[i])
    seen = in_image(pixels_px, depth_m, rig.image_size_px)
    # The last layer's point counts as the attention says; earlier layers show the way it went.
    share = torch.linspace(0.1, 1.0, len(points), device=weight.device) ** 2
    pixels = tuple(pixels_px[n, seen[n]].double().cpu().numpy() for n in range(len(seen)))
    weights = tuple((weight[n] * share[seen[n]]).double().cpu().numpy() for n in range(len(seen)))
    return Looks(points.double().cpu().numpy(), pixels, weights, f"reference points of query {chosen}, layer by layer")


def _pillar_looks(
    passed: list[tuple[Any, tuple[Any, ...]]], rig: CameraRig, i: int, place_m: tuple[float, float], encoder: Any
) -> Looks:
    """BEVFormer: what the cell at the place samples in the cameras that see its pillar, in the last layer."""
    module, (query, tokens, pillars) = passed[-1]
    points_m = encoder.pillars_m  # (Q, D, 3)
    cell = int((points_m[:, 0, :2] - points_m.new_tensor(place_m)).norm(dim=-1).argmin())
    (samples,) = module.deformable_attention.samples(query[i : i + 1, cell : cell + 1], tokens.shapes)
    height, width = rig.image_size_px
    pixels, weights = [], []
    for n in range(pillars.points.shape[1]):
        points = pillars.points[i, n, cell]  # (D, 2)
        offset = samples.offset[0, 0].unflatten(-2, (-1, points.shape[0]))  # sample p belongs to point p mod D
        where = (offset + points).flatten(0, -2) * points.new_tensor([width, height])
        seen = bool(pillars.visible[i, n, cell].any())
        pixels.append((where if seen else where[:0]).double().cpu().numpy())
        weight = samples.weight[0, 0].flatten()
        weights.append((weight if seen else weight[:0]).double().cpu().numpy())
    name = "samples of the cell's query, by attention"
    return Looks(points_m[cell].double().cpu().numpy(), tuple(pixels), tuple(weights), name)


def _encoded(encoder: Any, output: Tensor, i: int) -> dict[str, Any]:
    """BEVFormer's grid: length of every cell's vector."""
    rows, columns = encoder.bev_shape
    low_x, low_y, _, high_x, high_y, _ = encoder.range_m
    bev = output[i].float().norm(dim=-1).reshape(rows, columns).cpu().numpy()
    return {"bev": bev, "x_m": (low_x, high_x), "y_m": (low_y, high_y)}
