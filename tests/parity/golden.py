"""Reading golden files and comparing with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Golden:
    """One file: ``config`` from its metadata, tensors by name, groups of tensors by prefix."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(str(path), "pt") as file:
            self.config: dict[str, Any] = json.loads(file.metadata()["config"])
            self._tensors = {key: file.get_tensor(key) for key in file.keys()}

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self._tensors

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose names begin with ``prefix.``, without it."""
        start = prefix + "."
        return {k[len(start) :]: v for k, v in self._tensors.items() if k.startswith(start)}

    def sequence(self, prefix: str) -> list[Tensor]:
        """Tensors ``prefix.0``, ``prefix.1`` ... in that order."""
        group = self.group(prefix)
        return [group[key] for key in sorted((k for k in group if k.isdigit()), key=int)]


def load_weights(module: torch.nn.Module, weights: dict[str, Tensor], absent: str = "num_batches_tracked") -> None:
    """Load by the official names; every name must exist on both sides, except the counters the files leave out."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all(key.endswith(absent) for key in missing), missing


def assert_gradients(module: torch.nn.Module, expected: dict[str, Tensor], atol: float, rtol: float) -> None:
    """Compare the gradient of every parameter named in ``expected``."""
    parameters = dict(module.named_parameters())
    for name, gradient in expected.items():
        assert parameters[name].grad is not None, name
        torch.testing.assert_close(
            parameters[name].grad, gradient, atol=atol, rtol=rtol, msg=lambda text, n=name: f"gradient of {n}: {text}"
        )
