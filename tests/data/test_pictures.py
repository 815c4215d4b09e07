"""Picture data sets: the three formats without conversion, damaged files, augmentation, balance, anchors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bev.data import Draw, PictureDataset
from bev.data.detection2d import (
    Chance,
    Picture,
    PictureList,
    mixing,
    pixels,
    read_coco,
    read_picture,
    read_voc,
    read_yolo,
    shapes,
)
from bev.data.detection2d.anchors import box_sizes, fit_anchors, shape_iou
from bev.data.detection2d.balance import equal_shares, held_classes, repeated
from bev.engine.config import load_config
from bev.io import FileError
from bev.registry import DATASETS
from bev.structures import collate_images
from tests.paths import REPO_ROOT, real_data_dir

BOXES = [[(10.0, 20.0, 50.0, 60.0, 0), (0.0, 0.0, 30.0, 16.0, 1)], [(64.0, 32.0, 96.0, 64.0, 1)], []]
SIZE = (80, 120)
CLASSES = ("cat", "dog")


def _write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(len(BOXES)):
        noise = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"p{number}.png"), noise)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "voc"
    _write_pictures(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("p0\np1\np2\n")
    for number, rows in enumerate(BOXES):
        objects = "".join(
            f"<object><name>{CLASSES[c]}</name><difficult>{int(number == 1)}</difficult><bndbox><xmin>{x + 1}</xmin>"
            f"<ymin>{y + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            for x, y, right, bottom, c in rows
        )
        size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
        (root / f"Annotations/p{number}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return root


@pytest.fixture
def coco(tmp_path: Path) -> tuple[Path, Path]:
    _write_pictures(tmp_path / "coco/images")
    images = [{"id": 10 + n, "file_name": f"p{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in range(3)]
    annotations = [
        {"id": 1, "image_id": 10 + n, "category_id": (7, 3)[c], "bbox": [x, y, r - x, b - y], "iscrowd": int(n == 1)}
        for n, rows in enumerate(BOXES)
        for x, y, r, b, c in rows
    ]
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    path = tmp_path / "coco/a.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path, tmp_path / "coco/images"


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    root = tmp_path / "yolo"
    _write_pictures(root / "images/train")
    (root / "labels/train").mkdir(parents=True)
    for number, rows in enumerate(BOXES[:2]):  # the third has no label file: no objects
        lines = [
            f"{c} {(x + r) / 2 / SIZE[1]} {(y + b) / 2 / SIZE[0]} {(r - x) / SIZE[1]} {(b - y) / SIZE[0]}"
            for x, y, r, b, c in rows
        ]
        (root / f"labels/train/p{number}.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nnames: {0: cat, 1: dog}\n")
    return root


def test_three_formats_tell_the_same(voc: Path, coco: tuple[Path, Path], yolo: Path) -> None:
    lists = [read_voc(voc, "train"), read_coco(*coco), read_yolo(yolo)]
    for pictures in lists:
        assert pictures.classes == CLASSES and len(pictures.records) == 3
        for record, rows in zip(pictures.records, BOXES):
            expected = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
            np.testing.assert_allclose(record.boxes_px, expected, atol=1e-3)
            assert record.label.tolist() == [row[4] for row in rows] and record.size_px == SIZE
    assert lists[0].records[1].crowd.tolist() == lists[1].records[1].crowd.tolist() == [True]
    assert lists[1].category_ids == (7, 3) and lists[1].records[0].image_id == 10
    assert read_coco(*coco, classes=["dog"], keep_empty=False).records[0].label.tolist() == [0]


def test_crowds_are_not_taught(coco: tuple[Path, Path]) -> None:
    dataset = PictureDataset(read_coco(*coco), (80, 120))
    sample = dataset[1]
    assert sample.boxes is not None and len(sample.boxes) == 0
    assert [a["iscrowd"] for a in dataset.metainfo["annotations"]["annotations"]] == [0, 0, 1]


def test_samples_are_letterboxed_and_point_back(voc: Path) -> None:
    sample = PictureDataset(read_voc(voc, "train"), (160, 160))[0]
    assert sample.image.shape == (3, 160, 160) and sample.image.dtype == torch.uint8
    matrix = sample.network_from_picture
    assert matrix[0, 0] == pytest.approx(160 / 120) and sample.picture_px == SIZE
    assert sample.boxes is not None
    back = sample.boxes.xyxy_px.double() / matrix[0, 0]
    expected = torch.tensor([row[:4] for row in BOXES[0]], dtype=torch.float64)
    torch.testing.assert_close(back, expected, atol=1e-3, rtol=0)
    assert bool((sample.image[:, 110:] == 114).all())


BREAKS: dict[str, Any] = {
    "xml": lambda voc: (voc / "Annotations/p0.xml").write_text("<annotation><object>"),
    "number": lambda voc: (voc / "Annotations/p0.xml").write_text(
        "<annotation><object><name>cat</name><bndbox><xmin>a</xmin></bndbox></object></annotation>"
    ),
    "turned": lambda voc: (voc / "Annotations/p0.xml").write_text(
        (voc / "Annotations/p0.xml").read_text().replace("<xmin>11.0", "<xmin>99")
    ),
    "bomb": lambda voc: (voc / "Annotations/p0.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>'),
    "gone": lambda voc: (voc / "JPEGImages/p0.png").unlink(),
    "cut": lambda voc: (voc / "JPEGImages/p0.png").write_bytes((voc / "JPEGImages/p0.png").read_bytes()[:500]),
    "size": lambda voc: cv2.imwrite(str(voc / "JPEGImages/p0.png"), np.zeros((10, 10, 3), np.uint8)),
}


@pytest.mark.parametrize("how", list(BREAKS))
def test_damaged_files_follow_on_error(voc: Path, how: str) -> None:
    BREAKS[how](voc)
    with pytest.raises(FileError, match="p0"):
        PictureDataset(read_voc(voc, "train", CLASSES), SIZE)[0]
    dataset = PictureDataset(read_voc(voc, "train", CLASSES), SIZE, on_error="skip")
    assert dataset[0].token == "p1" and dataset.faults() == {"skipped": ["p0"]}


def test_files_that_are_no_annotations_are_named(voc: Path, coco: tuple[Path, Path], yolo: Path) -> None:
    with pytest.raises(FileError, match="absent.txt"):
        read_voc(voc, "absent")
    with pytest.raises(FileError, match="unknown class 'dog'.*did you mean 'dogs'"):
        read_voc(voc, "train", ("cat", "dogs"))
    content = json.loads(coco[0].read_text())
    content["annotations"][0]["image_id"] = 99
    coco[0].write_text(json.dumps(content))
    with pytest.raises(FileError, match="picture 99"):
        read_coco(*coco)
    coco[0].write_text("[1, 2")
    with pytest.raises(FileError, match="a.json"):
        read_coco(*coco)
    (yolo / "labels/train/p0.txt").write_text("0 0.5 0.5 0.1\n")
    with pytest.raises(FileError, match="p0.txt: line 1"):
        PictureDataset(read_yolo(yolo), SIZE)
    (yolo / "labels/train/p0.txt").write_text("2 0.5 0.5 0.1 0.1\n")
    assert "class of 2" in str(read_yolo(yolo).records[0].problem)


@pytest.mark.parametrize("line", ["nan .5 .5 .1 .1", "inf .5 .5 .1 .1", ".5 .5 .5 .1 .1", "0 nan .5 .1 .1"])
def test_labels_that_are_no_numbers_are_a_problem_of_their_picture(yolo: Path, line: str) -> None:
    (yolo / "labels/train/p0.txt").write_text(line)
    problems = [record.problem for record in read_yolo(yolo).records]
    assert "p0.txt: line 1" in str(problems[0]) and problems[1:] == [None, None]


def test_pictures_of_every_depth_and_channel(yolo: Path) -> None:
    """Grey, with alpha, of 16 bits, of a palette and of one pixel; each with its box where the colour is."""
    colour = np.full((80, 120, 3), 40, np.uint8)
    colour[20:40, 30:60] = 220
    wide = colour.astype(np.uint16) * 257
    for old in (*(yolo / "images/train").iterdir(), *(yolo / "labels/train").iterdir()):
        old.unlink()
    files = {
        **{"grey.png": colour[..., 0], "alpha.png": np.dstack([colour, colour[..., :1] // 40])},
        **{"deep.png": wide, "deep_grey.tif": wide[..., 0], "UPPER.JPG": colour, "plain.webp": colour},
    }
    for name, stored in files.items():
        assert cv2.imwrite(str(yolo / "images/train" / name), stored)
    Image.fromarray(colour).convert("P").save(yolo / "images/train/palette.png")
    Image.fromarray(colour).convert("CMYK").save(yolo / "images/train/cmyk.jpg")
    names = [path.stem for path in (yolo / "images/train").iterdir()]
    assert cv2.imwrite(str(yolo / "images/train/point.png"), colour[:1, :1])
    for name in names:
        (yolo / f"labels/train/{name}.txt").write_text("1 0.375 0.375 0.25 0.25\n")
    dataset = PictureDataset(read_yolo(yolo), (40, 60))
    assert len(dataset) == 9
    for sample in (dataset[i] for i in range(len(dataset))):
        assert sample.image.shape == (3, 40, 60) and sample.image.dtype == torch.uint8 and sample.boxes is not None
        if sample.token.endswith("point.png"):
            assert len(sample.boxes) == 0
            continue
        assert sample.boxes.xyxy_px.tolist() == [[15.0, 10.0, 30.0, 20.0]] and sample.boxes.label.tolist() == [1]
        inner, outer = sample.image[:, 12:18, 17:28].float(), sample.image[:, 24:, :].float()
        assert float(inner.min()) > 180 and float(outer.max()) < 90, sample.token


def test_coco_files_with_unknown_sizes_and_doubled_ids(coco: tuple[Path, Path]) -> None:
    content = json.loads(coco[0].read_text())
    for image in content["images"]:
        image |= {"height": 0, "width": 0}
    coco[0].write_text(json.dumps(content))
    pictures = read_coco(*coco)
    assert all(record.size_px is None and record.problem is None for record in pictures.records)
    assert sum(len(record.label) for record in pictures.records) == len(content["annotations"])
    content["images"][1]["id"] = content["images"][0]["id"]
    coco[0].write_text(json.dumps(content))
    with pytest.raises(FileError, match="two pictures have the id"):
        read_coco(*coco)


def test_windows_files_and_lists_are_read(yolo: Path) -> None:
    """Windows line ends, a byte-order mark, separators, absolute and relative paths, umlauts and spaces, polygons."""
    name = "Zelle 1 \u00fc"
    for folder, old, suffix in (("images", "p0", ".png"), ("labels", "p0", ".txt")):
        (yolo / folder / f"train/{old}{suffix}").rename(yolo / folder / f"train/{name}{suffix}")
    label = yolo / f"labels/train/{name}.txt"
    label.write_bytes(("\ufeff" + label.read_text().replace("\n", "\r\n")).encode())
    (yolo / "labels/train/p1.txt").write_text(f"1 {64 / 120} {32 / 80} {96 / 120} {32 / 80} {80 / 120} {64 / 80}\n")
    listed = [str((yolo / f"images/train/{name}.png").resolve()), "images\\train\\p1.png", "./images/train/p2.png"]
    (yolo / "lists").mkdir()
    (yolo / "lists/train.txt").write_bytes("\r\n".join([*listed, ""]).encode())
    classes = "names:\r\n  '0': cat\r\n  '1': dog\r\n"
    (yolo / "data.yaml").write_bytes(f"\ufefftrain: lists/train.txt\r\nnc: 2\r\n{classes}".encode())
    pictures = read_yolo(yolo / "data.yaml")
    assert pictures.classes == CLASSES and all(r.problem is None for r in pictures.records)
    for record, rows in zip(pictures.records, BOXES):
        np.testing.assert_allclose(record.boxes_px, np.array([r[:4] for r in rows]).reshape(-1, 4), atol=1e-3)
        assert read_picture(record).image.shape == (*SIZE, 3)
    (yolo / "data.yaml").write_text("train: ../images/train\nnames: [cat, dog]\n")
    assert len(read_yolo(yolo).records) == 3
    (yolo / "data.yaml").write_text("train: images/train\nnc: 3\nnames: [cat, dog]\n")
    with pytest.raises(FileError, match="2 names, but 'nc' is 3"):
        read_yolo(yolo)


def test_a_voc_folder_without_lists_and_names_with_spaces(voc: Path) -> None:
    for folder, suffix in (("JPEGImages", ".png"), ("Annotations", ".xml")):
        (voc / folder / f"p0{suffix}").rename(voc / folder / f"p 0{suffix}")
    (voc / "JPEGImages/p1.png").rename(voc / "JPEGImages/p1.PNG")
    (voc / "ImageSets/Main/train.txt").write_bytes(b"p 0  1\r\np1 -1\r\np2\r\n")
    listed = read_voc(voc, "train")
    assert listed.classes == CLASSES and [r.token for r in listed.records] == ["p 0", "p1", "p2"]
    assert all(read_picture(record).size_px == SIZE for record in listed.records)
    for path in (voc / "Annotations").iterdir():
        path.rename(voc / "JPEGImages" / path.name)
    everything = read_voc(voc, None, annotations="JPEGImages")
    assert [r.boxes_px.tolist() for r in everything.records] == [r.boxes_px.tolist() for r in listed.records]


def test_an_all_broken_folder_ends(voc: Path) -> None:
    for path in (voc / "JPEGImages").iterdir():
        path.write_bytes(b"")
    with pytest.raises(FileError, match="3 pictures in a row"):
        PictureDataset(read_voc(voc, "train"), SIZE, on_error="skip")[0]


AUGMENTED = [
    dict(type="Mosaic"),
    dict(type="RandomAffine"),
    dict(type="MixUp", beta=8.0),
    dict(type="CopyPaste", probability=1.0),
    dict(type="HsvJitter"),
    dict(type="RandomDistort"),
    dict(type="RandomErasing", probability=1.0, fill=None),
    dict(type="RandomExpand", probability=1.0),
    dict(type="RandomFlip", horizontal=0.5, vertical=0.5),
]


def _node(voc: Path, **options: Any) -> dict[str, Any]:
    return dict(type="PictureDataset", pictures=dict(type="VocPictures", root=str(voc), split="train"), **options)


def test_a_draw_says_everything(voc: Path) -> None:
    """Same draw, same sample, from a fresh data set with or without a cache; another seed, another sample."""
    first = DATASETS.build(_node(voc, size=[(64, 64), (96, 96)], transforms=AUGMENTED, cache="memory"))
    second = DATASETS.build(_node(voc, size=[(64, 64), (96, 96)], transforms=AUGMENTED))
    draws = [Draw(n % 3, (5, n), (0, n // 2)) for n in range(12)]
    for draw in draws:
        a, b = first[draw], second[draw]
        assert torch.equal(a.image, b.image) and torch.equal(a.boxes.xyxy_px, b.boxes.xyxy_px)
    shapes_of = [first[draw].image.shape for draw in draws]
    assert all(len(set(shapes_of[n : n + 2])) == 1 for n in range(0, 12, 2)) and len(set(shapes_of)) == 2
    assert not torch.equal(first[draws[0]].image, first[Draw(0, (6, 0), (0, 0))].image)


def test_the_last_epochs_have_their_own_transforms(voc: Path) -> None:
    dataset = DATASETS.build(
        _node(voc, size=SIZE, transforms=[dict(type="Mosaic")], last_transforms=[], close_epoch=3)
    )
    plain = DATASETS.build(_node(voc, size=SIZE))[0].image
    assert torch.equal(dataset[Draw(0, (0, 3, 0), epoch=3)].image, plain)
    assert not torch.equal(dataset[Draw(0, (0, 2, 0), epoch=2)].image, plain)


def _marked(rng: np.random.Generator, size: tuple[int, int] = (90, 130)) -> Picture:
    """A black picture with two coloured rectangles, each its box's own colour: 200 of channel 0 or 1."""
    image = np.zeros((*size, 3), np.uint8)
    boxes = []
    for channel, region in enumerate(((5, 45), (70, 110))):
        left, top = int(rng.integers(region[0], region[0] + 8)), int(rng.integers(5, 40))
        w, h = int(rng.integers(12, 28)), int(rng.integers(12, 40))
        image[top : top + h, left : left + w, channel] = 200
        boxes.append([left, top, left + w, top + h])
    return Picture(image, np.array(boxes, np.float32), np.array([0, 1]), np.eye(3), size, "m")


