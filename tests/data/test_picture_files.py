"""Picture files of every kind: turned ones, any kind of pixels, heads that claim too much."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bev.data.detection2d import read_picture, read_yolo
from bev.io import FileError
from bev.io.images import read_image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_turned_pictures_are_upright_as_their_annotations(tmp_path: Path, orientation: int, suffix: str) -> None:
    """EXIF: the boxes are of the picture as viewers show it; where the annotation says the stored size, as stored."""
    shown = np.zeros((40, 60, 3), np.uint8)
    shown[5:15, 10:30, 0] = 255
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # PIL's transpositions that undo the tag
    stored = Image.fromarray(shown) if back is None else Image.fromarray(shown).transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    path = tmp_path / f"images/a{suffix}"
    stored.save(path, exif=exif, quality=100, subsampling=0)
    (tmp_path / "labels/a.txt").write_text(f"0 {20 / 60} {10 / 40} {20 / 60} {10 / 40}\n")
    (record,) = read_yolo(tmp_path, classes=["thing"], images="images").records
    picture = read_picture(record)
    np.testing.assert_allclose(record.boxes_px, [[10, 5, 30, 15]], atol=1e-4)
    np.testing.assert_allclose(picture.image.astype(int), shown, atol=12)
    as_stored = read_picture(replace(record, size_px=(stored.height, stored.width)))
    assert as_stored.size_px == (stored.height, stored.width)


def test_pictures_of_any_kind_of_pixels(tmp_path: Path) -> None:
    """Grey, with alpha, CMYK, palette, 16 bit: three channels of 8 bit; a head that claims too many is an error."""
    color = np.zeros((8, 12, 3), np.uint8)
    color[:, :6] = (255, 0, 0)
    picture = Image.fromarray(color)
    grey = np.array([76, 76, 76])
    for name, mode, left in (
        *(("a.bmp", "RGB", color[0, 0]), ("c.png", "P", color[0, 0]), ("b.png", "RGBA", color[0, 0])),
        *(("k.jpg", "CMYK", color[0, 0]), ("g.jpg", "L", grey), ("l.png", "LA", grey), ("t.tif", "RGB", color[0, 0])),
    ):
        picture.convert(mode).save(tmp_path / name)
        found = read_image(tmp_path / name)
        assert found.shape == (8, 12, 3) and found.dtype == np.uint8
        np.testing.assert_allclose(found[4, 2].astype(int), left, atol=6)
    deep = np.full((4, 4), 77 * 257, np.uint16)
    assert cv2.imwrite(str(tmp_path / "d.png"), deep)
    assert read_image(tmp_path / "d.png")[0, 0].tolist() == [77, 77, 77]
    whole = (tmp_path / "c.png").read_bytes()
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    size = b"IHDR" + head
    (tmp_path / "huge.png").write_bytes(whole[:12] + size + struct.pack(">I", zlib.crc32(size)) + whole[33:])
    with pytest.raises(FileError, match="huge.png.*OpenCV cannot decode"):
        read_image(tmp_path / "huge.png")
