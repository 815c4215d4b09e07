"""Colours that people with any colour vision tell apart, and ramps that are read by brightness."""

import itertools

import numpy as np
import pytest

from bev.viz.palette import CLASS_COLORS, GROUND, MARK, PAGE, SERIES, heat_colors, ramp_colors

# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(color):
    value = np.asarray(color, float) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    """(..., 3) linear sRGB -> L, a, b (https://bottosson.github.io/posts/oklab/)."""
    lms = rgb @ np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    ).T
    return np.cbrt(lms) @ np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    ).T


def seen(color, sight):
    return oklab(np.clip(linear(color) @ np.asarray(SIGHT[sight]).T, 0, 1))


def nearest(colors, sight):
    pairs = itertools.combinations(colors.items(), 2)
    return min((float(np.linalg.norm(seen(a, sight) - seen(b, sight))), x, y) for (x, a), (y, b) in pairs)


def test_oklab_by_known_values():
    assert oklab(np.ones(3)) == pytest.approx([1, 0, 0], abs=1e-4)
    assert oklab(np.array([1.0, 0, 0])) == pytest.approx([0.628, 0.2249, 0.1258], abs=1e-3)


def test_two_colours_of_one_look_are_found_out():
    """Red and green of one brightness: far apart for most people, near for deuteranopes."""
    pair = {"red": (200, 80, 60), "green": (105, 125, 50)}
    assert nearest(pair, "normal")[0] > 0.15 > 0.08 > nearest(pair, "deuteranopia")[0]


@pytest.mark.parametrize("sight", SIGHT)
def test_classes_are_told_apart(sight):
    assert nearest(CLASS_COLORS, sight)[0] > 0.08, nearest(CLASS_COLORS, sight)


@pytest.mark.parametrize("sight", SIGHT)
def test_lines_of_a_plot_are_told_apart_and_from_the_page(sight):
    lines = {str(i): color for i, color in enumerate(SERIES)} | {"page": PAGE}
    assert nearest(lines, sight)[0] > 0.08, nearest(lines, sight)


@pytest.mark.parametrize("sight", SIGHT)
def test_classes_and_marks_stand_out_from_the_ground(sight):
    for name, color in {**CLASS_COLORS, "mark": MARK}.items():
        assert np.linalg.norm(seen(color, sight) - seen(GROUND, sight)) > 0.3, name


@pytest.mark.parametrize("ramp", [ramp_colors, heat_colors])
@pytest.mark.parametrize("sight", SIGHT)
def test_ramps_grow_brighter_for_everyone(ramp, sight):
    lightness = seen(ramp(np.linspace(0, 1, 24)), sight)[:, 0]
    assert (np.diff(lightness) > 0).all()
    assert (ramp(np.array([np.nan, -1])) == ramp(np.array([0.0, 0.0]))).all()
