#!/usr/bin/env python
"""Make or index a data set.

`python tools/create_data.py synthetic --out data/synthetic --scenes 10 --seed 0` makes one,
`python tools/create_data.py nuscenes --root data/nuscenes --version v1.0-trainval` indexes the real one.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bev.data.synthetic import WorldOptions, generate  # noqa: E402

# The processes that draw the synthetic world import this file too: what needs torch is imported where it is used.


def add_synthetic(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The sub-command ``synthetic``: a made-up nuScenes."""
    parser = commands.add_parser(
        "synthetic",
        help="a synthetic nuScenes; needs no download",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    defaults = {name: field.default for name, field in WorldOptions.__dataclass_fields__.items()}
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--scenes", type=int, required=True, help="scenes in all, the held-out ones included")
    parser.add_argument("--val-scenes", type=int, default=None, help="held-out scenes (default: a fifth)")
    for name, text in (
        ("seed", "everything follows from it"),
        ("width", "picture width [px]"),
        ("height", "picture height [px]"),
        ("frames_per_scene", "key frames a scene, 2 a second"),
        ("sweeps", "LiDAR sweeps between two key frames"),
        ("jpeg_quality", "1 to 100"),
        ("traffic_percent", "vehicles and people, 100 as busy as nuScenes"),
    ):
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=defaults[name], help=text)
    parser.add_argument("--version", default=defaults["version"], help="folder of the tables")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--overwrite", action="store_true", help="replace a synthetic data set in --out")
    parser.set_defaults(run=synthetic)


def synthetic(arguments: argparse.Namespace) -> None:
    """Run ``synthetic``."""
    options = {k: v for k, v in vars(arguments).items() if k not in ("command", "run", "out")}
    start = time.monotonic()
    root = generate(arguments.out, progress=True, **options)
    seconds, frames = time.monotonic() - start, arguments.scenes * arguments.frames_per_scene
    print(f"{frames} key frames in {seconds:.1f} s ({frames / seconds:.1f} a second): {root}/{arguments.version}")


def add_nuscenes(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The sub-command ``nuscenes``: the index of a folder in nuScenes' format."""
    parser = commands.add_parser("nuscenes", help="index the tables of a nuScenes folder, once; training does it too")
    parser.add_argument("--root", type=Path, required=True, help="folder with samples/ and the version's folder")
    parser.add_argument("--version", required=True, help="e.g. v1.0-mini, v1.0-trainval, v1.0-test")
    parser.add_argument("--splits", type=Path, help="JSON file {name: [scene names]}; added to <version>/splits.json")
    parser.set_defaults(run=nuscenes)


def nuscenes(arguments: argparse.Namespace) -> None:
    """Run ``nuscenes``."""
    from bev.data.nuscenes.splits import add_custom_splits, splits_with_scenes
    from bev.data.nuscenes.store import load_index, place_of_index

    start, folder = time.monotonic(), arguments.root / arguments.version
    index = load_index(arguments.root, arguments.version)
    if arguments.splits:
        add_custom_splits(folder, arguments.splits, index.scenes)
    seconds, place = time.monotonic() - start, place_of_index(folder)
    print(f"{len(index)} key frames of {len(index.scenes)} scenes, {len(index.box_label)} boxes, "
          f"{len(index.sweep_file)} LiDAR sweeps, cameras {', '.join(index.channels)}")
    for name, count in splits_with_scenes(folder, index.scenes).items():
        print(f"  split {name}: {count} scenes")
    print(f"{place}: {place.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s" if place else "the index could not be saved")


def add_infos(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The sub-command ``infos``: an info file for mmdet3d."""
    parser = commands.add_parser("infos", help="write a split as an mmdet3d 1.x info file (v2)")
    parser.add_argument("--root", type=Path, required=True, help="folder with samples/ and the version's folder")
    parser.add_argument("--version", required=True, help="e.g. v1.0-mini")
    parser.add_argument("--split", required=True, help="official or custom split")
    parser.add_argument("--out", type=Path, required=True, help="the pickle to write")
    parser.set_defaults(run=infos)


def infos(arguments: argparse.Namespace) -> None:
    """Run ``infos``."""
    from bev.data.infos import write_infos
    from bev.data.nuscenes.dataset import frames_of_split
    from bev.data.nuscenes.store import load_index

    index = load_index(arguments.root, arguments.version)
    frames = frames_of_split(index, arguments.root / arguments.version, arguments.split)
    write_infos(arguments.out, index, frames.tolist(), arguments.version)
    print(f"{len(frames)} frames: {arguments.out}")


def main(argv: list[str] | None = None) -> int:
    """Parse and run; errors of use are one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add_synthetic(commands)
    add_nuscenes(commands)
    add_infos(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"create_data.py {arguments.command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
