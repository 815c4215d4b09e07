"""Title and legend: what they say, that every letter has a glyph, and that long legends are wrapped."""

from dataclasses import replace

import numpy as np
import pytest

from bev.viz import DrawOptions, legend
from bev.viz.palette import HEIGHT_RANGE_M, height_colors
from bev.viz.style import box_layers
from tests.models.rigs import random_boxes
from tests.viz.test_draw import make_sample

OPTIONS = DrawOptions()


@pytest.fixture
def written(monkeypatch):
    """All texts that were drawn."""
    texts, draw = [], legend.draw_text

    def spy(picture, text, *arguments):
        texts.append(text)
        draw(picture, text, *arguments)

    monkeypatch.setattr(legend, "draw_text", spy)
    return texts


def test_the_title_counts_what_is_drawn(written):
    sample, found = make_sample(), random_boxes(4)
    found.score[:] = 0.9
    found.score[0] = 0.1
    layers = box_layers(sample, found, OPTIONS)
    legend.draw_title(sample, layers, 2000, 20, OPTIONS)
    assert written == ["3 predictions (score at least 0.25)    7 ground truth boxes", "scene-1 t0"]
    assert all(ord(letter) < 128 for text in written for letter in text)  # what Pillow's own font has


def test_a_title_without_room_leaves_the_name_out(written):
    sample = replace(make_sample(), token="0123456789abcdef" * 2)
    layers = box_layers(sample, None, OPTIONS)
    for width, name in ((900, f"scene-1 {sample.token}"), (450, "scene-1 01234567..."), (220, "")):
        written.clear()
        assert legend.draw_title(sample, layers, width, 20, OPTIONS).shape == (38, width, 3)
        assert written[1] == name


def test_the_legend_explains_boxes_arrows_and_points(written):
    layers = box_layers(make_sample(), random_boxes(3), OPTIONS)
    picture = legend.draw_legend(layers, True, 3000, 20)
    assert {"prediction:", "ground truth", "heading", "velocity, way of 1 s"} <= set(written)
    low, high = (height_colors(np.array([h]))[0] for h in HEIGHT_RANGE_M)
    assert (picture == low).all(-1).any() and (picture == high).all(-1).any()
    written.clear()
    legend.draw_legend(box_layers(replace(make_sample(), boxes=None), None, OPTIONS), False, 3000, 20)
    assert written == []


def test_a_long_legend_is_wrapped():
    layers = box_layers(make_sample(), random_boxes(40), OPTIONS)
    wide, narrow = (legend.draw_legend(layers, True, width, 20) for width in (3000, 500))
    assert narrow.shape[1] == 500 and narrow.shape[0] >= 3 * (wide.shape[0] - 6)
