"""Score results: nuScenes detections (bit for bit as the official devkit), nuScenes tracks, or boxes in pictures.

python tools/evaluate.py RESULTS --root DIR --version v1.0-mini --split mini_val [--official] [--report DIR]
python tools/evaluate.py RESULTS --coco instances.json [--report DIR]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bev.evaluation.command import Request, run
from bev.io import FileError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Score a nuScenes submission or COCO results.")
    parser.add_argument("results", help="submission JSON (detections or tracks), or JSON list of COCO results")
    parser.add_argument("--coco", metavar="JSON", help="COCO annotations: score boxes in pictures against them")
    parser.add_argument("--root", metavar="DIR", help="folder that holds the version folder")
    parser.add_argument("--version", help="e.g. v1.0-mini")
    parser.add_argument("--split", help="official split or a name in DIR/<version>/splits.json")
    parser.add_argument("--task", choices=("detection", "tracking"), help="default: what the file holds")
    parser.add_argument("--scenes", nargs="+", metavar="SCENE", help="only these scenes of the split")
    parser.add_argument("--tokens", metavar="FILE", help="only the samples whose tokens stand in this text file")
    parser.add_argument("--config", metavar="JSON", help="other ranges or thresholds, in the devkit's format")
    parser.add_argument("--official", action="store_true", help="run the devkit beside it and print the differences")
    parser.add_argument("--report", metavar="DIR", help="write report.html and report.md with plots into this folder")
    parser.add_argument("--compare", metavar="OTHER", help="other detections on the same samples: noise or real?")
    parser.add_argument("--out", metavar="JSON", help="write the scores to this file")
    args = parser.parse_args(arguments)
    if not args.coco and not (args.root and args.version and args.split):
        parser.error("nuScenes results need --root, --version and --split")
    return args


def main() -> int:
    """Run; what the user can mend is one line without a traceback."""
    try:
        return run(Request(**vars(parse())))
    except (FileError, ImportError, ValueError, OSError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
