"""Score results: nuScenes detections (bit for bit as the official devkit) or, with --coco, boxes in pictures.

python tools/evaluate.py RESULTS --root DIR --version v1.0-mini --split mini_val [--official] [--report DIR]
python tools/evaluate.py RESULTS --coco instances.json [--report DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bev.data.nuscenes.store import load_index
from bev.evaluation.coco import evaluate_coco, write_coco_report
from bev.evaluation.nuscenes import evaluate_official, evaluate_submission
from bev.evaluation.nuscenes.agreement import describe, differences
from bev.evaluation.nuscenes.bootstrap import compare_scenes
from bev.evaluation.nuscenes.full_report import write_nuscenes_report
from bev.evaluation.nuscenes.report import print_comparison, print_scores, save_scores
from bev.evaluation.nuscenes.samples import chosen_tokens
from bev.evaluation.nuscenes.settings import DetectionSettings, read_settings
from bev.io import FileError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Score a nuScenes submission or COCO results.")
    parser.add_argument("results", help="submission JSON, or JSON list of COCO results")
    parser.add_argument("--coco", metavar="JSON", help="COCO annotations: score boxes in pictures against them")
    parser.add_argument("--root", metavar="DIR", help="folder that holds the version folder")
    parser.add_argument("--version", help="e.g. v1.0-mini")
    parser.add_argument("--split", help="official split or a name in DIR/<version>/splits.json")
    parser.add_argument("--scenes", nargs="+", metavar="SCENE", help="only these scenes of the split")
    parser.add_argument("--tokens", metavar="FILE", help="only the samples whose tokens stand in this text file")
    parser.add_argument("--config", metavar="JSON", help="other ranges or thresholds, in the devkit's format")
    parser.add_argument("--official", action="store_true", help="run the devkit beside it and print the differences")
    parser.add_argument("--report", metavar="DIR", help="write report.html and report.md with plots into this folder")
    parser.add_argument("--compare", metavar="OTHER", help="other results on the same samples, for the report")
    parser.add_argument("--out", metavar="JSON", help="write the scores to this file")
    args = parser.parse_args(arguments)
    if not args.coco and not (args.root and args.version and args.split):
        parser.error("nuScenes results need --root, --version and --split")
    return args


def run_coco(args: argparse.Namespace) -> int:
    """Boxes in pictures."""
    done = evaluate_coco(args.results, args.coco)
    print(json.dumps({name: value for name, value in done.scores.items() if name != "classes"}, indent=2))
    if args.out:
        save_scores(args.out, done.scores)
    if args.report:
        print(f"report: {write_coco_report(args.report, done)}")
    return 0


def run() -> int:
    args = parse()
    if args.coco:
        return run_coco(args)
    where = (args.root, args.version, args.split)
    tokens = chosen_tokens(
        load_index(args.root, args.version), Path(args.root) / args.version, args.split, args.scenes, args.tokens
    )
    settings = read_settings(args.config) if args.config else DetectionSettings()
    done = evaluate_submission(args.results, *where, settings, tokens)
    other = None
    print_scores(done.scores)
    if args.out:
        save_scores(args.out, done.scores)
        print(f"scores: {args.out}")
    if args.compare:
        other = evaluate_submission(args.compare, *where, settings, tokens)
        print_comparison(compare_scenes(done, other, args.root, args.version))
    if args.report:
        print(f"report: {write_nuscenes_report(args.report, done, args.root, args.version, other=other)}")
    if args.official:
        found, compared = differences(done, *evaluate_official(args.results, *where, settings, tokens))
        print(describe(found, compared))
        return 3 if found else 0
    return 0


def main() -> int:
    """Run; what the user can mend is one line without a traceback."""
    try:
        return run()
    except (FileError, ImportError, ValueError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
