"""Which shapes an engine is built for, where a graph leaves them open: the batch, and the rows of pooling tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bev.deploy.facts import ExportError
from bev.deploy.tensorrt_file import Shape

Range = tuple[Shape, Shape, Shape]
# Rows and columns of lift-splat's tables where the graph does not tell those of its example.
_UNKNOWN = {0: (2, 40_000, 400_000), 1: (2, 8, 256)}
_SLACK = 2  # tables of another calibration of the same cameras may have so many times the rows


def profile_of(
    inputs: Mapping[str, Shape], batch: tuple[int, int, int], example: Mapping[str, Sequence[int]]
) -> dict[str, Range]:
    """Smallest, usual and largest shape of every input; empty where none varies.

    Args:
        inputs: shapes by name, -1 where they vary.
        batch: smallest, usual and largest.
        example: shapes of the graph's example by name; may be empty.

    Raises:
        ExportError: the batches are not in order; or the graph's batch is fixed and another one was asked for.
    """
    low, usual, high = batch
    if not 1 <= low <= usual <= high:
        raise ExportError(f"batches must rise from 1 on, got {batch}")
    if all(size >= 0 for shape in inputs.values() for size in shape):
        return {}
    frames = int(example["images"][0]) if "images" in example else 1
    ranges = {}
    for name, shape in inputs.items():
        sides = [_sides(name, axis, batch, frames, example.get(name)) for axis in range(len(shape))]
        fixed = [sides[axis] if size < 0 else (size,) * 3 for axis, size in enumerate(shape)]
        ranges[name] = tuple(tuple(side[i] for side in fixed) for i in range(3))
    return ranges  # type: ignore[return-value]


def _sides(
    name: str, axis: int, batch: tuple[int, int, int], frames: int, example: Sequence[int] | None
) -> tuple[int, int, int]:
    """Smallest, usual and largest size of an axis that varies."""
    table = "pool_" in name and not name.endswith(("pool_cells", "pool_offsets"))
    if not table:
        return batch
    if example is None:
        return _UNKNOWN[axis]
    if axis == 1:  # how many sums the fullest cell has left
        return 2, example[1], _SLACK * example[1] + 2
    per_frame = -(-example[0] // frames)
    return 2, max(per_frame * batch[1], 2), max(_SLACK * per_frame * batch[2], 2)
