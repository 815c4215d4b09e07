"""Draw frames: cameras with boxes and the scene in 3D, as pictures, films, a web page, a rerun file, or in a window.

Boxes come from a submission, a tracking submission, a checkpoint, or are the ground truth alone. See
docs/visualisation.md for what each option shows.
"""

from __future__ import annotations

import sys

from bev.engine import main
from bev.viz import RenderError
from bev.viz.arguments import options_of, parse
from bev.viz.work import gather, write


def run() -> int:
    """The command; returns its exit code."""
    args = parse(description=__doc__)
    print(*write(gather(args), args, options_of(args)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(run, also=(ImportError, RenderError)))
