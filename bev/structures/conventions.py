"""Foreign frames, orders and box codes: the only place that knows them.

Every convention converts to or from :class:`Boxes3D` (gravity centre; length, width, height; heading counter-clockwise
from +x). The foreign ones:

=================  ==========================================================================================
``mmdet3d_v1``     mmdet3d >= 1.0 in the LiDAR frame: x, y, z, l, w, h, yaw [, vx, vy]; z of the bottom face in its box
                   class, of the centre in its info files
``mmdet3d_v0``     mmdet3d < 1.0 (detr3d, BEVFormer, BEVDet master): x, y, z, w, l, h, -yaw - pi/2 [, vx, vy]
``detr``           regression target of DETR3D, BEVFormer, PETR: cx, cy, log l, log w, cz, log h, sin, cos, vx, vy with
                   ``mmdet3d_v1`` numbers; ``legacy=True`` with ``mmdet3d_v0`` numbers (w before l, old yaw)
nuScenes           global frame, size as w, l, h, quaternion w, x, y, z
=================  ==========================================================================================

Reading one as another is silent except in the scores: mASE about .75 with mAOE above 1.2 is its fingerprint.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from bev.structures.boxes3d import Boxes3D, Frame

# Order of the labels in every published nuScenes camera detector.
CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)

# nuScenes category -> detection class; categories that are not listed are not part of the detection task.
CLASS_OF_CATEGORY = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.construction": "construction_vehicle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "movable_object.barrier": "barrier",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
}

ATTRIBUTES = (
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)

# The camera's index is baked into DETR3D's and BEVFormer's learned weights.
CAMERAS_DETR3D = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
CAMERAS_BEVDET = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")

BoxConvention = Literal["mmdet3d_v1", "mmdet3d_v0"]

_DEFAULT_ATTRIBUTE = {
    "car": "vehicle.parked",
    "truck": "vehicle.parked",
    "trailer": "vehicle.parked",
    "construction_vehicle": "vehicle.parked",
    "bus": "vehicle.moving",
    "pedestrian": "pedestrian.moving",
    "motorcycle": "cycle.without_rider",
    "bicycle": "cycle.without_rider",
    "barrier": "",
    "traffic_cone": "",
}
_VEHICLES = ("car", "construction_vehicle", "bus", "truck", "trailer")
_MOVING_SPEED_MPS = 0.2


def default_attribute(class_name: str, speed_mps: float) -> str:
    """Attribute name of a box from its class and speed, by the rule of the published camera detectors.

    Above 0.2 m/s vehicles move and cycles have riders; below it pedestrians stand and buses are stopped; otherwise
    the class's most frequent attribute. Empty for barriers and cones, which have none.
    """
    if speed_mps > _MOVING_SPEED_MPS:
        if class_name in _VEHICLES:
            return "vehicle.moving"
        if class_name in ("bicycle", "motorcycle"):
            return "cycle.with_rider"
    elif class_name == "pedestrian":
        return "pedestrian.standing"
    elif class_name == "bus":
        return "vehicle.stopped"
    return _DEFAULT_ATTRIBUTE[class_name]


def old_yaw(yaw_rad: Tensor) -> Tensor:
    """Heading -> yaw of mmdet3d < 1.0 and back (the map is its own inverse), in [-pi, pi)."""
    return (-yaw_rad - math.pi / 2 + math.pi) % (2 * math.pi) - math.pi


def boxes_to_array(boxes: Boxes3D, convention: BoxConvention, z: Literal["center", "bottom"]) -> Tensor:
    """Boxes of the LiDAR frame -> (M, 9) array of mmdet3d: x, y, z, three sizes, yaw, vx, vy.

    Args:
        boxes: any frame; no frame change is made.
        convention: ``mmdet3d_v1`` (l, w, h, yaw) or ``mmdet3d_v0`` (w, l, h, -yaw - pi/2).
        z: height of the centre (info files) or of the bottom face (``LiDARInstance3DBoxes``).
    """
    size, yaw = boxes.size_m, boxes.yaw_rad
    if convention == "mmdet3d_v0":
        size, yaw = size[:, [1, 0, 2]], old_yaw(yaw)
    height = boxes.center_m[:, 2:] - (boxes.size_m[:, 2:] / 2 if z == "bottom" else 0)
    return torch.cat([boxes.center_m[:, :2], height, size, yaw[:, None], boxes.velocity_mps], -1)


def boxes_from_array(
    array: Tensor,
    label: Tensor,
    convention: BoxConvention,
    z: Literal["center", "bottom"],
    score: Tensor | None = None,
    frame: Frame = "lidar",
) -> Boxes3D:
    """Inverse of :func:`boxes_to_array`; (M, 7) arrays have unknown (NaN) velocity.

    Raises:
        ValueError: the array is not (M, 7) or (M, 9).
    """
    if array.ndim != 2 or array.shape[1] not in (7, 9):
        raise ValueError(f"box array has shape {tuple(array.shape)}, expected (M, 7) or (M, 9)")
    size, yaw = array[:, 3:6], array[:, 6]
    if convention == "mmdet3d_v0":
        size, yaw = size[:, [1, 0, 2]], old_yaw(yaw)
    lift = size[:, 2:] / 2 if z == "bottom" else torch.zeros_like(size[:, 2:])
    velocity = array[:, 7:9] if array.shape[1] == 9 else torch.full_like(array[:, :2], math.nan)
    return Boxes3D(
        torch.cat([array[:, :2], array[:, 2:3] + lift], -1),
        size,
        yaw,
        velocity,
        label.long(),
        torch.ones_like(yaw) if score is None else score,
        frame,
    )


def encode_detr(boxes: Boxes3D, legacy: bool = False) -> Tensor:
    """Boxes -> (M, 10) code cx, cy, log l, log w, cz, log h, sin, cos, vx, vy (m, rad, m/s); see the module's table."""
    array = boxes_to_array(boxes, "mmdet3d_v0" if legacy else "mmdet3d_v1", z="center")
    x, y, height, first, second, tall, yaw, vx, vy = array.unbind(-1)
    return torch.stack([x, y, first.log(), second.log(), height, tall.log(), yaw.sin(), yaw.cos(), vx, vy], -1)


