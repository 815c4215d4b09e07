"""Where ``import mmcv._ext`` finds its module: last on ``sys.meta_path``, so that a compiled mmcv keeps its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NAME = "mmcv._ext"


class ExtensionFinder(MetaPathFinder, Loader):
    """Answers for :data:`NAME` alone; the functions are imported when the module is."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, origin="bev.ops") if fullname == NAME else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        from projects.mmdet3d.ext import functions

        vars(module).update(functions())


def install() -> None:
    """Put the finder at the end of ``sys.meta_path``, once."""
    if not any(isinstance(finder, ExtensionFinder) for finder in sys.meta_path):
        sys.meta_path.append(ExtensionFinder())
