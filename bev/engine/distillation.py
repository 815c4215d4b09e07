"""A teacher beside the student: both see every batch, terms compare what named modules of them give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bev.models.losses.distillation import DistillationTerm
from bev.registry import ConfigError

Losses = Callable[[], dict[str, Tensor]]


class Distillation(nn.Module):
    """The student's losses with what it learns from the teacher.

    The terms' adapters are its only parameters; the student and the teacher are not parts of it.

    Args:
        student: detector that is trained.
        teacher: detector that is not: put into evaluation mode and frozen here.
        terms: what is compared.

    Raises:
        ConfigError: a term names a module that is not there.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, terms: Sequence[DistillationTerm]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)
        # In a tuple: not a submodule, so that it is neither trained, saved nor put into training mode.
        self._teacher = (teacher.eval().requires_grad_(False),)
        self._student = _Capture(student, [term.student for term in terms], "student")
        self._taught = _Capture(teacher, [term.teacher for term in terms], "teacher")

    def forward(self, batch: Any, losses: Losses) -> dict[str, Tensor]:
        """Loss terms of the student on a batch, as ``losses`` computes them, and those of the distillation."""
        with self._student:
            result = losses()
        with torch.no_grad(), self._taught:
            self._look(batch)
        added: dict[str, Tensor] = {}
        for term in self.terms:
            assert isinstance(term, DistillationTerm)
            result = term.scale_others(result)
            name = term.name
            while name in added:
                name += "_"
            added[name] = term(self._student.of(term.student), self._taught.of(term.teacher))
        return {**result, **added}

    def _look(self, batch: Any) -> None:
        teacher: Any = self._teacher[0]
        if getattr(teacher, "remembers", False):  # its past is in the batch, which only predict() unpacks
            teacher.predict(batch)
        else:
            teacher(batch.images, getattr(batch, "rig", None))


class _Capture:
    """Keeps the first output of named modules while it is entered; a module may be called again for earlier frames."""

    def __init__(self, model: nn.Module, names: Sequence[str], who: str) -> None:
        self._modules, self._who = dict(model.named_modules()), who
        self._outputs: dict[str, Any] = {}
        self._active = False
        for name in dict.fromkeys(names):
            if name not in self._modules or not name:
                parts = ", ".join(part for part, _ in model.named_children())
                kind = type(model).__name__
                raise ConfigError(f"distillation: the {who} {kind} has no module {name!r}; it has: {parts}")
            self._modules[name].register_forward_hook(self._keeper(name))

    def _keeper(self, name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._active:
                self._outputs.setdefault(name, output)

        return keep

    def __enter__(self) -> None:
        self._outputs.clear()
        self._active = True

    def __exit__(self, *error: Any) -> None:
        self._active = False

    def of(self, name: str) -> tuple[nn.Module, Any]:
        """Module and output."""
        if name not in self._outputs:
            raise ConfigError(f"distillation: module {name!r} of the {self._who} was not called in this step")
        return self._modules[name], self._outputs[name]
