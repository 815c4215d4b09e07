"""Every cause of differing inputs that people meet is planted, and recognised by its name."""

from __future__ import annotations

import numpy as np
import pytest

from bev.data.transforms.image import ImageTransform
from bev.deploy.causes import KERNELS, diagnose

MEAN = np.array([123.675, 116.28, 103.53])[:, None, None]
STD = np.array([58.395, 57.12, 57.375])[:, None, None]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Edges, gradients and different colours: (120, 200, 3)."""
    y, x = np.mgrid[0:120, 0:200]
    channels = [(x * 7 + y) % 256, (128 + 100 * np.sin(x / 3) * np.cos(y / 5)), 255.0 * ((x // 11 + y // 7) % 2)]
    return np.stack(channels, -1).astype(np.uint8)


@pytest.fixture(scope="module")
def wanted(picture: np.ndarray) -> np.ndarray:
    """(2, 3, 48, 80) normalised."""
    small = ImageTransform((48, 80), method="area")(picture)[0].transpose(2, 0, 1)
    return np.stack([(small - MEAN) / STD, (small[:, ::-1] - MEAN) / STD])


def _names(causes: list) -> list[str]:
    return [cause.name for cause in causes]


def test_nothing_is_wrong(wanted: np.ndarray) -> None:
    assert diagnose(wanted, wanted.astype(np.float32)) == []


@pytest.mark.parametrize("layout", ["last", "memory", "transposed"])
def test_layout(wanted: np.ndarray, layout: str) -> None:
    planted = {
        "last": np.moveaxis(wanted, 1, -1),
        "memory": np.ascontiguousarray(np.moveaxis(wanted, 1, -1)).reshape(wanted.shape),
        "transposed": wanted.swapaxes(-1, -2),
    }
    assert _names(diagnose(wanted, planted[layout])) == ["layout"]


def test_channels(wanted: np.ndarray) -> None:
    """Pixels swapped before a normalisation whose mean stays: the line of each channel shifts a little, too."""
    assert _names(diagnose(wanted, wanted[:, ::-1])) == ["channels"]
    pixels = wanted * STD + MEAN
    assert _names(diagnose(wanted, (pixels[:, ::-1] - MEAN) / STD)) == ["channels", "mean_std"]


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (MEAN, 1.0), (MEAN / 255, STD / 255), (127.5, 127.5)])
def test_mean_and_std(wanted: np.ndarray, mean: np.ndarray, std: np.ndarray) -> None:
    pixels = wanted * STD + MEAN
    causes = diagnose(wanted, (pixels - mean) / std)
    assert _names(causes) == ["mean_std"] and " x " in causes[0].message


def test_several_at_once(wanted: np.ndarray) -> None:
    planted = np.moveaxis((wanted * STD + MEAN)[:, ::-1], 1, -1)
    assert _names(diagnose(wanted, planted)) == ["layout", "channels", "mean_std"]


@pytest.mark.parametrize("kernel", [name for name in KERNELS if name != "pil_bicubic"])
def test_resize_kernel(picture: np.ndarray, kernel: str) -> None:
    ours = ImageTransform((45, 75), method="pil_bicubic")
    reference = ours(picture)[0].transpose(2, 0, 1)
    planted = ImageTransform((45, 75), method=kernel)(picture)[0].transpose(2, 0, 1)
    causes = diagnose(reference, planted, picture, ours)
    assert _names(causes) == ["resize"] and "'pil_bicubic'" in causes[0].message
    explained = [n for n in KERNELS if f"kernel '{n}'" in causes[0].message]
    again = ImageTransform((45, 75), method=explained[0])(picture)[0].transpose(2, 0, 1)
    assert np.array_equal(again, planted)


def test_what_is_not_known_is_said(wanted: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(size=wanted.shape)
    assert _names(diagnose(wanted, noise)) == ["unknown"]
    assert _names(diagnose(wanted, noise[..., 1:])) == ["shape"]
    near = diagnose(wanted, wanted + 0.05 * noise)
    assert _names(near) == ["unknown"] and "resize kernel" in near[0].message
