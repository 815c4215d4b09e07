"""Whether a graph is being recorded that must run elsewhere."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """True inside ``torch.export`` and ``torch.jit.trace``, where operators take their export form."""
    # torch 2.6 cannot tell export from compile: compiled graphs take the export form there, which is only slower.
    recording = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return torch.jit.is_tracing() or bool(recording())
