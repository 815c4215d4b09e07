"""Which bodies are annotated in which key frames, and the records of instances and annotations.

As nuScenes' annotators were told to, a body is annotated where at least one LiDAR point fell into its box, up to
ANNOTATION_RANGE_M. Beyond SCORED_RANGE_M, where no detection class is scored and the beams are far apart, it is enough
that the cameras show MIN_AREA_PX of it (counted in 1600x900 pixels), or that it is known at most MAX_GAP key frames
before and after. So there are boxes without points, as in nuScenes, but never where they would be scored.
A body that is lost and found again keeps its instance: the two annotations are neighbours in the prev / next chain, and
where they lie too far apart in time the devkit's velocity is NaN, as it is for an instance with a single annotation.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bev.data.synthetic.population import MOVING_MPS, Body
from bev.data.synthetic.tables import Record, token
from bev.data.synthetic.taxonomy import visibility_level

ANNOTATION_RANGE_M = 75.0
SCORED_RANGE_M = 50.0
MIN_AREA_PX = 80.0
MAX_GAP = 2


@dataclasses.dataclass(frozen=True)
class KeyFrame:
    """What the sensors found out about the labelled bodies in one key frame; arrays over bodies.

    Attributes:
        sample_token: of the key frame.
        poses: (n, 3) x, y [m], heading [rad] in the global frame. speed: (n,) [m/s].
        range: (n,) [m] from the ego vehicle. points: (n,) LiDAR points in the box.
        share: (n,) visible share over all cameras, 0 to 1. area: (n,) visible 1600x900 pixels.
    """

    sample_token: str
    poses: np.ndarray
    speed: np.ndarray
    range: np.ndarray
    points: np.ndarray
    share: np.ndarray
    area: np.ndarray


def annotated(frames: list[KeyFrame]) -> np.ndarray:
    """(K, n) bool of key frames x bodies: the module's rule."""
    range_m = np.stack([f.range for f in frames])
    far = (range_m > SCORED_RANGE_M) & (range_m < ANNOTATION_RANGE_M)
    shown = np.stack([f.area >= MIN_AREA_PX for f in frames])
    seen = np.stack([f.points > 0 for f in frames]) & (range_m < ANNOTATION_RANGE_M) | far & shown
    out = seen.copy()
    for length in range(1, MAX_GAP + 1):
        for k in range(1, len(seen) - length):
            bridge = seen[k - 1] & seen[k + length]
            out[k : k + length] |= bridge & far[k : k + length]
    return out


def annotate(scene_token: str, bodies: list[Body], frames: list[KeyFrame]) -> tuple[list[Record], list[Record]]:
    """Records of the instance and the sample_annotation table of one scene.

    Args:
        scene_token: makes the tokens unique.
        bodies: the labelled bodies, in the order of the frames' arrays.
        frames: the key frames in order.
    """
    keep = annotated(frames)
    instances, annotations = [], []
    for n, body in enumerate(bodies):
        moments = np.flatnonzero(keep[:, n]).tolist()
        if not moments:
            continue
        name = token(scene_token, "instance", n)
        tokens = [token(name, k) for k in moments]
        instances.append(
            {
                "token": name,
                "category_token": token("category", body.category),
                "nbr_annotations": len(tokens),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        for k, own, before, after in zip(moments, tokens, ["", *tokens], [*tokens[1:], ""]):
            annotations.append(_record(body, n, frames[k], own, name, before, after))
    return instances, annotations


def _record(body: Body, n: int, frame: KeyFrame, own: str, instance: str, before: str, after: str) -> Record:
    x, y, heading = (float(v) for v in frame.poses[n])
    attribute = body.manner.moving if frame.speed[n] > MOVING_MPS else body.manner.still
    return {
        "token": own,
        "sample_token": frame.sample_token,
        "instance_token": instance,
        "visibility_token": visibility_level(float(frame.share[n])),
        "attribute_tokens": [token("attribute", attribute)] if attribute else [],
        "translation": [round(x, 6), round(y, 6), round(float(body.size[2]) / 2, 6)],
        "size": [round(float(v), 6) for v in body.size],
        "rotation": yaw_quaternion(heading),
        "prev": before,
        "next": after,
        "num_lidar_pts": int(frame.points[n]),
        "num_radar_pts": 0,
    }


def yaw_quaternion(heading_rad: float) -> list[float]:
    """(w, x, y, z) of a turn about z."""
    return [float(np.cos(heading_rad / 2)), 0.0, 0.0, float(np.sin(heading_rad / 2))]
