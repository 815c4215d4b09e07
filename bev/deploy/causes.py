"""Why do a deployed network's inputs differ from those it was trained on? The usual causes, told apart by evidence.

Give :func:`diagnose` the tensor that the detector's own pre-processing makes of a frame and the one that the deployed
pipeline feeds. Every cause leaves a mark that no other one leaves: another layout is a transposition of the values,
swapped channels a permutation, another mean or scale a straight line within each channel, another resize kernel small
differences along edges that one of the known kernels reproduces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from bev.data.transforms.image import ImageTransform

KERNELS = ("area", "linear", "pil_bicubic", "pil_bilinear", "pyramid")
# A line through a channel explains it where what is left is below this share of the channel's spread.
_EXPLAINED = 1e-3


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong.

    Attributes:
        name: ``layout``, ``channels``, ``mean_std``, ``resize``, ``shape`` or ``unknown``.
        message: what it is, in numbers.
    """

    name: str
    message: str


def diagnose(
    reference: np.ndarray,
    given: np.ndarray,
    picture: np.ndarray | None = None,
    transform: ImageTransform | None = None,
) -> list[Cause]:
    """Causes of the difference; empty where there is none.

    Args:
        reference: (..., 3, H, W) as the network wants it.
        given: what the deployed pipeline feeds.
        picture: (h, w, 3) uint8 original of a reference of one uint8 image (3, H, W), to try resize kernels with.
        transform: of the reference, with its kernel.
    """
    reference = reference.astype(np.float64)
    fitting = _layouts(reference, given.astype(np.float64))
    if not fitting:
        return [Cause("shape", f"shape {given.shape} is no layout of {reference.shape}")]
    for (layout, values), swapped in product(fitting.items(), (False, True)):
        flipped = values[..., ::-1, :, :] if swapped else values
        line = _line(reference, flipped)
        if line is not None:
            return _named(layout, swapped, line)
    if picture is not None and transform is not None:
        return _kernel(reference, fitting, picture, transform)
    near = _line(reference, next(iter(fitting.values())), explained=0.5)
    kind = "the same picture, but not pixel by pixel (resize kernel, crop or JPEG decoder)"
    hint = "" if near is None else f": {kind}"
    return [Cause("unknown", f"no layout, channel order or straight line explains the difference{hint}")]


def _layouts(reference: np.ndarray, given: np.ndarray) -> dict[str, np.ndarray]:
    """Readings of the given values in the reference's shape, the plain one first."""
    found = {}
    height, width = reference.shape[-2:]
    last = (*reference.shape[:-3], height, width, 3)
    if given.shape == reference.shape:
        found["as given"] = given
        found["channels last in the memory of channels first"] = np.moveaxis(given.reshape(last), -1, -3)
        sideways = (*reference.shape[:-3], 3, width, height)
        found["rows and columns swapped"] = given.reshape(sideways).swapaxes(-1, -2)
    elif given.shape == last:
        found["channels last"] = np.moveaxis(given, -1, -3)
    elif given.shape == (*reference.shape[:-3], 3, width, height):
        found["rows and columns swapped"] = given.swapaxes(-1, -2)
    return found


def _line(reference: np.ndarray, given: np.ndarray, explained: float = _EXPLAINED) -> np.ndarray | None:
    """(3, 2) slope and intercept of each channel with ``given = slope * reference + intercept``; None where no line."""
    lines = []
    for channel in range(3):
        x, y = reference[..., channel, :, :].ravel(), given[..., channel, :, :].ravel()
        spread = x.std()
        if spread == 0 or y.std() == 0:
            return None
        slope = ((x - x.mean()) * (y - y.mean())).mean() / spread**2
        intercept = y.mean() - slope * x.mean()
        if slope <= 0 or np.abs(y - slope * x - intercept).mean() > explained * y.std():
            return None
        lines.append((slope, intercept))
    return np.array(lines)


def _named(layout: str, swapped: bool, line: np.ndarray) -> list[Cause]:
    causes = []
    if layout != "as given":
        causes.append(Cause("layout", f"{layout}; the network reads channels first (N, 3, H, W)"))
    if swapped:
        causes.append(Cause("channels", "red and blue are swapped (RGB given as BGR, or the reverse)"))
    if not np.allclose(line, [1.0, 0.0], atol=2e-3 * max(1.0, np.abs(line).max())):
        numbers = ", ".join(f"{slope:.4g} x {intercept:+.4g}" for slope, intercept in line)
        causes.append(Cause("mean_std", f"mean or scale differ: the channels are {numbers} of the wanted ones"))
    return causes


def _kernel(
    reference: np.ndarray, fitting: Mapping[str, np.ndarray], picture: np.ndarray, transform: ImageTransform
) -> list[Cause]:
    """The resize kernel that makes exactly what was given of the original picture."""
    candidates = {}
    for name in KERNELS:
        other = ImageTransform(
            transform.size,
            "stretch" if transform.stretch else transform.resize,
            transform.crop_y,
            transform.crop_x,
            pad_value=transform.pad_rgb,  # type: ignore[arg-type]
            method=name,  # type: ignore[arg-type]
        )
        candidates[name] = other(picture)[0].transpose(2, 0, 1).astype(np.float64)
    for (layout, values), swapped, name in product(fitting.items(), (False, True), candidates):
        flipped = values[..., ::-1, :, :] if swapped else values
        line = _line(candidates[name].reshape(reference.shape), flipped)
        if line is not None:
            message = f"resized with kernel {name!r}, the network's images with {transform.method!r}"
            return [*_named(layout, swapped, line), Cause("resize", message)]
    return [Cause("unknown", f"no layout, channel order, straight line or resize kernel of {KERNELS} explains it")]
