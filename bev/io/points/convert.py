"""Converting point cloud files and folders of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bev.io.errors import FileError
from bev.io.points.files import FORMATS, format_of, read_points, write_points


def plan(source: Path, target: Path, suffix: str | None = None) -> list[tuple[Path, Path]]:
    """Which files to read, and where to.

    Args:
        source: a file, or a folder whose point clouds are taken, also those in folders below it.
        target: the file to write; for a folder, or with ``suffix``, the folder to write to.
        suffix: format to write, e.g. ``".ply"``; needed for folders.

    Raises:
        FileError: nothing to convert, two files that would get one name, or a format that cannot be written.
        ValueError: a folder without a suffix.
    """
    if not source.exists():
        raise FileError(f"{source}: does not exist")
    if suffix is not None and format_of(f"a{suffix}").write is None:
        raise FileError(f"{suffix}: this format can be read, not written")
    if source.is_file():
        inside = target / (_stem(source) + suffix) if suffix else target
        return [(source, inside)]
    if suffix is None:
        raise ValueError("a folder needs --to FORMAT, e.g. --to .ply")
    known = sorted(p for p in source.rglob("*") if p.is_file() and p.name.lower().endswith(tuple(FORMATS)))
    pairs = [(p, target / p.relative_to(source).parent / (_stem(p) + suffix)) for p in known]
    if not pairs:
        raise FileError(f"{source}: holds no point cloud; known are {', '.join(FORMATS)}")
    places: dict[Path, Path] = {}
    for path, place in pairs:
        if place in places:
            raise FileError(f"{path} and {places[place]} would both be written to {place}")
        places[place] = path
    return pairs


def _stem(path: Path) -> str:
    end = next((s for s in FORMATS if path.name.lower().endswith(s)), path.suffix)
    return path.name[: len(path.name) - len(end)]


def convert(pairs: list[tuple[Path, Path]], lossy: bool, **options: Any) -> Iterator[tuple[Path, list[str], str]]:
    """Convert one pair after another.

    Args:
        lossy, options: as in `write_points`.

    Yields:
        The source, what was left out of it, and why it could not be converted (empty where it was).
    """
    for source, target in pairs:
        try:
            yield source, write_points(read_points(source), target, lossy=lossy, **options), ""
        except FileError as error:
            yield source, [], str(error)