MOVES = [
    shapes.RandomAffine(rotate_deg=0, shear_deg=0, scale=(0.7, 1.6), shift=0.1, pad_value=0),
    shapes.RandomFlip(1.0, 0.0),
    shapes.RandomFlip(0.0, 1.0),
    shapes.RandomExpand(1.0, (1.0, 2.0), pad_value=0),
    mixing.CopyPaste(0.0),
]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(range(len(MOVES))))
def test_boxes_follow_their_pixels(seed: int, which: int) -> None:
    """After any move the boxes are the bounding rectangles of their colour, to a pixel."""
    rng = np.random.default_rng(seed)
    picture = _marked(rng)
    result = MOVES[which](picture, Chance(rng, (90, 130), lambda: picture))
    for box, label in zip(result.boxes_px, result.label):
        rows, columns = np.nonzero(result.image[..., label] > 100)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, found, atol=1.01)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_mosaics_keep_boxes_on_their_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    result = mixing.Mosaic()(_marked(rng), Chance(rng, (90, 130), lambda: _marked(rng)))
    assert result.size_px == (180, 260)
    for box, label in zip(result.boxes_px, result.label):
        left, top, right, bottom = box.round().astype(int)
        assert result.image[top + 1 : bottom - 1, left + 1 : right - 1, label].mean() > 150


