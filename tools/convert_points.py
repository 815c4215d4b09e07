#!/usr/bin/env python
"""Convert point clouds: `python tools/convert_points.py IN OUT`, e.g. `a.laz b.ply`, or folders with `--to .pcd`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402

from bev.io import FileError  # noqa: E402
from bev.io.points.convert import convert, plan  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Parse and run; 0: all converted, 1: some could not be, 2: errors of use."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, metavar="IN", help="file or folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="file, or folder with --to")
    parser.add_argument("--to", metavar="FORMAT", help="format by its ending, e.g. .pcd; for folders")
    parser.add_argument("--encoding", help="of .pcd (ascii, binary, binary_compressed) or .ply (ascii, binary_...)")
    parser.add_argument("--lossy", action="store_true", help="leave out, and name, what the format cannot hold")
    arguments = parser.parse_args(argv)
    options = {"encoding": arguments.encoding} if arguments.encoding else {}
    suffix = None if arguments.to is None else "." + arguments.to.lower().lstrip(".")
    failed, console = 0, Console(stderr=True)
    try:
        pairs = plan(arguments.source, arguments.target, suffix)
        results = convert(pairs, arguments.lossy, **options)
        for source, lost, fault in track(results, "converting", total=len(pairs), console=console):
            failed += bool(fault)
            if fault:
                console.print(fault, style="red", markup=False, highlight=False, soft_wrap=True)
            elif lost:
                console.print(f"{source}: left out {', '.join(lost)}", markup=False, highlight=False, soft_wrap=True)
    except (FileError, ValueError, TypeError, ImportError, OSError) as error:
        print(f"convert_points.py: {error}", file=sys.stderr)
        return 2
    print(f"{len(pairs) - failed} of {len(pairs)} converted: {arguments.target}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
