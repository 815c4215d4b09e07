"""These tests need the OpenMMLab packages; where they are absent each one says so."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import projects.mmdet3d  # noqa: F401  (provides mmcv._ext to all of them)

MISSING = [name for name in ("mmcv", "mmdet", "mmdet3d") if find_spec(name) is None]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what cannot run, and say what to install; whole models take minutes each and are run where asked for."""
    own = [item for item in items if "projects/mmdet3d/tests" in str(item.path)]
    if "slow" not in str(config.option.markexpr):
        for item in own:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="minutes: python -m pytest -m slow projects/mmdet3d"))
    if MISSING:
        reason = f"{', '.join(MISSING)} not installed: pip install 'bevstack[mmdet3d]'"
        for item in own:
            item.add_marker(pytest.mark.skip(reason=reason))
