"""A frame as a three-dimensional scene: range rings, points by height, boxes with headings, velocities, the vehicle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bev.structures import CameraRig, Sample
from bev.viz.cameras import EDGES, dash
from bev.viz.options import DrawOptions
from bev.viz.overlay import NOTHING, Marks, Overlay, Raster, Track
from bev.viz.palette import EGO, GRID, GROUND, INK, MARK, PAGE, Color, class_color
from bev.viz.point_colors import point_colors
from bev.viz.scene import (
    Array,
    Camera,
    Label,
    Layer,
    Mesh,
    Points,
    Scene,
    beams,
    carpet,
    hexahedra,
    join,
    ring,
    triangles,
)
from bev.viz.style import BoxLayer

# A line of the bird's-eye view, as a part of the range: about one and a half pixels of the usual picture.
_LINE = 1 / 300
_MIN_SPEED_MPS = 0.5
# Outline of a small hatchback, the vehicle of nuScenes; m.
EGO_SIZE_M = (4.08, 1.73, 1.56)


class RefFrame(NamedTuple):
    """Where the vehicle is in a reference frame: forward direction, its middle ahead of the origin, the ground; m."""

    forward_xy: tuple[float, float]
    middle_m: float
    ground_m: float


# The roof LiDAR of nuScenes stands 0.94 m before and 1.84 m above the rear axle's ground point, the ego origin.
REF_FRAMES = {"lidar": RefFrame((0.0, 1.0), 0.44, -1.84), "ego": RefFrame((1.0, 0.0), 1.38, 0.0)}


def ref_frame(sample: Sample) -> RefFrame:
    """Reference frame of a sample: said by its boxes or points, else seen from where the front camera looks.

    Where no camera is named so, from their height: above the ground in the ego frame, about the LiDAR's in its own.
    """
    for part in (sample.boxes, sample.points):
        if part is not None and part.frame in REF_FRAMES:
            return REF_FRAMES[part.frame]
    if not any("FRONT" in name.upper() for name in sample.rig.names):
        height_m = torch.linalg.inv(sample.rig.cam_from_ref.double())[..., 2, 3].mean()
        return REF_FRAMES["ego" if float(height_m) > 0.5 else "lidar"]
    axis = _optical_axes(sample.rig)[_front_camera(sample.rig)]
    return REF_FRAMES["lidar" if abs(axis[1]) > abs(axis[0]) else "ego"]


def _front_camera(rig: CameraRig) -> int:
    front = [i for i, name in enumerate(rig.names) if "FRONT" in name.upper()]
    return min(front, key=lambda i: len(rig.names[i])) if front else 0


def _optical_axes(rig: CameraRig) -> NDArray[np.float64]:
    """(N, 3) viewing directions in the reference frame."""
    return rig.cam_from_ref[..., 2, :3].double().cpu().numpy()


def camera_rows(rig: CameraRig, forward_xy: tuple[float, float]) -> list[list[int]]:
    """Cameras as rows of a mosaic: those that look forward, then those that look backward, each from left to right.

    This is FRONT_LEFT FRONT FRONT_RIGHT over BACK_LEFT BACK BACK_RIGHT for nuScenes, whatever their order in the rig.
    """
    axes = _optical_axes(rig)[:, :2]
    axes = axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-9)
    forward = np.array(forward_xy)
    ahead, left = axes @ forward, axes @ np.array([-forward[1], forward[0]])
    order = np.argsort(-left, kind="stable")
    # Side cameras a little behind the shoulder line still belong to the front.
    rows = [[int(i) for i in order if ahead[i] >= -0.1], [int(i) for i in order if ahead[i] < -0.1]]
    return [row for row in rows if row]


def build_scene(
    sample: Sample, layers: tuple[BoxLayer, ...], options: DrawOptions, overlay: Overlay = NOTHING
) -> Scene:
    """The scene of a frame.

    Args:
        sample: its points and reference frame are used; points may be None.
        layers: boxes in the sample's reference frame.
        overlay: tracks, pictures on the ground and marks, all in the same frame.

    Raises:
        ConfigError: the points cannot be coloured as the options ask.
    """
    frame = ref_frame(sample)
    # In perspective, what is near is large anyway.
    line_m = options.range_m * _LINE * (0.45 if options.view == "free" else 1.0)
    parts = [Layer(r.name or f"ground {i}", _carpet(r, frame.ground_m)) for i, r in enumerate(overlay.ground)]
    parts.append(Layer("rings", _rings(options.range_m, frame.ground_m, line_m)))
    parts += [Layer(f"{b.name}: bodies", _bodies(b)) for b in layers if b.by_class]
    if sample.points is not None:
        parts.append(Layer("points", _points(sample, frame, options)))
    if overlay.tracks:
        parts.append(Layer("tracks", _ways(overlay.tracks, options.class_names, line_m)))
    parts += [Layer(b.name, join([_edges(b, line_m), _headings(b, line_m)])) for b in layers]
    parts += [Layer(f"{b.name}: velocity", _velocities(b, line_m)) for b in layers]
    parts.append(Layer("vehicle", ego_mesh(frame)))
    if overlay.marks is not None:
        parts.append(Layer("marks", _marks(overlay.marks, line_m)))
    camera = _free_camera(options, frame) if options.view == "free" else None
    return Scene(tuple(parts), _ring_labels(options.range_m, frame, camera), frame.forward_xy, options.range_m, camera)


def _free_camera(options: DrawOptions, frame: RefFrame) -> Camera:
    """From behind and above, at something ahead of the vehicle, so that the near half of the range fills it."""
    angle = np.arctan2(frame.forward_xy[1], frame.forward_xy[0]) + options.azimuth_rad
    forward = np.array([np.cos(angle), np.sin(angle), 0.0])
    target = 0.12 * options.range_m * forward + [0, 0, frame.ground_m]
    away = -np.cos(options.elevation_rad) * forward + [0, 0, np.sin(options.elevation_rad)]
    eye = target + 0.75 * options.range_m * away
    return Camera((eye[0], eye[1], eye[2]), (target[0], target[1], target[2]), np.pi / 3)


def _carpet(raster: Raster, ground_m: float) -> Mesh:
    return carpet(raster.color, raster.shown, raster.x_m, raster.y_m, ground_m - 0.05)


def _ways(tracks: tuple[Track, ...], class_names: tuple[str, ...], line_m: float) -> Mesh:
    """The way of each object in its class's colour, fading into the past, with a knot at every frame."""
    parts = []
    for track in tracks:
        color, steps = class_color(class_names[track.label], track.label), len(track.path_m) - 1
        for i in range(steps):
            faded = color.mixed(GROUND, 0.65 * (1 - (i + 1) / steps))
            start, end = track.path_m[i : i + 1], track.path_m[i + 1 : i + 2]
            parts.append(beams(start, end, line_m * 0.8, faded))
            parts.append(hexahedra(_block(start, line_m * 1.1), faded))
    return join(parts)


