"""Whether a graph is being recorded: one that must run elsewhere, or one whose compiler fuses by itself."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """True inside ``torch.export`` and ``torch.jit.trace``, where operators take their export form."""
    # torch 2.6 cannot tell export from compile: compiled graphs take the export form there, which is only slower.
    recording = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return torch.jit.is_tracing() or bool(recording())


def is_recording() -> bool:
    """True inside ``torch.compile`` too: kernels that only fuse what a compiler also fuses stay out of its graphs."""
    return torch.jit.is_tracing() or bool(torch.compiler.is_compiling())
