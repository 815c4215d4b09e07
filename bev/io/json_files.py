"""JSON files, written atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec


def write_json(path: str | Path, value: Any, indent: int = 0) -> None:
    """Write what msgspec can encode; readers see the old file or the whole new one.

    NaN is not JSON and becomes ``null``: refuse it before where it has a meaning.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.encode(value)
    if indent:
        data = msgspec.json.format(data, indent=indent)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
