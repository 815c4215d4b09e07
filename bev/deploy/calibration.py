"""What a graph is told of the cameras, and how it is computed from a rig on the host.

No inverse, no float64 and no sort belongs into an exported graph, so a model's geometry comes in ready-made: matrices
rounded once, and for lift-splat the tables of :mod:`bev.ops.pool_tables`. The same tensors are constants of the graph
where the calibration is baked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn

from bev.deploy.facts import CalibrationSpec
from bev.geometry.bev_grid import BEVGrid
from bev.geometry.frustum import DepthBins, frustum_points
from bev.geometry.mirror import mirror_cameras
from bev.models.view.bevdet_depth_view import BEVDetDepthView, sensor_numbers
from bev.models.view.depth_net import DepthNet, camera_numbers
from bev.models.view.lift_splat import Splat
from bev.models.view.published_lift import PublishedLiftSplat
from bev.ops.bev_pool import PoolRuns, plan_pool
from bev.ops.exporting import plugins_asked
from bev.ops.pool_tables import PoolTables, pool_tables
from bev.structures import CameraRig

POOL = ("pool_points", "pool_partial", "pool_rest", "pool_cells")
RUNS = ("pool_order", "pool_offsets")  # instead of them, in graphs with plugins
MIRRORED = "mirrored_"


class GraphRig:
    """Stands in for a :class:`CameraRig` inside a graph; has what was computed before, and nothing to compute it from.

    Args:
        given: facts by name, see :func:`facts_of`.
        rows: rows of features that one set of pooling tables tells of; None for all (see ``PoolTables``).

    Attributes:
        used: names of the facts that were asked for.
    """

    def __init__(
        self, given: Mapping[str, Tensor], names: tuple[str, ...], image_size_px: tuple[int, int], rows: int | None
    ) -> None:
        self.names, self.image_size_px, self.num_cameras = names, image_size_px, len(names)
        self._given, self._rows = given, rows
        self.used: set[str] = set()

    @property
    def device(self) -> torch.device:
        """Of the facts that were given."""
        return next(iter(self._given.values())).device

    @property
    def img_from_ref(self) -> Tensor:
        """As :attr:`CameraRig.img_from_ref`, from the graph's input."""
        return self._fact("img_from_ref")

    @property
    def ref_from_img(self) -> Tensor:
        """As :attr:`CameraRig.ref_from_img`, from the graph's input."""
        return self._fact("ref_from_img")

    @property
    def focal_px(self) -> Tensor:
        return self._fact("focal_px")

    @property
    def sensor_numbers(self) -> Tensor:
        return self._fact("sensor_numbers").flatten(0, 1)

    @property
    def camera_numbers(self) -> Tensor:
        """The intrinsics and extrinsics that a depth network reads, one row a camera."""
        return self._fact("camera_numbers").flatten(0, 1)

    @property
    def pool(self) -> PoolTables | PoolRuns:
        """Where lifted pixels fall: tables for plain operators, runs for the plugin where plugins are asked for."""
        if plugins_asked():
            return PoolRuns(self._fact(RUNS[0]), self._fact(RUNS[1]), self._rows)
        points, partial, rest, cells = (self._fact(name) for name in POOL)
        return PoolTables(points, partial, rest, cells.flatten(), self._rows)

    def as_rig(self) -> CameraRig:
        """Itself, for functions that take a rig; whatever a graph cannot compute is an AttributeError there."""
        return cast(CameraRig, self)

    def _fact(self, name: str) -> Tensor:
        self.used.add(name)
        return self._given[name]


def spec_of(model: nn.Module, rig: CameraRig) -> CalibrationSpec:
    """What :func:`facts_of` needs to know of a detector.

    Raises:
        ValueError: a view transform that the checkpoint gave another frustum than its configuration.
    """
    view = _view_of(model)
    pool = None if view is None else _pool_of(view)
    return CalibrationSpec(rig.names, _size(rig.image_size_px), pool, getattr(model, "mirror_test", None))


def _view_of(model: nn.Module) -> nn.Module | None:
    """The part of a detector that pools lifted pixels into a grid, in BEVFormer what its queries may begin with."""
    view = getattr(model, "img_view_transformer", None)
    return getattr(getattr(model, "pts_bbox_head", None), "lifted", None) if view is None else view


def _size(size_px: tuple[int, int]) -> tuple[int, int]:
    return int(size_px[0]), int(size_px[1])


def _pool_of(view: nn.Module) -> dict[str, Any]:
    if isinstance(view, Splat):
        return {"depth_m": view.depth_m.tolist(), "grid": asdict(view.grid), "stride_px": view.stride_px}
    if not isinstance(view, PublishedLiftSplat):
        raise ValueError(f"view transform {type(view).__name__} has no export form")
    stored = dict(view.named_buffers()).get("frustum")
    if stored is not None and not torch.equal(stored[..., :3].cpu(), view.published_frustum()):
        raise ValueError("the checkpoint's frustum is not the one of the configuration: depth bins or size differ")
    return {
        "edges_m": list(view.depth_bins.edges_m),
        "grid": asdict(view.grid),
        "stride_px": view.stride_px,
        "compat": view.compat,
        "sensor_numbers": isinstance(view, BEVDetDepthView),
    }


