"""Run a graph with a baked calibration by numpy and onnxruntime alone: no torch, nothing of this library.

``python tools/run_onnx.py GRAPH.onnx PICTURE [PICTURE ...]``: one picture a camera, in the graph's order. Pictures are
scaled to the network's width by a box filter and keep their lower rows, as the synthetic configurations do; a graph of
another image transform needs that one here. Candidates above 0.3 are printed; only the nearest duplicates (same class,
centres within a metre) are dropped.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def network_image(path: str, size: tuple[int, int]) -> np.ndarray:
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


def run(path: str, pictures: list[str]) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    description = json.loads(session.get_modelmeta().custom_metadata_map["bevstack"])
    if description["inputs"] != ["images"]:
        raise SystemExit(f"{path} wants {description['inputs']}: export it with --bake")
    size = description["calibration"]["image_size_px"]
    images = np.stack([network_image(picture, (size[0], size[1])) for picture in pictures])[None]
    names = [output.name for output in session.get_outputs()]
    found = {name: value[0] for name, value in zip(names, session.run(None, {"images": images}))}
    sure = found["valid"] & (found["score"] > 0.3)
    boxes, score, label = (found[name][sure] for name in ("boxes", "score", "label"))
    classes = description["more"]["classes"]
    for i in suppressed(boxes, score, label):
        x, y, z, length, width, height, yaw = boxes[i, :7]
        where = f"({x:6.1f}, {y:6.1f}, {z:5.1f}) m, {length:.1f} x {width:.1f} x {height:.1f} m"
        print(f"{classes[label[i]]:20s} {score[i]:.2f}  {where}, {np.degrees(yaw):.0f} deg")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    run(sys.argv[1], sys.argv[2:])
