"""OpenMMLab's own scripts without their compiled extension: ``python -m projects.mmdet3d SCRIPT [ARGUMENTS]``.

SCRIPT is a file or ``mmdet3d/tools/train.py`` (of the installed package); ``mmdet3d::FOLDER/NAME.py`` names an
installed configuration.
"""

from __future__ import annotations

import sys

from bev.engine import main
from projects.mmdet3d.run import run_script


def run() -> int:
    """The command; returns its exit code."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if len(sys.argv) > 1 else 2
    run_script(sys.argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(run))
