"""Muon: momentum whose matrices are made orthogonal before they are applied; AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bev.engine.registries import OPTIMIZERS

# Quintic Newton-Schulz iteration of the reference: singular values in (0, 1] end in about 0.7 .. 1.2 after five steps.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_RMS_OF_ADAMW = 0.2
_SMALLEST_NORM = 1e-7  # smaller matrices get smaller steps


@OPTIMIZERS.register_module()
class MuonAdamW(Optimizer):
    """Muon (Jordan et al. 2024) for weights of two and more axes, AdamW (arXiv 1711.05101) for biases and norms.

    A weight (out, in, kh, kw) is taken as the matrix (out, in kh kw). Its update is scaled to the root mean square that
    AdamW's has (arXiv 2502.16982), so that one learning rate and one weight decay serve both rules.

    Args:
        params: parameters or groups.
        lr: learning rate of both rules.
        weight_decay: decoupled, of both rules.
        momentum: of Muon, in Nesterov's form.
        betas, eps: of AdamW.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1 or not all(0 <= b < 1 for b in betas):
            raise ValueError(
                f"MuonAdamW: lr {lr} and weight_decay {weight_decay} must not be negative, momentum {momentum} and "
                f"betas {tuple(betas)} in [0, 1)"
            )
        defaults = dict(lr=lr, weight_decay=weight_decay, momentum=momentum, betas=tuple(betas), eps=eps)
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            given = [p for p in group["params"] if p.grad is not None]
            if given:
                torch._foreach_mul_(given, 1 - group["lr"] * group["weight_decay"])
            self._update_matrices([p for p in given if p.ndim >= 2], group)
            self._update_rest([p for p in given if p.ndim < 2], group)
        return loss

    def _update_matrices(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        gradients = [_gradient(p) for p in parameters]
        averages = [self._state(p, "momentum") for p in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, averages, group["momentum"])
        steps = orthogonalize([a.reshape(len(a), -1) for a in ahead])
        torch._foreach_mul_(steps, [-group["lr"] * _RMS_OF_ADAMW * max(step.shape) ** 0.5 for step in steps])
        torch._foreach_add_(parameters, [step.view(p.shape) for step, p in zip(steps, parameters)])

    def _update_rest(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        first, second = group["betas"]
        gradients = [_gradient(p) for p in parameters]
        mean = [self._state(p, "exp_avg") for p in parameters]
        square = [self._state(p, "exp_avg_sq") for p in parameters]
        group["steps"] = group.get("steps", 0) + 1
        torch._foreach_lerp_(mean, gradients, 1 - first)
        torch._foreach_mul_(square, second)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - second)
        spread = torch._foreach_sqrt(square)
        torch._foreach_div_(spread, (1 - second ** group["steps"]) ** 0.5)
        torch._foreach_add_(spread, group["eps"])
        torch._foreach_addcdiv_(parameters, mean, spread, -group["lr"] / (1 - first ** group["steps"]))

    def _state(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def orthogonalize(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Nearly the orthogonal factor U V' of each matrix's singular value decomposition, by five Newton-Schulz steps.

    Args:
        matrices: each (R, C), any shapes and scales.

    Returns:
        (R, C) each, with singular values between about 0.7 and 1.2; zeros where a matrix is zero.
    """
    wide = [m if m.shape[0] <= m.shape[1] else m.mT for m in matrices]
    by_rows: dict[int, list[int]] = {}
    for index, matrix in enumerate(wide):
        by_rows.setdefault(len(matrix), []).append(index)
    results: list[Tensor] = list(wide)
    for indices in by_rows.values():
        factors = _newton_schulz(torch.stack([wide[i] @ wide[i].mT for i in indices]))
        for i, factor in zip(indices, factors):
            tall = matrices[i].shape[0] > matrices[i].shape[1]
            results[i] = matrices[i] @ factor if tall else factor @ matrices[i]
    return results


def _newton_schulz(gram: Tensor) -> Tensor:
    """(K, R, R) products G = X X' -> the matrices P with P X nearly orthogonal.

    The iteration X <- (a + b G + c G^2) X, G <- (a + b G + c G^2)^2 G is one of polynomials of the first G: it can stay
    with (R, R) matrices, of all X of R rows at once, and touch X at the end. Convolutions have several times more
    columns than rows.
    """
    a, b, c = _COEFFICIENTS
    inverse_norm = gram.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=_SMALLEST_NORM**2).rsqrt()[:, None, None]
    gram = gram * inverse_norm.square()
    product = inverse_norm * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for iteration in range(_ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor @ product
        if iteration + 1 < _ITERATIONS:
            gram = factor @ gram @ factor
    return product
