"""What the pictures themselves say: the order of their colours, and whether each belongs to its camera."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations

import cv2
import numpy as np

from bev.data.checks.findings import Finding

_WIDTH_PX = 200
# Neighbours are compared where both look, from a little below the horizon on: nearer things are seen from two places.
_LOWEST_SIN, _MIN_OVERLAP_PX = -0.12, 60
_MIN_FRAMES, _MIN_GAIN = 3, 0.15
_SKY_LUMA, _SKY_SATURATION, _MIN_SKY_SHARE = 110, 0.12, 0.02

Frame = tuple[Sequence[np.ndarray], np.ndarray, np.ndarray]


def check_colors(frames: Sequence[Frame]) -> list[Finding]:
    """Bright colourful sky is blue, not orange; needs at least three frames with such a sky.

    Args:
        frames: pictures (h, w, 3) uint8 RGB, (N, 3, 3) intrinsics, (N, 4, 4) ego_from_camera of each frame.
    """
    blue = red = 0
    for pictures, _, _ in frames:
        pixels = np.concatenate([_top(picture) for picture in pictures]).astype(np.int32)
        bright = pixels[pixels.sum(1) > 3 * _SKY_LUMA]
        spread = bright[:, 2] - bright[:, 0]
        sky = abs(spread) > _SKY_SATURATION * bright.max(1, initial=1)
        if sky.sum() > _MIN_SKY_SHARE * len(pixels):
            blue, red = blue + int((spread[sky] > 0).mean() > 0.8), red + int((spread[sky] < 0).mean() > 0.8)
    if red >= _MIN_FRAMES and red > 4 * blue:
        return [Finding("color_order", f"in {red} of {red + blue} frames with a colourful sky it is orange, not blue")]
    return []


def _top(picture: np.ndarray) -> np.ndarray:
    """(P, 3) pixels of the upper quarter, thinned."""
    return picture[: max(picture.shape[0] // 4, 1) : 8, ::8].reshape(-1, 3)


def check_order(frames: Sequence[Frame], names: Sequence[str]) -> list[Finding]:
    """Neighbouring cameras see the same in their overlap; with pictures exchanged they do not.

    Only an exchange that fits clearly better than the given order, and at least in three frames, is reported.

    Args:
        frames: as of :func:`check_colors`.
        names: of the N cameras.
    """
    count = len(names)
    if len(frames) < _MIN_FRAMES or count < 3:
        return []
    scores = [_seams(*frame) for frame in frames]
    pairs = sorted(set.intersection(*(set(s) for s in scores)))
    if len(pairs) < 3:
        return []
    agreement = {pair: np.mean([s[pair] for s in scores], axis=0) for pair in pairs}

    def fit(order: Sequence[int]) -> float:
        return float(np.mean([agreement[a, b][order[a], order[b]] for a, b in pairs]))

    given = tuple(range(count))
    best = max(_orders(count), key=fit)
    if best == given or fit(best) < fit(given) + _MIN_GAIN:
        return []
    # Cameras without a neighbour fit anywhere: they are not accused.
    linked = {camera for pair in pairs for camera in pair}
    places = [(a, b) for b, a in enumerate(best) if a != b and b in linked]
    moved = [f"the picture of {names[a]} fits where {names[b]} looks" for a, b in places]
    text = f"where neighbours overlap, pictures correlate by {fit(given):.2f} as given, {fit(best):.2f} if exchanged"
    return [Finding("camera_order", f"{text}: {'; '.join(moved)}")]


def _orders(count: int) -> list[tuple[int, ...]]:
    """Every order of up to six cameras; of more, those with two exchanged, and those shifted."""
    if count <= 6:
        return list(permutations(range(count)))
    orders = [tuple(range(count))]
    for a, b in combinations(range(count), 2):
        order = list(range(count))
        order[a], order[b] = b, a
        orders.append(tuple(order))
    return orders + [tuple((i + s) % count for i in range(count)) for s in range(1, count)]


def _seams(
    pictures: Sequence[np.ndarray], intrinsics: np.ndarray, ego_from_camera: np.ndarray
) -> dict[tuple[int, int], np.ndarray]:
    """For each pair (a, b) of neighbours (N, N): how picture i at a's place correlates with picture j at b's."""
    small = [_small(picture) for picture in pictures]
    found = {}
    for a, b in combinations(range(len(small)), 2):
        overlap = _overlap(a, b, pictures, intrinsics, ego_from_camera)
        if overlap is not None:
            at_a, at_b = ([_normal(_sampled(image, share)) for image in small] for share in overlap)
            found[a, b] = np.array([[float(i @ j) for j in at_b] for i in at_a])
    return found


def _small(picture: np.ndarray) -> np.ndarray:
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    height = max(round(gray.shape[0] * _WIDTH_PX / gray.shape[1]), 2)
    return cv2.GaussianBlur(cv2.resize(gray, (_WIDTH_PX, height), interpolation=cv2.INTER_AREA), (0, 0), 1.5)


def _overlap(
    a: int, b: int, pictures: Sequence[np.ndarray], intrinsics: np.ndarray, ego_from_camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """(2, P) positions in pictures a and b, as shares of their sides, of directions that both see; None for too few."""
    (height, width), turn_a, turn_b = pictures[a].shape[:2], ego_from_camera[a, :3, :3], ego_from_camera[b, :3, :3]
    x, y = np.meshgrid(np.arange(_WIDTH_PX) + 0.5, np.arange(round(height * _WIDTH_PX / width)) + 0.5)
    pixels = np.stack([x.ravel(), y.ravel(), np.full(x.size, 1.0)]) * [[width / _WIDTH_PX], [width / _WIDTH_PX], [1]]
    rays = turn_a @ np.linalg.inv(intrinsics[a]) @ pixels
    rays = rays / np.linalg.norm(rays, axis=0)
    seen = intrinsics[b] @ (turn_b.T @ rays)
    there = np.full(seen.shape[1:], False)
    ahead = seen[2] > 0.05
    share_b = seen[:2] / np.where(ahead, seen[2], 1) / np.array(pictures[b].shape[1::-1])[:, None]
    there = ahead & (share_b > 0).all(0) & (share_b < 1).all(0) & (rays[2] > _LOWEST_SIN)
    if there.sum() < _MIN_OVERLAP_PX:
        return None
    return pixels[:2, there] / np.array([[width], [height]]), share_b[:, there]


def _sampled(image: np.ndarray, share: np.ndarray) -> np.ndarray:
    place = (share * np.array(image.shape[::-1])[:, None] - 0.5).astype(np.float32)
    sampled: np.ndarray = cv2.remap(image, place[0], place[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.ravel().astype(np.float64)


def _normal(values: np.ndarray) -> np.ndarray:
    """Zero mean, unit length; zeros for a picture without contrast."""
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > 1e-6 * len(values) + 1e-9 else np.zeros_like(values)
