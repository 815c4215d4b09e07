"""Track the detections of a nuScenes submission through their scenes.

python tools/track.py RESULTS --root DIR --version v1.0-mini --split mini_val --out tracks.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.progress import track

from bev.io import FileError
from bev.tracking import TrackerSettings
from bev.tracking.scenes import track_submission


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; the defaults are those of ``TrackerSettings``."""
    default = TrackerSettings()
    parser = argparse.ArgumentParser(
        description="Track detections over scenes; writes a nuScenes tracking submission.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("results", help="detection submission JSON")
    parser.add_argument("--root", metavar="DIR", required=True, help="folder that holds the version folder")
    parser.add_argument("--version", required=True, help="e.g. v1.0-mini")
    parser.add_argument("--split", required=True, help="official split or a name in DIR/<version>/splits.json")
    parser.add_argument("--out", metavar="JSON", required=True, help="tracking submission to write")
    parser.add_argument("--association", choices=("hungarian", "greedy"), default=default.association, help="of boxes")
    parser.add_argument("--cost", choices=("likelihood", "distance"), default=default.cost, help="of a pair")
    parser.add_argument("--score", choices=("refined", "detection"), default=default.score, help="of a tracked box")
    parser.add_argument("--min-score", type=float, default=default.min_score, help="leave out detections below it")
    parser.add_argument("--start-score", type=float, default=default.start_score, help="start no track below it")
    parser.add_argument("--max-age-s", type=float, default=default.max_age_s, help="a track unseen for longer ends")
    parser.add_argument("--confirm-hits", type=int, default=default.confirm_hits, help="detections before it counts")
    parser.add_argument("--no-velocity", dest="use_velocity", action="store_false", help="do not trust velocities")
    return parser.parse_args(arguments)


def main() -> int:
    """Run; what the user can mend is one line without a traceback."""
    options = vars(parse())
    results, root, version, split, out = (options.pop(k) for k in ("results", "root", "version", "split", "out"))
    try:
        settings = TrackerSettings(**options)
        count = track_submission(
            results, root, version, split, out, settings, lambda scenes: track(scenes, "scenes", transient=True)
        )
    except (FileError, ValueError, OSError) as error:
        print(f"track.py: {error}", file=sys.stderr)
        return 1
    print(f"{count} tracks: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
