"""Views of one picture: where tiles lie, and that boxes come back to the picture's own px, whole and once."""

from __future__ import annotations

import argparse
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.engine.view_arguments import add_view_arguments, views_of
from bev.engine.views import NetworkInput, PictureViews, View, build_views, tile_starts
from bev.registry import ConfigError
from bev.structures import Boxes2D, ImageBatch

PREPARED = NetworkInput((128, 128))


class Finder:
    """A detector that is never wrong: the bounding box of what is red, and of what is blue, in every image."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, batch: ImageBatch) -> list[Boxes2D]:
        self.batches.append(tuple(batch.images.shape))
        return [self._image(*one) for one in zip(batch.images, batch.network_from_picture, batch.picture_px)]

    def _image(self, image: torch.Tensor, matrix: torch.Tensor, size_px: tuple[int, int]) -> Boxes2D:
        boxes, labels = [], []
        for label, channel in enumerate((0, 2)):
            others = [c for c in range(3) if c != channel]
            rows, columns = ((image[channel] > 150) & (image[others] < 80).all(0)).nonzero().unbind(1)
            if len(rows):
                corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                shift, scale = matrix[:2, 2].repeat(2), matrix[0, 0]
                boxes.append((torch.tensor(corners, dtype=torch.float64) - shift) / scale)
                labels.append(label)
        found = torch.stack(boxes) if boxes else torch.zeros(0, 4)
        limit = torch.tensor([size_px[1], size_px[0]] * 2)
        found = torch.min(found.clamp(min=0), limit).float()
        # The more of it is seen, the surer.
        area = (found[:, 2:] - found[:, :2]).prod(1)
        return Boxes2D(found, torch.tensor(labels, dtype=torch.int64), area / (area + 100))


def picture_with(size: tuple[int, int], red: tuple[int, ...], blue: tuple[int, ...] | None = None) -> np.ndarray:
    picture = np.zeros((*size, 3), np.uint8)
    for box, channel in ((red, 0), (blue, 2)):
        if box is not None:
            picture[box[1] : box[3], box[0] : box[2], channel] = 255
    return picture


def detect(views: PictureViews, picture: np.ndarray, finder: Finder | None = None) -> Boxes2D:
    return views.detect(finder or Finder(), picture, PREPARED, "p", "cpu")


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(16, 700), st.floats(0, 0.94))
def test_tiles_cover_a_side_and_overlap(length: int, tile: int, overlap: float) -> None:
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0 and starts == sorted(set(starts))
    if length <= tile:
        assert starts == [0]
        return
    assert starts[-1] == length - tile
    shared = [a + tile - b for a, b in pairwise(starts)]
    assert min(shared) >= int(tile * overlap)


def test_the_views_of_a_picture() -> None:
    views = PictureViews(flip=True, scales=(1.0, 1.5), tile_px=(100, 128), overlap=0.25)
    found = views.of((150, 200), (128, 128))
    regions = list(dict.fromkeys(view.region_px for view in found))
    assert regions == [(0, 0, 200, 150), (0, 0, 128, 100), (72, 0, 200, 100), (0, 50, 128, 150), (72, 50, 200, 150)]
    assert len(found) == len(set(found)) == 5 * 2 * 2
    assert {view.size_px for view in found} == {(128, 128), (192, 192)}
    # A picture that is no larger than a tile is its own tile; it is looked at once.
    assert PictureViews(tile_px=256).of((90, 200), (128, 128)) == [View((0, 0, 200, 90), (128, 128), False)]


# Tiles of 128 with a quarter of overlap begin at 0, 96, 172: borders at 96, 128, 172, 224.
ON_BORDERS = {
    "across one border": (120, 20, 140, 40),
    "ends at a border": (100, 20, 128, 40),
    "begins at a border": (96, 20, 110, 40),
    "across a corner of four tiles": (116, 116, 136, 140),
    "at the picture's own corner": (280, 280, 300, 300),
    "one pixel into a tile": (127, 60, 150, 80),
    "wider than the overlap": (100, 20, 170, 44),
}


@pytest.mark.parametrize("name", list(ON_BORDERS))
@pytest.mark.parametrize("flip", [False, True])
def test_objects_on_tile_borders_come_back_whole_once(name: str, flip: bool) -> None:
    """At a tile of the network's size nothing is resized, so coordinates are exact."""
    red, blue = ON_BORDERS[name], (10, 200, 26, 216)
    views = PictureViews(flip=flip, tile_px=128, overlap=0.25, whole=False, batch_size=3)
    found = detect(views, picture_with((300, 300), red, blue))
    assert len(found) == 2
    by_label = {int(label): box for label, box in zip(found.label, found.xyxy_px.tolist())}
    assert by_label[0] == [float(v) for v in red] and by_label[1] == [float(v) for v in blue]


