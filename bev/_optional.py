"""Import of optional packages with an error that says what to install."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: importable name, e.g. ``"open3d"``.
        extra: the extra of this package that installs it, e.g. ``"viz"``.

    Raises:
        ImportError: one line naming the extra, chained to the original error.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} cannot be imported ({error}); install it with: pip install 'bevstack[{extra}]'"
        ) from error
