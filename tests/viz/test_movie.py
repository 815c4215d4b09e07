"""Films: every picture once, in order, in its colours; errors that leave nothing behind."""

import cv2
import numpy as np
import pytest
from PIL import Image

from bev.viz.movie import write_film
from bev.viz.palette import CLASS_COLORS, GROUND


def pictures(count=5, shape=(51, 81)):
    """Grey pictures, each brighter than the one before."""
    for i in range(count):
        yield np.full((*shape, 3), 40 * i + 20, np.uint8)


def test_mp4(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path = write_film(pictures(), tmp_path / "a" / "film.mp4", fps=4)
    film, shown = cv2.VideoCapture(str(path)), []
    while (read := film.read())[0]:
        shown.append(read[1])
    assert [f.shape for f in shown] == [(50, 80, 3)] * 5 and film.get(cv2.CAP_PROP_FPS) == 4
    assert [f.mean() for f in shown] == pytest.approx([20, 60, 100, 140, 180], abs=4)
    code = int(film.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
    assert code in (b"h264", b"avc1")  # what browsers play
    assert [p.name for p in path.parent.iterdir()] == ["film.mp4"]


def test_gif(tmp_path):
    with Image.open(write_film(pictures(), tmp_path / "film.gif", fps=2)) as film:
        assert (film.n_frames, film.size, film.info["duration"], film.info["loop"]) == (5, (80, 50), 500, 0)
        means = []
        for i in range(5):
            film.seek(i)
            means.append(np.asarray(film.convert("RGB")).mean())
    assert means == pytest.approx([20, 60, 100, 140, 180], abs=4)


def test_thin_lines_keep_their_colours_in_a_gif(tmp_path):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (100, 200, 3), dtype=np.uint8)  # a photograph takes all the colours it can get
    picture[:12] = GROUND
    for row, color in enumerate(CLASS_COLORS.values()):
        picture[row, 5:9] = color
    with Image.open(write_film([picture, picture[::-1]], tmp_path / "film.gif")) as film:
        shown = np.asarray(film.convert("RGB"))
    assert [tuple(shown[row, 6]) for row in range(10)] == [tuple(c) for c in CLASS_COLORS.values()]


def test_pictures_of_other_sizes_are_fitted(tmp_path):
    sizes = [(50, 80), (25, 80), (100, 160), (120, 80)]
    with Image.open(write_film([np.full((*s, 3), 200, np.uint8) for s in sizes], tmp_path / "f.gif")) as film:
        shares = []
        for i in range(4):
            film.seek(i)
            shares.append((np.asarray(film.convert("L")) > 150).mean())
    assert shares == pytest.approx([1, 0.5, 1, 33 / 80], abs=0.02)


@pytest.mark.parametrize(
    "name, fps, count, message",
    [("x.avi", 4, 1, "a film is .mp4 or .gif"), ("x.gif", 0, 1, "fps is 0"), ("x.gif", 4, 0, "at least one picture")],
)
def test_mistakes(tmp_path, name, fps, count, message):
    with pytest.raises(ValueError, match=message):
        write_film(pictures(count), tmp_path / name, fps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_film_that_fails_leaves_nothing(tmp_path, suffix):
    pytest.importorskip("imageio_ffmpeg")

    def broken():
        yield from pictures(2)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_film(broken(), tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_without_imageio_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"bevstack\[viz\]"):
        write_film(pictures(), tmp_path / "x.mp4")
