"""What is broken in the OpenMMLab packages on today's torch, numpy and setuptools, mended when the module is imported.

- ``mmcv._ext``: mmcv-lite has no compiled part, mmdet3d asks for it (mmdetection3d #3093). Answered by :mod:`.ext`.
- ``mmengine.runner.checkpoint``: torch >= 2.6 reads tensors alone, published files hold more (mmengine #1655). Reads
  exactly HistoryBuffer and numpy's scalars besides (:func:`bev.io.checkpoint.load_checkpoint`).
- ``mmengine.config.config``, ``mmengine.hub.hub``: ``mmdet3d::`` configurations need ``pkg_resources``, which
  setuptools 82 has dropped (mmengine #1676). Asks ``importlib``.
- ``mmdet3d.datasets.transforms.dbsampler``, ``mmdet.datasets.transforms.text_transformers``,
  ``mmdet.evaluation.functional.ytviseval``: numpy 1.24 has dropped ``np.long`` and ``np.float`` (mmdetection3d #2821).
  Are given them.

Nothing else is changed: no file of an installed package is touched, and modules that are never imported cost nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch


class _Numpy(ModuleType):
    """numpy with the old names of Python's types, for modules that still use them; numpy itself stays as it is."""

    long, float, int, bool = np.int64, float, int, bool

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _old_numpy(module: Any) -> None:
    module.np = _Numpy("numpy")


def _safe_checkpoints(module: Any) -> None:
    """Local checkpoints are read as the rest of this project reads them: tensors, plain values, two known classes."""

    def load_from_local(filename: str, map_location: Any = None) -> Any:
        from bev.io.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(Path(filename).expanduser())
        return checkpoint if map_location in (None, "cpu") else _moved(checkpoint, map_location)

    module.load_from_local = load_from_local
    module.CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)


def _moved(value: Any, map_location: Any) -> Any:
    """Nested tensors on another device; ``map_location`` as in ``torch.load``, but for a function."""
    if isinstance(value, torch.Tensor):
        return value.to(torch.device(map_location))
    if isinstance(value, dict):
        return type(value)((key, _moved(item, map_location)) for key, item in value.items())
    return type(value)(_moved(item, map_location) for item in value) if type(value) in (list, tuple) else value


def installed_path(package: str) -> str:
    """Folder of an installed package.

    Raises:
        ModuleNotFoundError: there is none.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"package {package!r} is not installed")
    return str(Path(spec.origin).parent)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _without_pkg_resources(module: Any) -> None:
    for name, function in (("get_installed_path", installed_path), ("is_installed", _is_installed)):
        if hasattr(module, name):
            setattr(module, name, function)


REPAIRS: dict[str, Callable[[Any], None]] = {
    "mmengine.runner.checkpoint": _safe_checkpoints,
    "mmengine.config.config": _without_pkg_resources,
    "mmengine.hub.hub": _without_pkg_resources,
    "mmdet3d.datasets.transforms.dbsampler": _old_numpy,
    "mmdet.datasets.transforms.text_transformers": _old_numpy,
    "mmdet.evaluation.functional.ytviseval": _old_numpy,
}


class _RepairingLoader(Loader):
    """The module's own loader, then the repair."""

    def __init__(self, loader: Any, repair: Callable[[Any], None]) -> None:
        self._loader, self._repair = loader, repair

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._repair(module)


class RepairFinder(MetaPathFinder):
    """Finds the modules of :data:`REPAIRS` where they are, with a loader that mends them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own specification with a loader that mends it; None for modules that need no mending."""
        if fullname not in REPAIRS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RepairingLoader(spec.loader, REPAIRS[fullname])
        return spec


def install() -> None:
    """Mend what is imported already, and the rest when it will be; once."""
    if any(isinstance(finder, RepairFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, RepairFinder())
    for name, repair in REPAIRS.items():
        if name in sys.modules:
            repair(sys.modules[name])
