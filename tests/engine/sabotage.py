"""What goes wrong in runs that are started for it."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch


def die_writing_second_checkpoint() -> None:
    """SIGKILL when half of the second checkpoint is written."""
    original, calls = torch.save, []

    def save(value: Any, file: Any) -> None:
        calls.append(1)
        original(value, file)
        if len(calls) == 2:
            file.truncate(file.tell() // 2)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save  # type: ignore[assignment]


def die_before_second_rename() -> None:
    """SIGKILL when the second checkpoint is written but not yet in its place."""
    _die_at_rename("step_", 2)


def die_before_second_pointer() -> None:
    """SIGKILL when the second checkpoint is in its place and the pointer is still the old one."""
    _die_at_rename("last_checkpoint", 2)


def _die_at_rename(name: str, count: int) -> None:
    original, calls = os.replace, []

    def replace(source: Any, destination: Any) -> None:
        if os.path.basename(destination).startswith(name):
            calls.append(1)
            if len(calls) == count:
                os.kill(os.getpid(), signal.SIGKILL)
        original(source, destination)

    os.replace = replace  # type: ignore[assignment]