def _block(middle_m: Array, half_m: float) -> Array:
    """(K, 3) -> (K, 8, 3) corners of cubes."""
    sides = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    corners = np.concatenate([np.column_stack([sides, np.full(4, z)]) for z in (-1, 1)])
    return middle_m[:, None] + half_m * corners


def _marks(marks: Marks, line_m: float) -> Mesh:
    return hexahedra(_block(marks.xyz_m[np.isfinite(marks.xyz_m).all(1)], line_m * 1.6), MARK)


def ring_radii_m(range_m: float) -> list[float]:
    """Radii of the range rings: 3 to 6 round steps within the range."""
    steps = [s * 10.0**e for e in range(3) for s in (1, 2, 5)]
    step = next((s for s in steps if range_m / s < 7), steps[-1])
    return [step * (i + 1) for i in range(int(range_m / step))]


def _rings(range_m: float, ground_m: float, line_m: float) -> Mesh:
    radii = ring_radii_m(range_m)
    rings = [ring(radius, ground_m, line_m * 0.8, GRID) for radius in radii]
    ends = np.array([[-1.0, 0, 0], [0, -1.0, 0], [1.0, 0, 0], [0, 1.0, 0]]) * range_m * 1.5 + [0, 0, ground_m]
    return join([*rings, beams(ends[:2], ends[2:], line_m * 0.4, GRID.mixed(GROUND, 0.35))])


def _ring_labels(range_m: float, frame: RefFrame, camera: Camera | None) -> tuple[Label, ...]:
    if camera is None:
        ahead, turn_rad = np.array(frame.forward_xy), 0.75 * np.pi  # behind, right: seldom where the objects are
    else:
        ahead, turn_rad = np.subtract(camera.target_m, camera.eye_m)[:2], np.radians(40)  # far rings are there to see
        ahead = ahead / np.linalg.norm(ahead)
    direction = np.cos(turn_rad) * ahead + np.sin(turn_rad) * np.array([ahead[1], -ahead[0]])
    places = [(radius, direction * radius) for radius in ring_radii_m(range_m)]
    return tuple(Label(f"{r:g} m", (float(xy[0]), float(xy[1]), frame.ground_m)) for r, xy in places)


def _points(sample: Sample, frame: RefFrame, options: DrawOptions) -> Points:
    assert sample.points is not None
    xyz = sample.points.xyz_m.double().cpu().numpy()
    near = np.flatnonzero(np.isfinite(xyz).all(1) & (np.abs(xyz[:, :2]).max(1, initial=0) <= options.range_m))
    order = near[np.argsort(xyz[near, 2], kind="stable")]
    return Points(xyz[order], point_colors(sample, frame.ground_m, options)[order])


