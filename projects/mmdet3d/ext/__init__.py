"""The functions of ``mmcv._ext``, computed by :mod:`bev.ops`; nothing is compiled.

Each has the name and the arguments of the compiled one, as mmcv's own Python wrappers (``mmcv/ops/*.py``) call it: most
of them write into tensors that the wrapper has made. What differs between the two worlds is converted here and nowhere
else: heights of box centres, integer widths, order of arguments, gradients that mmcv asks for one at a time.

``functions()`` is the whole table; a name that no supported model needs raises
:class:`~projects.mmdet3d.ext.missing.NotProvided` when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from projects.mmdet3d.ext import boxes, convolution, losses, points, regions, voxels
from projects.mmdet3d.ext.missing import missing_functions

MODULES = (boxes, convolution, losses, points, regions, voxels)


def functions() -> dict[str, Callable[..., Any]]:
    """Every name that mmcv 2.1 asks its extension for, with the function that answers."""
    provided = {name: getattr(module, name) for module in MODULES for name in module.__all__}
    return {**missing_functions(), **provided, "get_compiler_version": _none, "get_compiling_cuda_version": _none}


def _none() -> str:
    return "not compiled (bev.ops)"
