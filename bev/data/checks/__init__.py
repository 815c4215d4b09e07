"""Is a data set what it says it is? The silent mistakes of 3D data, recognised by what they leave in it."""

from bev.data.checks.findings import MISTAKES, Finding
from bev.data.checks.inspect import Inspection, inspect_frames

__all__ = ["MISTAKES", "Finding", "Inspection", "inspect_frames"]