def _bodies(layer: BoxLayer) -> Mesh:
    corners = layer.corners_m()
    colors = [layer.color(i).mixed(GROUND, 0.62) for i in range(len(corners))]
    return join([hexahedra(corners[i : i + 1], c, c.mixed(GROUND, 0.5)) for i, c in enumerate(colors)])


def _edges(layer: BoxLayer, line_m: float) -> Mesh:
    corners, parts = layer.corners_m(), []
    for i, color in enumerate(layer.color(i) for i in range(len(layer.boxes))):
        segments = [(corners[i, a], corners[i, b]) for a, b in EDGES]
        if not layer.by_class:
            segments = [piece for s in segments for piece in dash(*s, dash_px=5 * line_m)]
        start, end = np.array(segments).transpose(1, 0, 2)
        parts.append(beams(start, end, line_m * (1.15 if layer.by_class else 0.6), color))
    return join(parts)


def _headings(layer: BoxLayer, line_m: float) -> Mesh:
    """On the top face: a wedge that points forward, or a line from the middle to the front of dashed boxes."""
    # A little over the face, or the two of them flicker through each other in the window.
    top, parts = layer.corners_m()[:, 4:] + [0, 0, 0.05], []
    for i, color in enumerate(layer.color(i) for i in range(len(layer.boxes))):
        front_left, front_right, rear_right, rear_left = top[i]
        nose, middle = (front_left + front_right) / 2, top[i].mean(0)
        if layer.by_class:
            back = 0.4
            base = [front_left + back * (rear_left - front_left), front_right + back * (rear_right - front_right)]
            parts.append(triangles(np.array([[nose, *base]]), color))
        else:
            parts.append(beams(middle[None], nose[None], line_m * 0.6, color))
    return join(parts)


def _velocities(layer: BoxLayer, line_m: float) -> Mesh:
    """Arrows as long as the way of one second; none for slow or unknown velocities."""
    velocity = layer.boxes.velocity_mps.double().numpy()
    speed = np.linalg.norm(np.nan_to_num(velocity), axis=-1)
    top, parts = layer.corners_m()[:, 4:].mean(1), []
    for i in np.flatnonzero((speed > _MIN_SPEED_MPS) & np.isfinite(velocity).all(-1)):
        forward = np.array([*velocity[i], 0]) / speed[i]
        side = np.array([-forward[1], forward[0], 0])
        head_m = min(6 * line_m, 0.6 * speed[i])
        tip, neck = top[i] + forward * speed[i], top[i] + forward * (speed[i] - head_m)
        color = layer.color(i).mixed(INK, 0.45)
        parts.append(beams(top[i][None], neck[None], line_m * (1.0 if layer.by_class else 0.6), color))
        parts.append(triangles(np.array([[tip, neck + side * head_m * 0.45, neck - side * head_m * 0.45]]), color))
    return join(parts)


def _slab(bottom: tuple[float, float, float], top: tuple[float, float, float], low_m: float, high_m: float) -> Array:
    """(1, 8, 3) corners of a tapered block along x: (front x, rear x, half width) of its bottom and top rectangle."""
    rows = []
    for (front, rear, half), z in ((bottom, low_m), (top, high_m)):
        rows += [[front, half, z], [front, -half, z], [rear, -half, z], [rear, half, z]]
    return np.array([rows])


def ego_mesh(frame: RefFrame) -> Mesh:
    """The vehicle: a hatchback of body, glass and roof, in the reference frame."""
    length, width, height = EGO_SIZE_M
    half, side = length / 2, width / 2
    glass = Color(40, 47, 60)
    body, nose = EGO, EGO.mixed(PAGE, 0.12)
    parts = [
        hexahedra(_slab((half - 0.45, -half + 0.2, side), (half - 0.5, -half + 0.2, side), 0.25, 0.9), body, nose),
        hexahedra(_slab((half, half - 0.5, side - 0.25), (half - 0.1, half - 0.5, side - 0.3), 0.25, 0.8), nose),
        hexahedra(_slab((-half + 0.2, -half, side - 0.15), (-half + 0.2, -half + 0.05, side - 0.2), 0.3, 0.85), nose),
        hexahedra(_slab((0.85, -half + 0.3, side - 0.08), (0.35, -half + 0.6, side - 0.22), 0.9, height - 0.06), glass),
        hexahedra(
            _slab((0.3, -half + 0.7, side - 0.26), (0.25, -half + 0.75, side - 0.28), height - 0.06, height), body
        ),
    ]
    mesh = join(parts)
    (fx, fy), x, y = frame.forward_xy, mesh.xyz_m[:, 0] + frame.middle_m, mesh.xyz_m[:, 1]
    xyz = np.stack([x * fx - y * fy, x * fy + y * fx, mesh.xyz_m[:, 2] + frame.ground_m], -1)
    return Mesh(xyz, mesh.color, mesh.triangles)
