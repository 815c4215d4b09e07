"""Score a nuScenes submission with the official devkit.

python tools/evaluate.py RESULTS --root DIR --version v1.0-mini --split mini_val [--out scores.json]
"""

from __future__ import annotations

import argparse
import sys

from bev.evaluation import evaluate_nuscenes
from bev.evaluation.nuscenes.report import print_scores, save_scores
from bev.io import FileError


def main() -> int:
    parser = argparse.ArgumentParser(description="Score a nuScenes submission with the official devkit.")
    parser.add_argument("results", help="submission JSON")
    parser.add_argument("--root", required=True, help="folder that holds the version folder")
    parser.add_argument("--version", required=True, help="e.g. v1.0-mini")
    parser.add_argument("--split", required=True, help="official split or a name in <root>/<version>/splits.json")
    parser.add_argument("--out", help="write the scores to this JSON file")
    arguments = parser.parse_args()
    try:
        scores = evaluate_nuscenes(arguments.results, arguments.root, arguments.version, arguments.split)
    except (FileError, ImportError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 1
    print_scores(scores)
    if arguments.out:
        save_scores(arguments.out, scores)
        print(f"scores: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
