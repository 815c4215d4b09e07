"""Builds a synthetic nuScenes folder: scenes in parallel, sensor files first, tables last."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Callable, Iterator

import cv2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bev.data.synthetic.options import SceneKey, WorldOptions, scene_keys
from bev.data.synthetic.recorder import Recorder, SceneRows
from bev.data.synthetic.rig import LIDAR, SENSORS
from bev.data.synthetic.tables import SCENE_TABLES, encode_rows, shared_tables, write_table

MARKER = "synthetic.json"
TRAIN_SPLIT, VAL_SPLIT = "synthetic_train", "synthetic_val"
_ticks = None  # the shared counter of finished key frames in a worker process


def generate(
    out_dir: str | Path,
    scenes: int,
    seed: int = 0,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
    **options: object,
) -> Path:
    """Write a complete nuScenes v1.0 folder.

    The same arguments give the same bytes, whatever ``workers`` is. Sensor files are written first and the tables
    last, by renaming their folder into place: a run that was killed leaves no folder that could be loaded.

    Args:
        out_dir: the folder to make; it must not exist or be empty, unless ``overwrite``.
        scenes: number of scenes, held-out ones included.
        seed: see `WorldOptions`.
        workers: processes; 1 works in this one.
        overwrite: replace a synthetic data set that is already there. Anything else is never touched.
        progress: show a bar.
        **options: the other fields of `WorldOptions`.

    Returns:
        The folder, as given.

    Raises:
        ValueError: a bad option. FileExistsError: the folder holds something (else).
    """
    world = WorldOptions(scenes=scenes, seed=seed, **options)  # type: ignore[arg-type]
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 256:
        raise ValueError(f"workers must be between 1 and 256, got {workers!r}")
    root = Path(out_dir)
    _prepare(root, world, overwrite)
    bar = Progress(
        TextColumn("key frames"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not progress,
    )
    with bar:
        task = bar.add_task("", total=scenes * world.frames_per_scene, rate="")
        start = time.monotonic()

        def show(done: int) -> None:
            bar.update(task, completed=done, rate=f"{done / max(time.monotonic() - start, 1e-9):.1f}/s")

        rows = _in_process(world, root, show) if workers == 1 else _in_pool(world, root, min(workers, scenes), show)
    _write_tables(root, world, rows)
    return root


def _prepare(root: Path, options: WorldOptions, overwrite: bool) -> None:
    """Make the empty folders; refuse to touch what is not ours."""
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is a file; give a folder")
    if root.exists() and any(root.iterdir()):
        if not overwrite:
            raise FileExistsError(
                f"{root} is not empty; give another folder, or --overwrite to replace a synthetic data set"
            )
        _clear(root)
    for sensor in SENSORS:
        (root / "samples" / sensor.channel).mkdir(parents=True)
    (root / "sweeps" / LIDAR).mkdir(parents=True)
    (root / "maps").mkdir()
    fields = {name: getattr(options, name) for name in options.__dataclass_fields__}
    (root / MARKER).write_text(json.dumps({"generator": "bev.data.synthetic", "options": fields}, indent=1) + "\n")


def _clear(root: Path) -> None:
    """Remove a synthetic data set, its tables first so that it never looks complete."""
    try:
        version = json.loads((root / MARKER).read_text())["options"]["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileExistsError(
            f"{root} has no readable {MARKER}: it is no synthetic data set and is left alone"
        ) from error
    own = (version, f"{version}.partial", "samples", "sweeps", "maps", MARKER)
    foreign = sorted(p.name for p in root.iterdir() if p.name not in own)
    if foreign:
        raise FileExistsError(f"{root} also holds {', '.join(foreign[:5])}; remove that first")
    for name in own[:-1]:
        if (root / name).exists():
            shutil.rmtree(root / name)
    (root / MARKER).unlink()


def _record(options: WorldOptions, key: SceneKey, root: Path, tick: Callable[[], None]) -> SceneRows:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the parallelism is over scenes
    try:
        return Recorder(options, key, root).record(tick)
    finally:
        cv2.setNumThreads(threads)


def _in_process(options: WorldOptions, root: Path, show: Callable[[int], None]) -> list[SceneRows]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        show(done)

    return [_record(options, key, root, tick) for key in scene_keys(options)]


def _start_worker(ticks: object) -> None:
    global _ticks
    _ticks = ticks


def _work(options: WorldOptions, key: SceneKey, root: Path) -> SceneRows:
    """Record a scene in a worker process."""

    def tick() -> None:
        with _ticks.get_lock():  # type: ignore[attr-defined]
            _ticks.value += 1  # type: ignore[attr-defined]

    return _record(options, key, root, tick)


def _in_pool(options: WorldOptions, root: Path, workers: int, show: Callable[[int], None]) -> list[SceneRows]:
    """Record the scenes in fresh processes (spawned: the caller may hold threads or a GPU), in order."""
    context = multiprocessing.get_context("spawn")
    ticks = context.Value("q", 0)
    with _one_blas_thread(), concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (ticks,)) as pool:
        futures = [pool.submit(_work, options, key, root) for key in scene_keys(options)]
        try:
            waiting = set(futures)
            while waiting:
                finished, waiting = concurrent.futures.wait(waiting, 0.2, concurrent.futures.FIRST_EXCEPTION)
                show(ticks.value)
                for future in finished:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


class _one_blas_thread:
    """Worker processes inherit one thread each for linear algebra."""

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.names}
        os.environ.update({name: "1" for name in self.names})

    def __exit__(self, *error: object) -> None:
        for name, value in self.before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _write_tables(root: Path, options: WorldOptions, scenes: list[SceneRows]) -> None:
    """Write the 13 tables and the splits into a partial folder, then rename it into place."""
    partial = root / f"{options.version}.partial"
    partial.mkdir(exist_ok=True)
    for name, records in shared_tables().items():
        write_table(partial / f"{name}.json", [encode_rows(records)])
    for name in SCENE_TABLES:
        write_table(partial / f"{name}.json", _chunks(scenes, name))
    splits = {
        TRAIN_SPLIT: [s.key.name for s in scenes if not s.key.held_out],
        VAL_SPLIT: [s.key.name for s in scenes if s.key.held_out],
    }
    (partial / "splits.json").write_text(json.dumps(splits, indent=1) + "\n")
    os.replace(partial, root / options.version)


def _chunks(scenes: list[SceneRows], table: str) -> Iterator[bytes]:
    return (scene.rows[table] for scene in scenes)
