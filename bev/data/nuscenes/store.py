"""The saved index of a folder: built once, checked against the tables, shared by every process."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bev.data.frame_index import FORMAT, FrameIndex
from bev.data.nuscenes.build import build_index
from bev.data.nuscenes.tables import TABLES
from bev.io import FileError

_LOG = logging.getLogger(__name__)


def load_index(root: str | Path, version: str) -> FrameIndex:
    """The index of ``<root>/<version>``, from disk where a current one lies there, else built and saved.

    It is kept in ``<root>/<version>/.bev_index``, or, where that cannot be written, in ``$XDG_CACHE_HOME/bevstack`` (or
    ``~/.cache/bevstack``). A change of size or time of any table makes it stale. Processes that start together wait for
    the first one's build.

    Raises:
        FileError: the folder is missing or its tables cannot be used; see :func:`build_index`.
    """
    folder = Path(root) / version
    if not folder.is_dir():
        versions = sorted(p.parent.name for p in Path(root).glob("*/sample.json")) if Path(root).is_dir() else []
        raise FileError(f"{folder} is not a folder of nuScenes tables; versions in {root}: {versions or 'none'}")
    places = _places(folder)
    state = _fingerprint(folder)
    found = _open_current(places, state)
    if found is not None:
        return found
    place = next((p for p in places if _can_write(p.parent)), None)
    if place is None:
        _LOG.warning("no place to keep the index of %s (tried %s): it is built again in each process", folder, places)
        return build_index(folder)
    with _lock(place.with_suffix(".lock")):
        return _open_current([place], state) or _build_and_save(folder, place, state)


def place_of_index(folder: Path) -> Path | None:
    """Where the saved index of ``<root>/<version>`` lies; None where none could be saved."""
    return next((place for place in _places(folder) if place.exists()), None)


def _build_and_save(folder: Path, place: Path, state: dict[str, list[int]]) -> FrameIndex:
    index = build_index(folder)
    try:
        index.save(place, {"tables": state})
        return FrameIndex.open(place)[0]
    except OSError as error:  # e.g. the disk is full: the run can go on without the file
        _LOG.warning("cannot save the index of %s to %s: %s", folder, place, error)
        return index


def _places(folder: Path) -> list[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bevstack" / "index"
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]
    return [folder / ".bev_index" / f"frames_v{FORMAT}.columns", cache / f"{name}_v{FORMAT}.columns"]


def _fingerprint(folder: Path) -> dict[str, list[int]]:
    """Size and time (ns) of each table."""
    state = {}
    for name in TABLES:
        try:
            stat = (folder / f"{name}.json").stat()
        except OSError as error:
            raise FileError(f"{folder / name}.json: cannot read the table: {error.strerror or error}") from error
        state[name] = [stat.st_size, stat.st_mtime_ns]
    return state


def _open_current(places: list[Path], state: dict[str, list[int]]) -> FrameIndex | None:
    for place in places:
        try:
            index, meta = FrameIndex.open(place)
        except OSError:
            continue
        except FileError as error:
            _LOG.warning("%s; building the index again", error)
            continue
        if meta.get("tables") == state:
            return index
    return None


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an advisory lock where the system has one; without it processes build side by side, correctly but twice."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            _LOG.info("no lock on %s: %s", path, error)
        yield
