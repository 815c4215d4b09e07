"""Every pixel of the network image is where the homography says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.data.transforms import ImageDraw, ImageTransform

METHODS = ("area", "pyramid", "linear", "pil_bicubic", "pil_bilinear")


def ramp(height: int, width: int) -> np.ndarray:
    """A picture whose red tells the column and whose green tells the row; dithered, so that rounding has no bias."""
    u, v = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    dither = np.random.default_rng(0).random((height, width, 3))
    return np.floor(np.stack([250 * u, 250 * v, np.full_like(u, 200)], -1) + dither).astype(np.uint8)


def position_error_px(image: np.ndarray, matrix: np.ndarray, original: tuple[int, int]) -> np.ndarray:
    """(P, 2) original px: where the content of well-inside pixels comes from, minus where the homography says."""
    height, width = image.shape[:2]
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    network = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3)
    expected = network @ np.linalg.inv(matrix).T
    size = np.array([original[1], original[0]])
    margin = 3 * max(1.0, 1 / abs(np.linalg.det(matrix)) ** 0.5)
    inside = ((expected[:, :2] > margin) & (expected[:, :2] < size - margin)).all(1)
    found = image.reshape(-1, 3)[:, :2] / 250 * size
    return (found - expected[:, :2])[inside]


draws = st.builds(
    ImageDraw,
    resize=st.floats(0, 1),
    crop_y=st.floats(0, 1),
    crop_x=st.floats(0, 1),
    rotate=st.floats(0, 1),
    flip=st.booleans(),
)


@pytest.mark.parametrize("method", METHODS)
@given(draw=draws, height=st.integers(60, 160), width=st.integers(100, 250))
@settings(max_examples=25, deadline=None)
def test_pixels_are_where_the_homography_says(method: str, draw: ImageDraw, height: int, width: int) -> None:
    transform = ImageTransform(
        (56, 96), resize=(0.3, 1.6), crop_y=(0, 1), crop_x=(0, 1), rotate_deg=(-20, 20), flip=0.5, method=method
    )
    image, matrix = transform(ramp(height, width), draw)
    assert image.shape == (56, 96, 3) and image.dtype == np.uint8
    error = position_error_px(image, matrix, (height, width))
    if len(error) < 100:
        return  # the window is nearly all padding
    # A grey level is up to a pixel. Rounding nearly cancels in the mean; a shift by half a pixel would not.
    assert np.abs(error.mean(0)).max() < 0.3
    assert np.abs(error).max() < 3.5


def test_the_bound_above_notices_half_a_pixel() -> None:
    image, matrix = ImageTransform((56, 96), resize=1.0)(ramp(100, 160))
    shifted = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]) @ matrix
    assert np.abs(position_error_px(image, matrix, (100, 160)).mean(0)).max() < 0.1
    assert np.abs(position_error_px(image, shifted, (100, 160)).mean(0)).min() > 0.4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # BEVDet: 1600x900 by .44 to 704x396, the lower 256 rows.
        (dict(size=(256, 704)), [[0.44, 0, 0], [0, 0.44, -140], [0, 0, 1]]),
        # BEVDet at test time: by .48 to 768x432, crop (32, 176, 736, 432).
        (dict(size=(256, 704), resize=0.48), [[0.48, 0, -32], [0, 0.48, -176], [0, 0, 1]]),
        # DETR3D: as it is, padded at the bottom to 928 rows.
        (dict(size=(928, 1600), resize=1.0, crop_y=0.0), [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        # BEVFormer-tiny: half, padded at the bottom to 480 rows.
        (dict(size=(480, 800), resize=0.5, crop_y=0.0), [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]),
        (dict(size=(128, 352), resize="stretch"), [[0.22, 0, 0], [0, 128 / 900, 0], [0, 0, 1]]),
    ],
)
def test_published_recipes(options: dict[str, object], expected: list[list[float]]) -> None:
    image, matrix = ImageTransform(**options)(ramp(900, 1600))  # type: ignore[arg-type]
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    assert image.shape[:2] == options["size"]


def test_padding_has_its_colour_and_no_resize_keeps_pixels() -> None:
    picture = ramp(90, 160)
    image, _ = ImageTransform((96, 160), resize=1.0, crop_y=0.0, pad_value=(1, 2, 3))(picture)
    np.testing.assert_array_equal(image[:90], picture)
    assert (image[90:] == [1, 2, 3]).all()


def test_draws_are_a_function_of_the_generator() -> None:
    transform = ImageTransform((56, 96), resize=(0.5, 1.0), flip=0.5)
    first, second = (transform.draw(np.random.default_rng(3)) for _ in range(2))
    assert first == second != transform.draw(np.random.default_rng(4))
    assert transform.is_random and not ImageTransform((56, 96), resize=0.5).is_random
    fixed = ImageTransform((56, 96), resize=(0.5, 0.5), flip=0.0)
    flips = [transform.draw(np.random.default_rng(i)).flip for i in range(200)]
    assert 60 < sum(flips) < 140 and not any(fixed.draw(np.random.default_rng(i)).flip for i in range(50))


@pytest.mark.parametrize(
    "options",
    [
        dict(size=(0, 10)),
        dict(size=(8, 8), method="cubic"),
        dict(size=(8, 8), resize=-1.0),
        dict(size=(8, 8), resize="fit"),
        dict(size=(8, 8), crop_y=(1, 0)),
        dict(size=(8, 8), flip=1.5),
        dict(size=(8, 8), pad_value=300),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="ImageTransform"):
        ImageTransform(**options)  # type: ignore[arg-type]