def test_mixtures_keep_all_boxes_and_their_inputs() -> None:
    rng = np.random.default_rng(0)
    picture, other = _marked(rng), _marked(rng)
    # A texture: what Poisson blending keeps of a patch are its gradients.
    other.image[:] = np.where(other.image > 0, rng.integers(0, 2, other.image.shape) * 200, 0)
    kept = picture.image.copy(), other.image.copy()
    chance = Chance(rng, (90, 130), lambda: other)
    mixed = mixing.MixUp(scale=(1.0, 1.0))(picture, chance)
    assert mixed.label.tolist() == [0, 1, 0, 1]
    for blend in ("paste", "poisson"):
        pasted = mixing.CopyPaste(1.0, count=2, blend=blend, largest_overlap=0.0, tries=300)(picture, chance)
        assert len(pasted.label) > 2
        np.testing.assert_array_equal(pasted.boxes_px[:2], picture.boxes_px)
        for box in pasted.boxes_px[2:]:
            left, top, right, bottom = box.astype(int)
            assert pasted.image[top + 1 : bottom - 1, left + 1 : right - 1].max(-1).std() > 20
            outside = pasted.image[max(top - 6, 0) : max(top - 2, 0), left:right]
            assert np.array_equal(outside, picture.image[max(top - 6, 0) : max(top - 2, 0), left:right])
    pixels.RandomErasing(1.0)(picture, chance), pixels.HsvJitter()(picture, chance)
    assert np.array_equal(picture.image, kept[0]) and np.array_equal(other.image, kept[1])


