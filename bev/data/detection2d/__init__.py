"""Pictures with boxes of their own: what 2D detectors are trained and tested on."""

from bev.data.detection2d.letterbox import letterbox

__all__ = ["letterbox"]
