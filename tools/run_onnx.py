"""Run a graph with a baked calibration by numpy and onnxruntime alone: no torch, nothing of this library.

``python tools/run_onnx.py GRAPH.onnx PICTURE [PICTURE ...]``: one picture a camera, in the graph's order.
``python tools/run_onnx.py GRAPH.onnx --frames FRAMES.json``: several frames, for detectors with a memory; a list of
``{"pictures": [...], "scene": "a", "timestamp_us": 1, "global_from_ref": 4x4 m}``, files relative to the JSON's folder.

Pictures are scaled to the network's width by a box filter and keep their lower rows, as the synthetic configurations
do; a graph of another image transform needs that one here. Candidates above 0.3 are printed; only the nearest
duplicates (same class, centres within a metre) are dropped.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

LONGEST_GAP_S = 2.0  # frames further apart do not continue each other


def network_image(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """(3, H, W) uint8: the picture scaled to the network's width, its lower rows kept."""
    picture = Image.open(path).convert("RGB")
    height = int(picture.height * size[1] / picture.width + 1e-6)
    scaled = np.asarray(picture.resize((size[1], height), Image.Resampling.BOX))
    if height < size[0]:
        raise SystemExit(f"{path}: {height} rows at the network's width, {size[0]} are needed")
    return scaled[height - size[0] :].transpose(2, 0, 1)


def suppressed(boxes: np.ndarray, score: np.ndarray, label: np.ndarray, radius_m: float = 1.0) -> list[int]:
    """Indices of boxes without a better one of their class within the radius, by falling score."""
    kept: list[int] = []
    for i in np.argsort(-score, kind="stable"):
        near = [j for j in kept if label[j] == label[i] and np.hypot(*(boxes[j, :2] - boxes[i, :2])) <= radius_m]
        if not near:
            kept.append(int(i))
    return kept


class Memory:
    """State of a detector with a memory: what the last frame gave, and what the next one is told of the motion.

    Args:
        description: ``memory`` of the graph's description.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        self.blank = {n: np.zeros((1, *shape), kind) for n, (shape, kind) in description["state"].items()}
        self.motion = description["motion"]
        self.last: dict[str, Any] | None = None
        self.kept: dict[str, np.ndarray] = {}

    def enter(self, frame: dict[str, Any]) -> dict[str, np.ndarray]:
        """The ``state_*`` inputs of a frame."""
        pose, last = np.array(frame["global_from_ref"], np.float64), self.last
        elapsed_s = 0.0 if last is None else 1e-6 * (frame["timestamp_us"] - last["timestamp_us"])
        continues = last is not None and last["scene"] == frame["scene"] and 0 < elapsed_s <= LONGEST_GAP_S
        ref_from_previous = np.eye(4)
        if continues and last is not None:
            ref_from_previous = np.linalg.inv(pose) @ np.array(last["global_from_ref"], np.float64)
        told = {
            "continues": np.array(continues),
            "newest_from_ref": np.linalg.inv(ref_from_previous),
            "ref_from_previous": ref_from_previous,
            "elapsed_s": np.array(elapsed_s if continues else 0.0),
        }
        if "can_bus" in self.motion["names"]:
            told["can_bus"] = can_bus(pose, ref_from_previous, self.motion["frame"], self.motion["wrap"])
        names = {name: told[name][None] for name in self.motion["names"]}
        values = {"state_" + n: v if v.dtype == bool else v.astype(np.float32) for n, v in names.items()}
        self.last = frame
        return {**self.blank, **(self.kept if continues else {}), **values}

    def leave(self, outputs: dict[str, np.ndarray]) -> None:
        """Keep what the graph gave."""
        self.kept = {"state_" + n[len("next_") :]: v for n, v in outputs.items() if n.startswith("next_")}


def can_bus(pose: np.ndarray, ref_from_previous: np.ndarray, frame: str, wrap: bool) -> np.ndarray:
    """BEVFormer's 18 numbers from poses: way (m), orientation (w, x, y, z), 9 zeros, heading (rad), turn (degrees)."""
    rotation = pose[:3, :3]
    now, before = vehicle_axes(rotation, frame), vehicle_axes(rotation @ ref_from_previous[:3, :3], frame)
    heading, previous = (np.arctan2(axes[1, 0], axes[0, 0]) % (2 * np.pi) for axes in (now, before))
    turn_deg = np.degrees(heading - previous)
    turn_deg = (turn_deg + 180) % 360 - 180 if wrap else turn_deg
    moved_m = -rotation @ ref_from_previous[:3, 3]
    return np.concatenate([moved_m, quaternion(now), np.zeros(9), [heading, turn_deg]])


def vehicle_axes(rotation: np.ndarray, frame: str) -> np.ndarray:
    """Axes of the vehicle (x forward, y left); nuScenes' LiDAR frame has x to the right, y forward."""
    if frame != "lidar":
        return rotation
    return np.stack([rotation[:, 1], -rotation[:, 0], rotation[:, 2]], 1)


def quaternion(m: np.ndarray) -> np.ndarray:
    """w, x, y, z with w >= 0: the row of 4 q q^T with the largest diagonal entry."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = m
    outer = np.array(
        [
            [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
        ]
    )
    row = outer[outer.diagonal().argmax()]
    return (-row if row[0] < 0 else row) / np.linalg.norm(row)


def show(found: dict[str, np.ndarray], classes: list[str]) -> None:
    """One line a box, best first."""
    sure = found["valid"] & (found["score"] > 0.3)
    boxes, score, label = (found[name][sure] for name in ("boxes", "score", "label"))
    for i in suppressed(boxes, score, label):
        x, y, z, length, width, height, yaw = boxes[i, :7]
        where = f"({x:6.1f}, {y:6.1f}, {z:5.1f}) m, {length:.1f} x {width:.1f} x {height:.1f} m"
        print(f"{classes[label[i]]:20s} {score[i]:.2f}  {where}, {np.degrees(yaw):.0f} deg")


def run(path: str, frames: list[dict[str, Any]]) -> None:
    """Detect in each frame and print its boxes."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    description = json.loads(session.get_modelmeta().custom_metadata_map["bevstack"])
    other = [name for name in description["inputs"] if name != "images" and not name.startswith("state_")]
    if other:
        raise SystemExit(f"{path} wants {other}: export it with --bake")
    memory = Memory(description["memory"]) if description.get("memory") else None
    if memory is not None and any("timestamp_us" not in frame for frame in frames):
        raise SystemExit(f"{path} has a memory: give --frames with scene, timestamp_us and global_from_ref")
    size = description["calibration"]["image_size_px"]
    names = [output.name for output in session.get_outputs()]
    taken = {value.name for value in session.get_inputs()}
    for number, frame in enumerate(frames):
        images = np.stack([network_image(picture, (size[0], size[1])) for picture in frame["pictures"]])[None]
        inputs = {"images": images, **({} if memory is None else memory.enter(frame))}
        found = dict(zip(names, session.run(None, {n: v for n, v in inputs.items() if n in taken})))
        if memory is not None:
            memory.leave(found)
        if len(frames) > 1:
            print(f"frame {number}")
        show({name: value[0] for name, value in found.items()}, description["more"]["classes"])


def read_frames(path: Path) -> list[dict[str, Any]]:
    """Frames of a JSON file; pictures relative to its folder."""
    frames = json.loads(path.read_text())
    return [{**frame, "pictures": [path.parent / name for name in frame["pictures"]]} for frame in frames]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    if sys.argv[2] == "--frames":
        run(sys.argv[1], read_frames(Path(sys.argv[3])))
    else:
        run(sys.argv[1], [{"pictures": sys.argv[2:]}])
