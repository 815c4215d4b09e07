"""A small scene with tracks on straight lines, and its truth as a tracking submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bev.data.frame_boxes import boxes_in_global
from bev.data.nuscenes.store import load_index
from bev.evaluation.tracking import TRACKING_CLASSES, TrackedBox
from bev.geometry.rotations import quaternion_from_yaw
from bev.structures.conventions import CLASSES
from tests.data.tiny_nuscenes import VERSION, TinyNuScenes, token

FRAMES = 10
STEP_S = 0.5
# Name, category, position in frame 0 relative to the vehicle [m], velocity [m/s].
OBJECTS = (
    ("a", "vehicle.car", (10.0, 0.0), (4.0, 0.0)),
    ("b", "vehicle.car", (10.0, 12.0), (4.0, 0.0)),
    ("p", "human.pedestrian.adult", (5.0, -10.0), (1.0, 0.5)),
    ("t", "vehicle.trailer", (-12.0, 4.0), (0.0, 0.0)),
)


class TrackWorld(TinyNuScenes):
    """Scenes ``scene-a`` and ``scene-b`` of ten frames, half a second apart, each with ``OBJECTS``."""

    steps_us = (0, *[500_000] * (FRAMES - 1))

    def __init__(self) -> None:
        super().__init__(frames={"scene-a": FRAMES, "scene-b": FRAMES})

    def _add_objects(self, scene: str, samples: list[str], count: int) -> None:
        categories = {row["name"]: row["token"] for row in self.tables["category"]}
        for name, category, start, velocity in OBJECTS:
            instance = token(scene, name)
            annotations = [token(instance, i) for i in range(len(samples))]
            ends = dict(first_annotation_token=annotations[0], last_annotation_token=annotations[-1])
            category_token = categories[category]
            self._add("instance", token=instance, category_token=category_token, nbr_annotations=len(samples), **ends)
            for i, sample in enumerate(samples):
                x, y = (s + v * STEP_S * i for s, v in zip(start, velocity))
                self._add_annotation(annotations, i, sample, instance, [1010.0 + x, 610.0 + y, 1.0])

    def _add_annotation(self, tokens: list[str], i: int, sample: str, instance: str, center: list[float]) -> None:
        self._add(
            "sample_annotation",
            token=tokens[i],
            sample_token=sample,
            instance_token=instance,
            visibility_token="4",
            attribute_tokens=[],
            translation=center,
            size=[1.8, 4.2, 1.6],
            rotation=[1.0, 0.0, 0.0, 0.0],
            prev=tokens[i - 1] if i else "",
            next=tokens[i + 1] if i + 1 < len(tokens) else "",
            num_lidar_pts=5,
            num_radar_pts=0,
        )


def true_tracks(root: Path, version: str = VERSION) -> dict[str, list[TrackedBox]]:
    """The truth of every sample as tracked boxes of score 1; ids are the objects' numbers in the index."""
    index = load_index(root, version)
    results: dict[str, list[TrackedBox]] = {}
    for frame in range(len(index)):
        boxes, sample = boxes_in_global(index, frame), index.token[frame]
        columns: Any = zip(
            boxes.center_m.tolist(),
            boxes.size_m[:, [1, 0, 2]].tolist(),
            quaternion_from_yaw(boxes.yaw_rad).tolist(),
            boxes.velocity_mps.tolist(),
            boxes.track_id.tolist(),  # type: ignore[union-attr]
            [CLASSES[i] for i in boxes.label.tolist()],
        )
        rows = [TrackedBox(sample, *(tuple(v) for v in c[:4]), str(c[4]), c[5], 1.0) for c in columns]
        results[sample] = [row for row in rows if row.tracking_name in TRACKING_CLASSES]
    return results