def facts_of(rig: CameraRig, spec: CalibrationSpec, per_frame: bool = False) -> dict[str, Tensor]:
    """Everything a graph may ask of a rig.

    Args:
        rig: with batch axis B.
        spec: of the graph.
        per_frame: pooling tables of the first frame alone, for graphs whose calibration is baked.

    Returns:
        float32 ``img_from_ref``, ``ref_from_img`` (B, N, 4, 4), ``focal_px`` (B, N, 2), ``camera_numbers`` (B, N, 27)
        and, where the view transform is told them, ``sensor_numbers`` (B, N, 33); int64 tables ``pool_*``, of which
        ``pool_cells`` is (B, G), and int32 ``pool_order``, ``pool_offsets``, one of which sets a graph reads; all of
        these of the mirror image, too, where the graph sees it.

    Raises:
        ValueError: another rig than the graph is made for.
    """
    spec.check(rig)
    facts = _facts(rig, spec, per_frame)
    if spec.mirror is not None:
        batch = len(rig.cam_from_ref)
        nothing = torch.zeros(batch, rig.num_cameras, 1, 1, 1, device=rig.device)
        mirrored = mirror_cameras(nothing, rig, spec.mirror)[1]  # type: ignore[arg-type]
        facts |= {MIRRORED + name: value for name, value in _facts(mirrored, spec, per_frame).items()}
    return facts


def _facts(rig: CameraRig, spec: CalibrationSpec, per_frame: bool) -> dict[str, Tensor]:
    facts = {
        "img_from_ref": rig.img_from_ref,
        "ref_from_img": rig.ref_from_img,
        "focal_px": rig.focal_px,
        "camera_numbers": camera_numbers(rig).unflatten(0, (-1, rig.num_cameras)),
    }
    if spec.pool is None:
        return facts
    if spec.pool.get("sensor_numbers"):
        facts["sensor_numbers"] = sensor_numbers(rig).float().unflatten(0, (-1, rig.num_cameras))
    cell, inside = _cells(rig, spec.pool)
    if per_frame:
        cell, inside = cell[:1], inside[:1]
    grid = BEVGrid(**spec.pool["grid"])
    count = grid.shape[0] * grid.shape[1] * grid.shape[2]
    shift = torch.arange(len(cell), device=cell.device).view(-1, 1, 1, 1, 1) * count
    plan = plan_pool((cell + shift).flatten(0, 3), inside.flatten(0, 3), len(cell) * count)
    points, partial, rest, cells, _ = pool_tables(*plan[:3])
    runs = dict(zip(RUNS, (plan.order.int(), plan.offsets.int())))
    return {**facts, **dict(zip(POOL, (points, partial, rest, cells.view(-1, count)))), **runs}


def _cells(rig: CameraRig, pool: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """(B, N, H, W, D) flat cell of every frustum point, and whether it is inside the grid."""
    grid = BEVGrid(**{axis: tuple(values) for axis, values in pool["grid"].items()})
    if "depth_m" in pool:
        depth_m = torch.tensor(pool["depth_m"], dtype=torch.float32, device=rig.device)
        return grid.flat_index(frustum_points(rig, depth_m, int(pool["stride_px"])))
    bins = DepthBins(tuple(pool["edges_m"]))
    view = PublishedLiftSplat(1, bins, grid, int(pool["stride_px"]), rig.image_size_px, pool["compat"])
    cell, inside = view.cells(rig)
    return cell.permute(0, 1, 3, 4, 2), inside.permute(0, 1, 3, 4, 2)


def tell(model: nn.Module) -> None:
    """Let a detector (a copy of its own for the graph) take its geometry from a :class:`GraphRig`."""
    view: Any = _view_of(model)
    if view is None:
        return
    view.plan = _given_pool
    if isinstance(view, BEVDetDepthView):
        view.told = _given_numbers  # type: ignore[method-assign, assignment]
    for name, part in list(view.named_children()):
        if isinstance(part, DepthNet):
            setattr(view, name, _ToldDepthNet(part))


def _given_pool(rig: GraphRig) -> PoolTables | PoolRuns:
    return rig.pool


def _given_numbers(rig: GraphRig) -> Tensor:
    return rig.sensor_numbers


class _ToldDepthNet(nn.Module):
    """A depth network that is given the cameras' numbers."""

    def __init__(self, net: DepthNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor, rig: GraphRig) -> Tensor:
        return self.net.estimate(features, rig.camera_numbers)