def decode_detr(code: Tensor, label: Tensor, score: Tensor, frame: Frame = "lidar", legacy: bool = False) -> Boxes3D:
    """Inverse of :func:`encode_detr` for (M, 10) codes, or (M, 8) without velocity."""
    yaw = torch.atan2(code[:, 6], code[:, 7])
    array = torch.cat(
        [code[:, 0:2], code[:, 4:5], code[:, 2:4].exp(), code[:, 5:6].exp(), yaw[:, None], code[:, 8:10]], -1
    )
    return boxes_from_array(array, label, "mmdet3d_v0" if legacy else "mmdet3d_v1", "center", score, frame)


def convert_detr_branch(weight: Tensor, size_rows: tuple[int, int] = (2, 3)) -> Tensor:
    """Last linear layer of a DETR3D-type regression branch, legacy code <-> present code (its own inverse).

    Args:
        weight: (10, C) weight or (10,) bias. Rows of the ground-plane sizes swap; rows 6, 7 (sin, cos) swap and change
            sign.
        size_rows: of log length and log width; StreamPETR's code, whose cz is third, has them at (3, 4).
    """
    converted = weight.clone()
    first, second = size_rows
    converted[[first, second]] = weight[[second, first]]
    converted[[6, 7]] = -weight[[7, 6]]
    return converted


def convert_center_branch(part: str, weight: Tensor) -> Tensor:
    """Last convolution of a CenterPoint branch, legacy code <-> present code (its own inverse).

    Args:
        part: name of the branch: ``dim`` (3, ...) has its first two rows swapped, ``rot`` (2, ...: sin, cos) both, with
            changed sign; any other is returned as it is.
        weight: the convolution's weight or bias.
    """
    if part == "dim":
        return weight[[1, 0, 2]]
    return -weight[[1, 0]] if part == "rot" else weight
