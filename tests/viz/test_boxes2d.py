"""Boxes on single pictures: names that can be read, sheets that explain their colours, files in their folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from bev.data.detection2d import PictureDataset, PictureList
from bev.data.detection2d.records import collect_objects, make_record
from bev.structures import Boxes2D, ImageBatch
from bev.viz.boxes2d import batch_sheet, draw_boxes, draw_found
from bev.viz.palette import class_color
from bev.viz.text import text_mask

CLASSES = ("cell", "wall")


def boxes(*rows: tuple[float, ...]) -> Boxes2D:
    table = torch.tensor(rows)
    return Boxes2D(table[:, :4], table[:, 4].long(), table[:, 5])


def test_a_name_does_not_cover_a_better_ones() -> None:
    """Two boxes at one place: the tag is the better one's; far apart both have theirs."""
    black = np.zeros((120, 160, 3), np.uint8)
    near = draw_boxes(black, boxes((20, 40, 60, 80, 0, 0.9), (22, 41, 61, 81, 1, 0.5)), CLASSES)
    alone = draw_boxes(black, boxes((20, 40, 60, 80, 0, 0.9)), CLASSES)
    np.testing.assert_array_equal(near[:39], alone[:39])
    far = draw_boxes(black, boxes((20, 40, 60, 80, 0, 0.9), (22, 100, 61, 118, 1, 0.5)), CLASSES)
    assert (far[85:100] == np.array(class_color("wall", 1))).all(-1).sum() > 50
    plain = draw_boxes(black, boxes((20, 40, 60, 80, 0, 0.9)), CLASSES, with_scores=False, with_names=False)
    assert not plain[:39].any() and not plain[43:78, 23:58].any()


def test_a_sheet_explains_the_classes_that_occur() -> None:
    images = torch.zeros(2, 3, 60, 80, dtype=torch.uint8)
    batch = ImageBatch(images, torch.eye(3, dtype=torch.float64).repeat(2, 1, 1), [(60, 80)] * 2, ["a", "b"])
    found = [boxes((10, 10, 30, 30, 1, 1.0)), boxes((10, 10, 30, 30, 1, 1.0))]
    picture = batch_sheet(batch, found, CLASSES, with_scores=False)
    legend = picture[: picture.shape[0] - 600]
    assert picture.shape[1] == 1600 and 20 < len(legend) < 80
    assert (legend == np.array(class_color("wall", 1))).all(-1).any()
    assert not (legend == np.array(class_color("cell", 0))).all(-1).any()
    empty = batch_sheet(batch, [found[0][:0]] * 2, CLASSES, with_scores=False)
    assert empty.shape == (600, 1600, 3)


def test_letters_beyond_ascii_are_letters() -> None:
    """Not the one sign that stands for every letter that a font lacks."""
    masks = [text_mask(letter, 20) for letter in ("\u00fc", "\u00e4", "\u00df")]
    assert all(mask.max() > 0.5 for mask in masks)
    assert not any(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(masks, masks[1:]))


def test_drawings_stay_in_their_folder(tmp_path: Path) -> None:
    """Tokens of lists may be absolute, or lead upwards."""
    (tmp_path / "data").mkdir()
    assert cv2.imwrite(str(tmp_path / "data/a.png"), np.zeros((20, 20, 3), np.uint8))
    path = tmp_path / "data/a.png"
    records = tuple(
        make_record(path, token, number, collect_objects([], token, (20, 20)), (20, 20))
        for number, token in enumerate((str(path), "../b.png"))
    )
    dataset = PictureDataset(PictureList("x", CLASSES, (0, 1), records), (32, 32))
    found = {record.token: boxes((2, 2, 9, 9, 0, 0.9)) for record in records}
    for drawn in draw_found(dataset, found, tmp_path / "out"):
        assert drawn.is_file() and drawn.resolve().is_relative_to((tmp_path / "out").resolve())
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["a.png"]
