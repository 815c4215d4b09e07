"""Image files: right pixels, and an error for everything that is not a whole picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bev.io import FileError
from bev.io.images import read_image


@pytest.fixture
def picture() -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    return cv2.resize(small, (80, 48))


def _write(path: Path, rgb: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


def test_png_is_exact_rgb(tmp_path: Path, picture: np.ndarray) -> None:
    np.testing.assert_array_equal(read_image(_write(tmp_path / "a.png", picture)), picture)


def test_jpeg_is_rgb_and_equals_opencv(tmp_path: Path, picture: np.ndarray) -> None:
    path = _write(tmp_path / "a.jpg", picture)
    image = read_image(path, size_px=(48, 80))
    assert image.dtype == np.uint8 and image.shape == (48, 80, 3)
    assert np.abs(image.astype(int) - cv2.imread(str(path))[..., ::-1]).max() <= 1
    assert np.abs(image.astype(int) - picture).mean() < 12  # a swap of red and blue gives about 70


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.95])
def test_truncated_file_is_an_error_that_names_it(
    tmp_path: Path, picture: np.ndarray, suffix: str, part: float
) -> None:
    path = _write(tmp_path / f"cut.{suffix}", picture)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(FileError, match=rf"cut\.{suffix}.*frame 7 CAM_BACK"):
        read_image(path, record="frame 7 CAM_BACK")


def test_missing_wrong_size_and_not_an_image(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(FileError, match="gone.jpg.*No such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(FileError, match=r"48x80 px.*expected \(90, 160\)"):
        read_image(_write(tmp_path / "a.jpg", picture), size_px=(90, 160))
    claims = bytearray(_write(tmp_path / "c.jpg", picture).read_bytes())
    head = claims.index(b"\xff\xc0") + 5
    claims[head : head + 4] = b"\xff\xdc\xff\xdc"
    (tmp_path / "c.jpg").write_bytes(claims)
    with pytest.raises(FileError, match="c.jpg: .*its head claims 65500x65500"):
        read_image(tmp_path / "c.jpg")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    with pytest.raises(FileError, match="text.jpg: not an image"):
        read_image(tmp_path / "text.jpg")