def test_suppression_leaves_the_pieces_that_merging_joins() -> None:
    """Why ``hull`` is what tiles are merged by: half an object has too small an IoU with the whole one."""
    picture = picture_with((300, 300), (120, 20, 140, 40))
    pieces = detect(PictureViews(tile_px=128, overlap=0.25, whole=False, merge="nms"), picture)
    assert sorted(pieces.xyxy_px[:, 2].tolist()) == [128.0, 140.0]
    assert pieces.xyxy_px[0].tolist() == [120.0, 20.0, 140.0, 40.0]


def test_a_large_object_is_found_in_the_whole_picture() -> None:
    large = (20, 20, 280, 250)
    picture = picture_with((300, 300), large)
    found = detect(PictureViews(tile_px=128), picture)
    assert len(found) == 1
    np.testing.assert_allclose(found.xyxy_px[0], large, atol=3)


@pytest.mark.parametrize("place", ["corner", "center"])
@pytest.mark.parametrize("size", [(97, 131), (301, 64), (40, 50)])
def test_mirrored_and_scaled_views_agree(place: Any, size: tuple[int, int]) -> None:
    """Odd sizes, either letterbox: every view alone and their fusion give the object to a network pixel."""
    height, width = size
    red = (width // 5, height // 4, width // 2, height // 2)
    picture = picture_with(size, red)
    prepared = NetworkInput((128, 128), place)
    pixel = max(height, width) / 128 + 1e-3
    for options in (dict(flip=True), dict(scales=(0.75, 1.0, 1.5)), dict(flip=True, scales=(1.0, 2.0), merge="nms")):
        found = PictureViews(**options).detect(Finder(), picture, prepared, "p", "cpu")
        assert len(found) == 1
        np.testing.assert_allclose(found.xyxy_px[0], red, atol=1.4 * pixel)


def test_views_of_one_size_come_in_batches() -> None:
    finder = Finder()
    views = PictureViews(scales=(1.0, 0.5), tile_px=128, overlap=0.0, batch_size=4)
    detect(views, picture_with((256, 384), (0, 0, 9, 9)), finder)
    assert finder.batches == [*[(4, 3, 128, 128), (3, 3, 128, 128)], *[(4, 3, 64, 64), (3, 3, 64, 64)]]


def test_fusion_counts_the_votes() -> None:
    """What one view of two finds keeps half of its score; what both find, the mean."""
    views = PictureViews(flip=True)
    both = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    label = torch.zeros(1, dtype=torch.int64)
    one = Boxes2D(both, label, torch.tensor([0.8]))
    other = Boxes2D(both + 50, label, torch.tensor([0.6]))
    merged = views.merged([one, other])
    torch.testing.assert_close(merged.score, torch.tensor([0.4, 0.3]))
    agreed = views.merged([one, Boxes2D(both + 1, label, torch.tensor([0.4]))])
    torch.testing.assert_close(agreed.score, torch.tensor([0.6]))
    torch.testing.assert_close(agreed.xyxy_px[0], torch.tensor([1.0, 1.0, 31.0, 31.0]) / 3)
    assert len(views.merged([one[:0], one[:0]])) == 0


@pytest.mark.parametrize("options, message", [
    (dict(scales=[]), "scales"),
    (dict(scales=[0.0]), "scales"),
    (dict(tile_px=8), "tile_px"),
    (dict(tile_px=[64, 64, 64]), "tile_px"),
    (dict(whole=False), "nothing to look at"),
    (dict(overlap=1.0), "overlap"),
    (dict(merge="mean"), "nms, fusion, hull"),
    (dict(threshold=2), "threshold"),
    (dict(batch_size=0), "batch_size"),
    (dict(tiles=64), "test_cfg.views.tiles"),
])  # fmt: skip
def test_values_that_make_no_sense_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_views(options, "test_cfg.views")


def test_the_command_line_says_which_views() -> None:
    parser = argparse.ArgumentParser()
    add_view_arguments(parser)
    assert views_of(parser.parse_args([])) is None
    given = views_of(parser.parse_args("--flip --scales 0.8 1 --tiles 320 416 --overlap 0.3 --merge nms".split()))
    assert given is not None
    assert build_views(given, "x") == PictureViews(True, [0.8, 1.0], [320, 416], 0.3, merge="nms")
    alone = views_of(parser.parse_args("--tiles 416 --tiles-only --merge-threshold 0.4 --view-batch 2".split()))
    assert alone is not None
    assert build_views(alone, "x") == PictureViews(tile_px=416, whole=False, threshold=0.4, batch_size=2)
