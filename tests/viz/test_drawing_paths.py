"""Names of drawings: short, never two alike, never those of the pictures themselves."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bev.viz.drawing_paths import drawing_paths


def _names(names: list[str], folder: Path, sources: list[Path] | None = None) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in drawing_paths(names, folder, sources or [])]


def test_a_drawing_is_called_as_its_picture(tmp_path: Path) -> None:
    assert _names(["a.jpg", "more/b.PNG", "c.tif"], tmp_path) == ["a.jpg", "more/b.jpg", "c.jpg"]


def test_tokens_without_an_ending_stay_whole(tmp_path: Path) -> None:
    assert _names(["train/v1.25", "42"], tmp_path) == ["train/v1.25.jpg", "42.jpg"]


def test_two_of_one_stem_keep_their_endings(tmp_path: Path) -> None:
    assert _names(["a.jpg", "a.png", "b.jpg"], tmp_path) == ["a.jpg.jpg", "a.png.jpg", "b.jpg"]
    assert _names(["a.jpg", "A.png"], tmp_path) == ["a.jpg.jpg", "A.png.jpg"]
    assert _names(["a.jpg", "a.png", "a.png.jpg"], tmp_path) == ["a.jpg.jpg", "a.png.jpg.jpg", "a.png.jpg"]


def test_pictures_are_not_written_over(tmp_path: Path) -> None:
    assert _names(["a.jpg", "b.png"], tmp_path, [tmp_path / "a.jpg", tmp_path / "b.png"]) == ["a.jpg.jpg", "b.jpg"]


def test_drawings_stay_in_their_folder(tmp_path: Path) -> None:
    assert _names(["/data/a.jpg", "../../b.jpg"], tmp_path) == ["data/a.jpg", "b.jpg"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.from_regex(r"(x/)?[abA](\.png|\.jpg|\.JPG){0,3}", fullmatch=True), unique=True, max_size=12))
def test_no_two_are_alike(names: list[str]) -> None:
    folder = Path("/drawings")
    sources = [folder / name for name in names[::2]]
    paths = [str(path).lower() for path in drawing_paths(names, folder, sources)]
    assert len(set(paths)) == len(names) and not set(paths) & {str(source).lower() for source in sources}