def test_hidden_objects_are_not_asked_for() -> None:
    picture = _marked(np.random.default_rng(1))
    erase = pixels.RandomErasing(1.0, count=1, area=(0.9, 0.95), ratio=(0.65, 0.75), most_hidden=0.5)
    erased = erase(picture, Chance(np.random.default_rng(0), (90, 130), lambda: picture))
    assert len(erased.label) < 2


def test_balance() -> None:
    held = held_classes([np.array([0, 0])] * 98 + [np.array([0, 1])] * 2, 2)
    rows = equal_shares(held)
    assert (held[rows, 1].sum() - 51) >= 0 and len(rows) == 102
    more = repeated(held, 0.08)  # class 1 in 2 %: twice
    assert np.bincount(more)[:98].tolist() == [1] * 98 and np.bincount(more)[98:].tolist() == [2, 2]
    with pytest.raises(ValueError, match="threshold"):
        repeated(held, 0.0)


def test_anchors_find_clear_groups() -> None:
    rng = np.random.default_rng(0)
    centers = np.array([[10.0, 12.0], [40.0, 20.0], [90.0, 100.0]])
    sizes = np.concatenate([c * rng.uniform(0.95, 1.05, (50, 2)) for c in centers])
    fit = fit_anchors(sizes, 3)
    np.testing.assert_allclose(fit.sizes_px, centers, rtol=0.03)
    assert fit.mean_iou > 0.9 and fit.recall == 1.0
    assert shape_iou(np.array([[2.0, 4.0]]), np.array([[4.0, 2.0]]))[0, 0] == pytest.approx(4 / 12)
    with pytest.raises(ValueError, match="2 anchors"):
        fit_anchors(np.ones((5, 2)), 2)


