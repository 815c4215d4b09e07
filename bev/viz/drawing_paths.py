"""Names of the files that drawings over pictures are written to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bev.data.detection2d import PICTURE_SUFFIXES

_SUFFIX = ".jpg"


def drawing_paths(names: Sequence[str], directory: str | Path, sources: Iterable[str | Path] = ()) -> list[Path]:
    """Where drawings over pictures go: ``more/x.png`` to ``more/x.jpg`` within a folder.

    Pictures whose drawings would be one file (``x.png`` beside ``x.jpg``), or would replace one of ``sources``, keep
    their own ending before the new one: ``x.png.jpg``. Names may be absolute or lead out of their folder; drawings stay
    in theirs.

    Args:
        names: of the pictures: paths from their folder, or tokens.
        directory: of the drawings.
        sources: files that must stay as they are.

    Returns:
        One path for every name; no two are alike, not even where upper and lower case are.
    """
    root = Path(directory).resolve()
    taken = {str(Path(source).resolve()).lower() for source in sources}
    inside = [_inside(name) for name in names]
    short = [_short(path) for path in inside]
    keys = [str(root / path).lower() for path in short]
    counts = Counter(keys)
    alone = [counts[key] == 1 and key not in taken for key in keys]
    taken.update(key for key, is_alone in zip(keys, alone) if is_alone)
    paths = []
    for path, brief, is_alone in zip(inside, short, alone):
        chosen = brief if is_alone else _free(path, root, taken)
        taken.add(str(root / chosen).lower())
        paths.append(Path(directory) / chosen)
    return paths


def _inside(name: str) -> Path:
    path = Path(name)
    return Path(*[part for part in path.parts if part not in ("..", path.anchor)])


def _short(path: Path) -> Path:
    """A token need not end like a file: what follows its last point may be part of its name."""
    is_file = path.suffix.lower() in PICTURE_SUFFIXES
    return path.with_suffix(_SUFFIX) if is_file else path.with_name(path.name + _SUFFIX)


def _free(path: Path, root: Path, taken: set[str]) -> Path:
    path = path.with_name(path.name + _SUFFIX)
    while str(root / path).lower() in taken:
        path = path.with_name(path.name + _SUFFIX)
    return path
