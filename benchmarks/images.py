"""Six 1600x900 JPEGs to a 6x3x256x704 network input, one thread: ours against the published pipelines.

The pictures are read from ``../shared/data/nuscenes_frame`` (override: BEV_REAL_DATA) or, where that is absent, made of
noise and gradients. Both baselines are restated step by step, with the libraries that they use:

* ``BEVDet, PIL``: PIL decode, ``Image.resize`` (bicubic), crop, flip, ``Image.rotate``, float32 and normalisation as
  ``mmcv.imnormalize``, HWC to CHW.
* ``mmdet3d, cv2 float``: cv2 decode, float32 at full size (``to_float32=True``), ``cv2.resize``, crop, normalisation,
  HWC to CHW.

Ours ends with uint8, which is what reaches the device; ``+ normalise`` adds the float32 normalisation on the CPU.
Times are of the process (CPU), which other work on the machine disturbs least.
``pixels`` rows say how far each of our resize methods is from each published one, in grey levels.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.harness import arguments, compare, report
from bev.data.transforms import ImageDraw, ImageTransform
from bev.io.images import decode_image
from bev.models.preprocess import ImageNormalizer

SIZE = (256, 704)
RESIZED = (396, 704)
TOP = RESIZED[0] - SIZE[0]
ANGLE_DEG = 3.0
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def load_jpegs() -> list[bytes]:
    """Six encoded pictures."""
    folder = Path(os.environ.get("BEV_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    paths = sorted((folder / "nuscenes_frame").glob("*.jpg"))
    if len(paths) == 6:
        return [path.read_bytes() for path in paths]
    rng, jpegs = np.random.default_rng(0), []
    for _ in range(6):
        small = rng.integers(0, 256, (57, 100, 3), np.uint8)
        picture = cv2.resize(small, (1600, 900), interpolation=cv2.INTER_CUBIC)
        jpegs.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return jpegs


def imnormalize(image: np.ndarray, swap: bool) -> np.ndarray:
    """``mmcv.imnormalize``: float32 copy, optional BGR to RGB, subtract, multiply, all in place by OpenCV."""
    image = image.copy().astype(np.float32)
    if swap:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)
    cv2.subtract(image, np.float64(MEAN.reshape(1, -1)), image)
    cv2.multiply(image, 1 / np.float64(STD.reshape(1, -1)), image)
    return image


def bevdet(jpegs: list[bytes], augment: bool) -> torch.Tensor:
    """BEVDet's loading: (6, 3, 256, 704) float32."""
    images = []
    for data in jpegs:
        picture = Image.open(io.BytesIO(data)).resize(RESIZED[::-1])
        picture = picture.crop((0, TOP, SIZE[1], RESIZED[0]))
        if augment:
            picture = picture.transpose(method=Image.Transpose.FLIP_LEFT_RIGHT)
            picture = picture.rotate(ANGLE_DEG)
        image = imnormalize(np.array(picture), swap=False)
        images.append(torch.tensor(image).float().permute(2, 0, 1).contiguous())
    return torch.stack(images)


def mmdet3d(jpegs: list[bytes], stacked: bool) -> torch.Tensor:
    """mmdet3d's multi-view loading with the same window: (6, 3, 256, 704) float32.

    Args:
        stacked: as mmdet3d does it, all views in one array whose last axis is the view, which then are strided; without
            it the same steps on one view after the other, the fairer opponent.
    """
    pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in jpegs]
    floats = [picture.astype(np.float32) for picture in pictures] if not stacked else []
    if stacked:
        stack = np.stack(pictures, axis=-1).astype(np.float32)
        floats = [stack[..., i] for i in range(stack.shape[-1])]
    images = []
    for image in floats:
        image = cv2.resize(image, RESIZED[::-1], interpolation=cv2.INTER_LINEAR)
        image = imnormalize(image[TOP : RESIZED[0]], swap=True)
        images.append(image.transpose(2, 0, 1))
    return torch.from_numpy(np.ascontiguousarray(np.stack(images)))


def ours(jpegs: list[bytes], transform: ImageTransform, draw: ImageDraw) -> torch.Tensor:
    """What the data set does: (6, 3, 256, 704) uint8."""
    images = [transform(decode_image(data, ""), draw)[0] for data in jpegs]
    return torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image in images]))


def pixel_differences(jpegs: list[bytes]) -> list[dict[str, Any]]:
    """Root mean square and largest difference of each of our methods from each published resize, grey levels."""
    scale, shift = torch.from_numpy(STD).float(), torch.from_numpy(MEAN).float()
    published = {
        "BEVDet, PIL": bevdet(jpegs, augment=False),
        "mmdet3d, cv2 float": mmdet3d(jpegs, stacked=False),
    }
    rows = []
    for name, theirs in published.items():
        grey = theirs * scale[:, None, None] + shift[:, None, None]
        for method in ("pil_bicubic", "pil_bilinear", "linear", "area", "pyramid"):
            mine = ours(jpegs, ImageTransform(SIZE, method=method), ImageDraw())  # type: ignore[arg-type]
            difference = (mine.float() - grey).abs()
            rows.append(
                {
                    "case": f"pixels of {method} against {name}",
                    "rms_grey": round(float(difference.square().mean().sqrt()), 3),
                    "max_abs_diff": round(float(difference.max()), 2),
                }
            )
    return rows


def main() -> None:
    """Time, compare pixels, print."""
    args = arguments(__doc__ or "")
    cv2.setNumThreads(args.threads)
    jpegs, runs = load_jpegs(), 5 if args.quick else 21
    plain, turned = ImageDraw(), ImageDraw(flip=True)
    normalise = ImageNormalizer()
    cases: list[dict[str, Any]] = []
    published: dict[str, Callable[[], Any]] = {
        "BEVDet, PIL": lambda: bevdet(jpegs, augment=False),
        "mmdet3d, cv2 float": lambda: mmdet3d(jpegs, stacked=False),
        "mmdet3d, cv2 float, stacked": lambda: mmdet3d(jpegs, stacked=True),
    }
    for method in ("pyramid", "linear"):
        still = ImageTransform(SIZE, method=method)  # type: ignore[arg-type]
        cases += compare(method, lambda: ours(jpegs, still, plain), published, runs, time.process_time)
    still = ImageTransform(SIZE)
    call = "pyramid + normalise"
    cases += compare(call, lambda: normalise(ours(jpegs, still, plain)), published, runs, time.process_time)
    augmented = {"BEVDet, PIL": lambda: bevdet(jpegs, augment=True)}
    for method in ("pyramid", "pil_bicubic"):
        moving = ImageTransform(SIZE, method=method, flip=1.0, rotate_deg=ANGLE_DEG)  # type: ignore[arg-type]
        call = f"{method}, flip and rotate"
        cases += compare(call, lambda: ours(jpegs, moving, turned), augmented, runs, time.process_time)
    differences = pixel_differences(jpegs)
    for row in differences:
        print(f"{row['case']:55s} rms {row['rms_grey']:7.3f}  largest {row['max_abs_diff']:7.2f} grey levels")
    report("images", args.threads, cases, differences)


if __name__ == "__main__":
    main()