def test_the_shipped_picture_data_builds(coco: tuple[Path, Path], voc: Path) -> None:
    """Both data sections give batches, here on the small folders; what each trains and tests on has one form."""
    where = {
        "coco_416": dict(annotations=str(coco[0]), images=str(coco[1])),
        "bccd_416x320": dict(root=str(voc), split="train"),
    }
    for name, places in where.items():
        cfg = load_config(REPO_ROOT / f"configs/_base_/data/{name}.py").to_dict()
        for stage in ("train", "val", "test"):
            node = cfg[f"{stage}_dataloader"]["dataset"]
            node["pictures"] = {**node["pictures"], **places, "classes": CLASSES}
            dataset = DATASETS.build(node)
            batch = collate_images([dataset[Draw(n, (0, n), epoch=epoch)] for n, epoch in ((0, 0), (1, 0), (2, 999))])
            assert batch.boxes is not None and tuple(batch.images.shape[2:]) in dataset.sizes


def test_real_pictures() -> None:
    pictures: PictureList = read_voc(real_data_dir("bccd") / "BCCD", "test", ("RBC", "WBC", "Platelets"))
    assert len(pictures.records) == 72 and sum(len(r.label) for r in pictures.records) > 900
    assert len(box_sizes(pictures, (320, 416))) == sum(len(r.label) for r in pictures.records)
    dataset = PictureDataset(pictures, (320, 416), load_px=(320, 416))
    sample = dataset[3]
    assert sample.picture_px == (480, 640) and sample.network_from_picture[0, 0] == pytest.approx(0.65, abs=2e-3)
    coco80 = real_data_dir("coco_val80")
    found = read_coco(coco80 / "instances_val2017.json", coco80 / "val2017")
    assert len(found.records) == 80 and len(found.classes) == 80 and found.category_ids[79] == 90
