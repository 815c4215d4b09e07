"""Shapes, types and launches of the plugins in plain Python.

A size is an int or anything that adds and multiplies with ints as TensorRT's symbolic sizes do: the same functions
describe a network with sizes that vary and launch a kernel on tensors. Sizes that a kernel is compiled for (channels,
heads, samples, bins) must be constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Size = Any  # int, or tensorrt.plugin.ShapeExpr
Shape = Sequence[Size]
HALVES = "FP32|FP16|BF16"


@dataclass(frozen=True)
class Launch:
    """One launch of a plugin's kernel.

    Attributes:
        kernel: the ``triton.jit`` function; arguments are inputs, sizes, outputs, constants.
        inputs: of the kernel from those of the plugin (nested as the kernel takes them).
        sizes: int32 arguments, nested likewise.
        grid: programs along three axes.
        constants: compile-time ones.
    """

    kernel: Any
    inputs: Callable[[Sequence[Any]], tuple[Any, ...]]
    sizes: tuple[Any, ...]
    grid: tuple[Size, Size, Size]
    constants: dict[str, Any]


@dataclass(frozen=True)
class PluginSpec:
    """A plugin ``bev::name``.

    Attributes:
        name: of the plugin and of the ONNX node.
        inputs: names in order.
        types: of the inputs, then of the output: TensorRT's names; ``|`` joins choices that go together.
        attributes: names; all are int.
        output_shape: of the inputs' shapes and the attributes.
        launch: likewise.
    """

    name: str
    inputs: tuple[str, ...]
    types: tuple[str, ...]
    attributes: tuple[str, ...]
    output_shape: Callable[[Sequence[Shape], Mapping[str, int]], tuple[Size, ...]]
    launch: Callable[[Sequence[Shape], Mapping[str, int]], Launch]

    @property
    def like(self) -> int:
        """The input whose type the output has."""
        return self.types.index(self.types[-1])


def _constant(size: Size, what: str) -> int:
    """The number behind a size.

    Raises:
        ValueError: it varies.
    """
    if isinstance(size, int):
        return size
    if not size.is_constant:
        raise ValueError(f"{what} must not vary in a network with this plugin: its kernel is compiled for one number")
    return int(size.constant_value())


def _blocks(size: Size, block: int) -> Size:
    return (size + (block - 1)) // block


def _product(sizes: Sequence[Size]) -> Size:
    result = sizes[0]
    for size in sizes[1:]:
        result = result * size
    return result


def _as_they_are(inputs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(inputs)


def _attention_shape(shapes: Sequence[Shape], attributes: Mapping[str, int]) -> tuple[Size, ...]:
    (batch, _, heads, channels), queries = shapes[0], shapes[3][1]
    return batch, queries, heads * channels


def _attention_launch(shapes: Sequence[Shape], attributes: Mapping[str, int]) -> Launch:
    import triton.language as tl

    from bev.ops.triton import folded_deformable_attention as kernels

    (batch, pixels, *inner), reference = shapes[0], shapes[2]
    heads, channels = (_constant(size, "heads and channels") for size in inner)
    queries = shapes[3][1]
    levels, points = (_constant(size, "levels and points") for size in shapes[3][3:5])
    own, dealt, numbers = (_constant(size, "the form of reference points") for size in reference[2:])
    rows = batch * queries * heads
    samples = heads * levels * points
    by_offset = (queries * (2 * samples), 2 * samples, 2 * levels * points)
    by_logit = (queries * samples, samples, levels * points)
    constants = kernels.constants(heads, levels, points, channels, (own, dealt, numbers)) | {"WIDE": tl.float32}
    sizes = (rows, queries, pixels * (heads * channels), *by_offset, *by_logit)
    return Launch(kernels._forward, _as_they_are, sizes, (_blocks(rows, kernels.ROWS), 1, 1), constants)


def _pool_frames(shapes: Sequence[Shape], attributes: Mapping[str, int]) -> Size:
    return shapes[0][0] // attributes["rows"] if attributes["rows"] else 1


def _pool_shape(shapes: Sequence[Shape], attributes: Mapping[str, int]) -> tuple[Size, ...]:
    return (shapes[3][0] - 1) * _pool_frames(shapes, attributes), shapes[1][1]


def _pool_launch(shapes: Sequence[Shape], attributes: Mapping[str, int]) -> Launch:
    import triton.language as tl

    from bev.ops.triton import bev_pool as kernels

    cells = shapes[3][0] - 1
    channels = _constant(shapes[1][1], "channels")
    constants = kernels.constants(_constant(shapes[0][1], "depth bins"), channels) | {"WIDE": tl.float32}
    grid = cells, _blocks(channels, constants["LANES"]), _pool_frames(shapes, attributes)
    return Launch(kernels._forward, _as_they_are, (attributes["rows"] or shapes[0][0], cells), grid, constants)


def _sampling_shape(shapes: Sequence[Shape], attributes: Mapping[str, int]) -> tuple[Size, ...]:
    return shapes[-1][0], shapes[-1][1], shapes[0][2]


def _sampling_launch(shapes: Sequence[Shape], attributes: Mapping[str, int]) -> Launch:
    import triton
    import triton.language as tl

    from bev.ops.triton import camera_sampling as kernels

    *maps, _, _, weights = shapes
    cameras, channels = (_constant(size, "cameras and channels") for size in maps[0][1:3])
    lanes = min(kernels.LANES, triton.next_power_of_2(channels))
    constants = {"CAMERAS": cameras, "POINTS": _constant(weights[3], "points of a query"), "CHANNELS": channels}
    constants |= {"PROJECT": True, "WIDE": tl.float32, "LANES": lanes}
    steps = []
    for level in maps:
        _, _, _, height, width = level
        cell = height * width
        steps.append((height, width, cell * (cameras * channels), cell * channels, cell, width, 1))
    sizes = (weights[1], attributes["image_height"], attributes["image_width"], tuple(steps))
    grid = weights[0] * weights[1], _blocks(channels, lanes), 1
    return Launch(
        kernels._forward, lambda inputs: (tuple(inputs[:-3]), *inputs[-3:]), sizes, grid, constants
    )


def _sampling(levels: int) -> PluginSpec:
    names = tuple(f"features_{level}" for level in range(levels))
    return PluginSpec(
        f"camera_sampling_{levels}",
        (*names, "points", "img_from_ref", "weights"),
        (*(HALVES,) * levels, "FP32", "FP32", "FP32", "FP32"),
        ("image_height", "image_width"),
        _sampling_shape,
        _sampling_launch,
    )


_GEOMETRY = ("stride_y", "stride_x", "padding_y", "padding_x", "dilation_y", "dilation_x")


def _conv_shape(shapes: Sequence[Shape], attributes: Mapping[str, int]) -> tuple[Size, ...]:
    maps, offset, weight = shapes[0], shapes[1], shapes[-1]
    return maps[0], weight[0], offset[2], offset[3]


def _conv_launch(shapes: Sequence[Shape], attributes: Mapping[str, int]) -> Launch:
    from bev.ops.triton import deform_conv as kernels

    maps, offset, weight = shapes[0], shapes[1], shapes[-1]
    masked = len(shapes) == 4
    taps = _constant(weight[2], "the kernel"), _constant(weight[3], "the kernel")
    groups = _constant(offset[1], "the number of offsets") // (2 * taps[0] * taps[1])
    constants = kernels.constants(_constant(maps[1], "channels"), groups, taps, masked)
    sizes = (weight[0], maps[2], maps[3], offset[2], offset[3], *(attributes[name] for name in _GEOMETRY))
    grid = (
        _blocks(offset[2] * offset[3], constants["PIXELS"]),
        _blocks(weight[0], constants["OUTPUTS"]),
        maps[0],
    )
    kernel = kernels._modulated if masked else kernels._plain
    return Launch(kernel, _as_they_are, sizes, grid, constants)


_SPECS = (
    PluginSpec(
        "deformable_attention",
        ("value", "levels", "reference", "offsets", "logits"),
        (HALVES, "INT32", "FP32", HALVES, HALVES, HALVES),
        (),
        _attention_shape,
        _attention_launch,
    ),
    PluginSpec(
        "bev_pool",
        ("depth", "features", "order", "offsets"),
        (HALVES, HALVES, "INT32", "INT32", HALVES),
        ("rows",),
        _pool_shape,
        _pool_launch,
    ),
    *(_sampling(levels) for levels in range(1, 6)),
    PluginSpec(
        "modulated_deform_conv",
        ("maps", "offset", "mask", "weight"),
        (HALVES,) * 5,
        _GEOMETRY,
        _conv_shape,
        _conv_launch,
    ),
    PluginSpec("deform_conv", ("maps", "offset", "weight"), (HALVES,) * 4, _GEOMETRY, _conv_shape, _conv_launch),
)
PLUGINS = {spec.name: spec for spec in _SPECS}
