"""The camera: bodies painted back to front over the backdrop, with the share of each that stays visible.

Pictures are painted at twice the size and averaged, which smooths edges; the alpha plane holds the body of each
sub-pixel. The painter's order is exact for disjoint bodies (see shapes.py and order.py).
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from bev.data.synthetic import order
from bev.data.synthetic.background import Backdrop, backdrop, ray_table
from bev.data.synthetic.crowd import Crowd
from bev.data.synthetic.rig import Sensor, invert_rigid, planar_pose
from bev.data.synthetic.scene import Scene, shadow_outline
from bev.data.synthetic.shapes import back_to_front

SUPER = 2  # sub-pixels along each axis
SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
NEAR_M, FAR_M = 0.15, 130.0
MAX_BODIES = 250  # the alpha plane has 8 bits


@dataclasses.dataclass(frozen=True)
class View:
    """What one camera saw.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        body: (2H, 2W) uint8: 0 for the backdrop, else 1 + an index into ``members``.
        members: (n,) indices of the painted bodies.
        whole: (n,) sub-pixels of each as if nothing stood before it (labelled bodies only, else 0).
        visible: (n,) sub-pixels of each that are seen.
    """

    image: np.ndarray
    body: np.ndarray
    members: np.ndarray
    whole: np.ndarray
    visible: np.ndarray


class Camera:
    """One camera of the rig in one scene."""

    def __init__(self, sensor: Sensor, scene: Scene, crowd: Crowd, width_px: int, height_px: int) -> None:
        self.sensor, self.scene, self.crowd = sensor, scene, crowd
        self.size = (width_px, height_px)
        self.matrix = sensor.intrinsics(width_px, height_px)
        haze = np.clip(scene.light.horizon * 0.55 + 62, 0, 255)
        self.backdrop: Backdrop = backdrop(ray_table(sensor, width_px, height_px), scene.ground, scene.panorama, haze)
        self.moving = np.array([not body.static for body in scene.bodies])
        self.labelled = [bool(body.category) for body in scene.bodies]

    def view(self, ego: np.ndarray, poses: np.ndarray) -> View:
        """Picture for the ego pose (3,) and the bodies' poses (N, 3) in the city frame [m, rad]."""
        cam_from_city = invert_rigid(planar_pose(*ego) @ self.sensor.ego_from_sensor)
        image, first_row = self.backdrop.render(ego, self.size[1])
        members = self._in_view(cam_from_city, poses)
        self._cast_shadows(image, first_row, cam_from_city, poses, members)
        canvas = cv2.resize(
            cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), None, fx=SUPER, fy=SUPER, interpolation=cv2.INTER_NEAREST
        )
        canvas[..., 3] = 0
        whole = self._paint(canvas, members, cam_from_city, poses)
        body = np.ascontiguousarray(canvas[..., 3])
        visible = cv2.calcHist([body], [0], None, [256], [0, 256])[1 : len(members) + 1, 0].astype(np.int64)
        small = cv2.resize(canvas, self.size, interpolation=cv2.INTER_AREA)
        return View(cv2.cvtColor(small, cv2.COLOR_RGBA2RGB), body, members, whole, visible)

    def _in_view(self, cam_from_city: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Bodies whose bounding sphere meets the view, the nearest MAX_BODIES of them."""
        crowd = self.crowd
        middle = np.column_stack([poses[:, :2], crowd.middle_z]) @ cam_from_city[:3, :3].T + cam_from_city[:3, 3]
        depth, radius = middle[:, 2], crowd.radius
        keep = (depth > -radius) & (depth < FAR_M + radius)
        for axis in range(2):
            f, c, size = self.matrix[axis, axis], self.matrix[axis, 2], self.size[axis]
            for sign, edge in ((1.0, (size - c) / f), (-1.0, c / f)):
                keep &= (sign * middle[:, axis] - edge * depth) / np.hypot(1.0, edge) < radius
        members = np.flatnonzero(keep)
        return members[np.argsort(depth[members], kind="stable")[:MAX_BODIES]]

    def _cast_shadows(
        self, image: np.ndarray, first_row: int, cam_from_city: np.ndarray, poses: np.ndarray, members: np.ndarray
    ) -> None:
        """Darken the ground below moving bodies in view (the standing ones' shadows are part of the ground)."""
        mask = np.zeros(image.shape[:2], np.uint8)
        for k in members[self.moving[members]]:
            outline = shadow_outline(self.scene.bodies[k].size, poses[k], self.scene.light)
            points = np.column_stack([outline, np.zeros(len(outline))]) @ cam_from_city[:3, :3].T + cam_from_city[:3, 3]
            if points[:, 2].min() < NEAR_M:
                points = clip_near(points)
            if len(points) > 2:
                pixels = np.clip(project(points, self.matrix), -3e4, 3e4) - 0.5
                cv2.fillConvexPoly(mask, np.round(pixels * (1 << SHIFT)).astype(np.int32), (255,), cv2.LINE_8, SHIFT)
        mask[:first_row] = 0
        if mask.any():
            cv2.copyTo(cv2.convertScaleAbs(image, alpha=self.scene.light.shade), mask, image)

    def _paint(
        self, canvas: np.ndarray, members: np.ndarray, cam_from_city: np.ndarray, poses: np.ndarray
    ) -> np.ndarray:
        """Paint bodies on the canvas (2H, 2W, 4); returns how many sub-pixels each labelled one covered."""
        crowd, own = self.crowd, poses[members]
        slot = np.full(len(crowd), -1)
        slot[members] = np.arange(len(members))
        eye = invert_rigid(cam_from_city)[:3, 3]
        c, s = np.cos(own[:, 2]), np.sin(own[:, 2])
        away = eye[:2] - own[:, :2]
        eyes = np.column_stack(
            [c * away[:, 0] + s * away[:, 1], c * away[:, 1] - s * away[:, 0], np.full(len(own), eye[2])]
        )
        faces = self._facing(slot, eyes.astype(np.float32))
        corners, screen = self._corners(faces, slot, cam_from_city, own)
        faces, outline, low, high = self._on_screen(faces, corners, screen)
        rank = self._ranks(members, own, eye, eyes, slot[crowd.face_body[faces]], low, high)
        sequence = np.argsort(rank[crowd.face_solid[faces]], kind="stable")
        return self._fill(canvas, faces[sequence], outline[:, sequence], corners, slot, own)

    def _facing(self, slot: np.ndarray, eyes: np.ndarray) -> np.ndarray:
        """Indices of the faces of painted bodies that look at the eye."""
        faces = np.flatnonzero(slot[self.crowd.face_body] >= 0)
        toward = np.einsum("fk,fk->f", self.crowd.normals[faces], eyes[slot[self.crowd.face_body[faces]]])
        return faces[toward > self.crowd.offsets[faces]]

    def _corners(
        self, faces: np.ndarray, slot: np.ndarray, cam_from_city: np.ndarray, own: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Camera-frame corners (V, 3) [m] and screen points (V, 2) [sub-pixels]; only the faces' rows are set."""
        wanted = np.zeros(len(self.crowd.face_size), bool)
        wanted[faces] = True
        chosen = np.flatnonzero(wanted[self.crowd.corner_face])
        pose = own[slot[self.crowd.corner_body[chosen]]].astype(np.float32)
        x, y, z = self.crowd.corners[chosen].T
        c, s = np.cos(pose[:, 2]), np.sin(pose[:, 2])
        place = np.stack([c * x - s * y + pose[:, 0], s * x + c * y + pose[:, 1], z], 1)
        local = np.einsum("vj,ij->vi", place, cam_from_city[:3, :3].astype(np.float32)) + cam_from_city[:3, 3].astype(
            np.float32
        )
        corners, screen = np.empty_like(self.crowd.corners), np.empty((len(self.crowd.corners), 2), np.float32)
        corners[chosen] = local
        local[:, 2] = np.maximum(local[:, 2], NEAR_M)
        screen[chosen] = to_canvas(project(local, self.matrix.astype(np.float32)))
        return corners, screen

    def _on_screen(self, faces: np.ndarray, corners: np.ndarray, screen: np.ndarray) -> tuple[np.ndarray, ...]:
        """The faces that can be seen (not behind the eye, off screen or tiny), their outlines (8, f, 2) and bounds."""
        index = self.crowd.faces[:, faces]
        depth, outline = corners[:, 2][index], screen[index]
        low, high = outline.min(0), outline.max(0)
        width, height = self.size[0] * SUPER, self.size[1] * SUPER
        crossing = depth.min(0) < NEAR_M
        inside = (high[:, 0] > -1) & (high[:, 1] > -1) & (low[:, 0] < width + 1) & (low[:, 1] < height + 1)
        inside &= (high[:, 0] - low[:, 0] > 0.3) & (high[:, 1] - low[:, 1] > 0.3)
        keep = np.flatnonzero((depth.max(0) > NEAR_M) & (crossing | inside))
        low[crossing], high[crossing] = -1e6, 1e6
        return faces[keep], outline[:, keep], low[keep], high[keep]

    def _ranks(
        self,
        members: np.ndarray,
        own: np.ndarray,
        eye: np.ndarray,
        eyes: np.ndarray,
        body: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
    ) -> np.ndarray:
        """(P,) painting rank of every solid of the painted bodies."""
        count = len(members)
        box_low, box_high = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
        first = np.flatnonzero(np.diff(body, prepend=-1))  # faces come body by body
        if len(first):
            box_low[body[first]], box_high[body[first]] = np.minimum.reduceat(low, first), np.maximum.reduceat(
                high, first
            )
        overlap = ((box_low[:, None] <= box_high[None] + 2) & (box_low[None] <= box_high[:, None] + 2)).all(2)
        sides = order.rectangle_sides(self.crowd.low[members], self.crowd.high[members], own)
        distance = np.linalg.norm(own[:, :2] - eye[:2], axis=1)
        painting = order.back_to_front(order.hides(*sides, eye[:2]), overlap, distance)
        rank = np.zeros(len(self.crowd.bounds), np.int64)
        position = 0
        for n in painting:
            solids = back_to_front(self.crowd.trees[members[n]], tuple(eyes[n].tolist()))
            rank[self.crowd.first_solid[members[n]] + np.array(solids)] = np.arange(position, position + len(solids))
            position += len(solids)
        return rank

    def _fill(
        self,
        canvas: np.ndarray,
        faces: np.ndarray,
        outline: np.ndarray,
        corners: np.ndarray,
        slot: np.ndarray,
        own: np.ndarray,
    ) -> np.ndarray:
        """Fill the faces in order; after the last face of each labelled body count what it covers."""
        whole = np.zeros(len(own), np.int64)
        if not len(faces):
            return whole
        body = slot[self.crowd.face_body[faces]]
        colours = np.column_stack([self._shade(faces, own[body, 2], corners), body + 1]).tolist()
        sizes = self.crowd.face_size[faces].tolist()
        crossing = (corners[:, 2][self.crowd.faces[:, faces]].min(0) < NEAR_M).tolist()
        fixed = fixed_point(outline)
        start = 0
        for end in np.append(np.flatnonzero(np.diff(body)) + 1, len(body)).tolist():
            for k in range(start, end):
                points = fixed[k, : sizes[k]]
                if crossing[k]:
                    points = self._clipped(corners[self.crowd.faces[: sizes[k], faces[k]]])
                    if len(points) < 3:
                        continue
                cv2.fillConvexPoly(canvas, points, colours[k], cv2.LINE_8, SHIFT)
            number = int(body[start])
            if self.labelled[self.crowd.face_body[faces[start]]]:
                whole[number] = count_covered(canvas, number + 1, fixed[start:end], any(crossing[start:end]))
            start = end
        return whole

    def _clipped(self, polygon: np.ndarray) -> np.ndarray:
        """Fixed-point outline (n, 2) of a camera-frame polygon (m, 3) [m] that crosses the near plane."""
        clipped = clip_near(polygon)
        return fixed_point(to_canvas(project(clipped, self.matrix))[:, None])[0] if len(clipped) > 2 else clipped

    def _shade(self, faces: np.ndarray, heading: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """(f, 3) RGB of faces in the scene's light, paled by distance."""
        light, (x, y, z) = self.scene.light, self.crowd.normals[faces].T
        c, s = np.cos(heading), np.sin(heading)
        bright = light.facing(np.stack([c * x - s * y, s * x + c * y, z], 1))
        haze = 1 - np.exp(-((np.maximum(corners[self.crowd.faces[0, faces], 2], 0) / 190.0) ** 2))[:, None]
        return np.clip(
            self.crowd.colours[faces] * (bright[:, None] * light.tint) * (1 - haze) + self.backdrop.haze_colour * haze,
            0,
            255,
        )


def project(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) of camera-frame points (n, 3) [m] in front of the camera."""
    return points[:, :2] / points[:, 2:] * [matrix[0, 0], matrix[1, 1]] + matrix[:2, 2]


def to_canvas(pixels: np.ndarray) -> np.ndarray:
    """Canvas coordinates (n, 2): sub-pixels with their middles at whole numbers, as OpenCV draws."""
    return np.clip(pixels * SUPER - 0.5, -3e4, 3e4)


def fixed_point(outline: np.ndarray) -> np.ndarray:
    """Fixed-point outlines (f, n, 2) int32 of (n, f, 2), drawn in by a quarter sub-pixel.

    OpenCV fills every sub-pixel that an outline touches, half a sub-pixel too much on each side; drawing in by a
    quarter halves this and leaves no gap between neighbouring faces.
    """
    middle = (outline.min(0) + outline.max(0)) / 2
    inward = np.clip(middle - outline, -0.25, 0.25)
    fixed = np.round((outline + inward) * (1 << SHIFT)).astype(np.int32)
    return np.ascontiguousarray(fixed.transpose(1, 0, 2))


def clip_near(polygon: np.ndarray) -> np.ndarray:
    """Part (m, 3) of a convex camera-frame polygon (n, 3) [m] that lies beyond NEAR_M (Sutherland and Hodgman)."""
    following = np.roll(polygon, -1, axis=0)
    out = []
    for a, b in zip(polygon, following):
        inside_a, inside_b = a[2] >= NEAR_M, b[2] >= NEAR_M
        if inside_a:
            out.append(a)
        if inside_a != inside_b:
            out.append(a + (b - a) * ((NEAR_M - a[2]) / (b[2] - a[2])))
    return np.array(out).reshape(-1, 3)


def count_covered(canvas: np.ndarray, number: int, outlines: np.ndarray, anywhere: bool) -> int:
    """Sub-pixels of a canvas whose alpha is ``number``, looked for only around the outlines (f, n, 2, fixed-point)."""
    region = canvas
    if not anywhere:
        low = np.clip((outlines.min((0, 1)) >> SHIFT) - 1, 0, None)
        high = (outlines.max((0, 1)) >> SHIFT) + 3
        region = canvas[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
    return int(np.count_nonzero(region[..., 3] == number))
