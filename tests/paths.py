"""Where the optional test material lies; tests skip where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist (set {variable} to a folder that holds it)")
    return folder


def golden_dir(item: str = "") -> Path:
    """Folder of the golden numbers (or of one item of them); skips the test where it is absent."""
    return _folder("BEV_GOLDEN", REPO_ROOT.parent / "shared" / "golden") / item


def real_data_dir(item: str = "") -> Path:
    """Folder of small real data (or of one item of it); skips the test where it is absent."""
    return _folder("BEV_REAL_DATA", REPO_ROOT.parent / "shared" / "data") / item


def golden_cases(item: str, pattern: str = "*") -> list[Path]:
    """Every golden file (or case folder) of an item, for ``pytest.mark.parametrize``; empty where absent."""
    folder = Path(os.environ.get("BEV_GOLDEN", REPO_ROOT.parent / "shared" / "golden")) / item
    return (
        sorted(p for p in folder.glob(pattern) if p.suffix == ".safetensors" or p.name.startswith("case_"))
        if folder.is_dir()
        else []
    )
