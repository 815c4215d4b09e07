"""What a student learns from a teacher's outputs: class scores, distributed box sides, maps, features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.registry import MODELS, ConfigError

_EPSILON = 1e-6


def bernoulli_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(sigmoid(teacher / T) || sigmoid(student / T))`` of every logit; the factor keeps the gradient's size."""
    s, t = student / temperature, teacher / temperature
    p = t.sigmoid()
    kept = p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return kept * temperature**2


def softmax_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(..., K) logits -> (...) ``T^2 KL(softmax(teacher / T) || softmax(student / T))`` (Hinton et al., 2015)."""
    s, t = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    return (t.exp() * (t - s)).sum(-1) * temperature**2


class DistillationTerm(nn.Module, ABC):
    """One thing that a student learns from a teacher.

    Args:
        name: of the loss term.
        student: name of the student's module whose output is taken, e.g. ``head`` or ``neck``.
        teacher: the teacher's; None: the same name.
        weight: factor of the term.
    """

    def __init__(self, name: str, student: str, teacher: str | None, weight: float) -> None:
        super().__init__()
        if weight <= 0:
            raise ConfigError(f"{type(self).__name__}: weight {weight} must be positive")
        self.name, self.student, self.weight = name, student, weight
        self.teacher = student if teacher is None else teacher

    @abstractmethod
    def forward(self, student: tuple[nn.Module, Any], teacher: tuple[nn.Module, Any]) -> Tensor:
        """Scalar from both modules with their outputs; the teacher's carries no gradient."""

    def scale_others(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The student's own terms, as they count beside this one."""
        return dict(losses)


@MODELS.register_module()
class LogitDistillation(DistillationTerm):
    """Class logits of a dense 2D head: ``(1 - alpha) * hard + alpha * T^2 KL`` (Hinton et al., arXiv 1503.02531).

    Background is nearly all of a dense head; priors weigh by the teacher's best class score, and the sum is divided by
    the sum of those weights.

    Args:
        temperature: T.
        alpha: 0..1, see above.
        hard_terms: the student's terms that ``1 - alpha`` is applied to.
        student, teacher, weight: as :class:`DistillationTerm`; the modules are dense heads with the same priors and
            classes.
    """

    def __init__(
        self,
        temperature: float = 2.0,
        alpha: float = 0.5,
        hard_terms: Sequence[str] = ("loss_cls",),
        student: str = "head",
        teacher: str | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__("distill_cls", student, teacher, weight)
        if temperature <= 0 or not 0 < alpha <= 1:
            raise ConfigError(f"LogitDistillation: temperature {temperature} > 0, alpha {alpha} in 0..1")
        self.temperature, self.alpha, self.hard_terms = temperature, alpha, tuple(hard_terms)

    def forward(self, student: tuple[nn.Module, Any], teacher: tuple[nn.Module, Any]) -> Tensor:
        """Term of two dense heads and their raw outputs, a scalar.

        Raises:
            ConfigError: their class logits differ in shape or in form (sigmoid, softmax, probability).
        """
        ours, theirs = _predictions(self, *student), _predictions(self, *teacher)
        if ours.cls.shape != theirs.cls.shape or ours.score_form != theirs.score_form:
            raise ConfigError(
                f"LogitDistillation: class logits (B, priors, classes) of the student {tuple(ours.cls.shape)} as"
                f" {ours.score_form}, of the teacher {tuple(theirs.cls.shape)} as {theirs.score_form}: must be alike"
            )
        if ours.score_form == "softmax":
            divergence = softmax_divergence(ours.cls.float(), theirs.cls.float(), self.temperature)
        else:
            first, second = ours.cls.float(), theirs.cls.float()
            if ours.score_form == "probability":
                first, second = first.logit(eps=_EPSILON), second.logit(eps=_EPSILON)
            divergence = bernoulli_divergence(first, second, self.temperature).sum(-1)
        return self.weight * self.alpha * _weighted_mean(divergence, theirs.scores.float().amax(-1))

    def scale_others(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The student's terms, ``hard_terms`` times ``1 - alpha``.

        Raises:
            ConfigError: a hard term that the student does not have.
        """
        for name in self.hard_terms:
            if name not in losses:
                raise ConfigError(
                    f"LogitDistillation.hard_terms names {name!r}; the student's terms are: {', '.join(losses)}"
                )
        return {name: term * (1 - self.alpha) if name in self.hard_terms else term for name, term in losses.items()}


@MODELS.register_module()
class BoxDistillation(DistillationTerm):
    """Distributed box sides: the KL divergence of the bins of each side (Zheng et al., Localization Distillation, CVPR
    2022, arXiv 2102.12252), weighted as :class:`LogitDistillation`'s.

    Args:
        temperature: T.
        student, teacher, weight: as :class:`DistillationTerm`; the modules are dense heads with the same priors and
            ``DistributionBoxCoder(reg_max)``.
    """

    def __init__(
        self, temperature: float = 10.0, student: str = "head", teacher: str | None = None, weight: float = 0.25
    ) -> None:
        super().__init__("distill_box", student, teacher, weight)
        if temperature <= 0:
            raise ConfigError(f"BoxDistillation: temperature {temperature} must be positive")
        self.temperature = temperature

    def forward(self, student: tuple[nn.Module, Any], teacher: tuple[nn.Module, Any]) -> Tensor:
        """Term of two dense heads and their raw outputs, a scalar.

        Raises:
            ConfigError: a head's box coder has no bins, or priors or bins differ in number.
        """
        ours, theirs = _predictions(self, *student), _predictions(self, *teacher)
        for who, one in (("student", ours), ("teacher", theirs)):
            if not hasattr(one.coder, "reg_max"):
                kind = type(one.coder).__name__
                raise ConfigError(f"BoxDistillation: the {who}'s {kind} has no bins; both need a DistributionBoxCoder")
        if ours.box.shape != theirs.box.shape:
            shapes = f"{tuple(ours.box.shape)} and {tuple(theirs.box.shape)}"
            raise ConfigError(f"BoxDistillation: (B, priors, 4 bins) of student and teacher must be alike: {shapes}")
        first, second = (x.box.float().unflatten(-1, (4, -1)) for x in (ours, theirs))
        divergence = softmax_divergence(first, second, self.temperature).mean(-1)
        return self.weight * _weighted_mean(divergence, theirs.scores.float().amax(-1))


@MODELS.register_module()
class MapDistillation(DistillationTerm):
    """Maps of sigmoid logits (B, C, H, W), e.g. the heat maps of a bird's-eye-view head; places weigh by the teacher's
    best score there.

    Args:
        student, teacher, weight: as :class:`DistillationTerm`.
        path: to the maps in the modules' outputs: keys and positions, ``*`` for all of a list (``*.heatmap``); empty
            where the output is the map.
        temperature: T.
    """

    def __init__(
        self,
        student: str = "pts_bbox_head",
        path: str = "*.heatmap",
        temperature: float = 1.0,
        teacher: str | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__("distill_map", student, teacher, weight)
        if temperature <= 0:
            raise ConfigError(f"MapDistillation: temperature {temperature} must be positive")
        self.path, self.temperature = path, temperature

    def forward(self, student: tuple[nn.Module, Any], teacher: tuple[nn.Module, Any]) -> Tensor:
        """Mean over the maps that ``path`` leads to, a scalar.

        Raises:
            ConfigError: the path leads nowhere, or maps differ in number or shape.
        """
        ours, theirs = (list(_at(one[1], self.path, type(self).__name__)) for one in (student, teacher))
        _check_alike(self, ours, theirs)
        terms = [
            _weighted_mean(
                bernoulli_divergence(s.float(), t.float(), self.temperature).sum(1), t.float().sigmoid().amax(1)
            )
            for s, t in zip(ours, theirs)
        ]
        return self.weight * torch.stack(terms).mean()


@MODELS.register_module()
class FeatureDistillation(DistillationTerm):
    """Feature maps, through learnt 1x1 convolutions where student and teacher have other channels.

    Args:
        student, teacher, weight: as :class:`DistillationTerm`; the modules give a map (..., C, H, W) or several.
        kind: ``mse``: the mean squared difference (FitNets, arXiv 1412.6550). ``channel``: the divergence of each
            channel's softmax over places (Shu et al., Channel-wise Knowledge Distillation, ICCV 2021, arXiv
            2011.13256), which looks at where a channel is active, not how strongly.
        temperature: of ``channel``.
        student_channels, teacher_channels: of every map: numbers for all maps, or one a map. None: no adapters.
    """

    def __init__(
        self,
        student: str = "neck",
        teacher: str | None = None,
        weight: float = 1.0,
        kind: Literal["mse", "channel"] = "mse",
        temperature: float = 1.0,
        student_channels: int | Sequence[int] | None = None,
        teacher_channels: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__("distill_feature", student, teacher, weight)
        if kind not in ("mse", "channel") or temperature <= 0:
            raise ConfigError(f"FeatureDistillation: kind {kind!r} of mse, channel; temperature {temperature} > 0")
        if (student_channels is None) != (teacher_channels is None):
            raise ConfigError("FeatureDistillation: student_channels and teacher_channels go together")
        self.kind, self.temperature = kind, temperature
        pairs = zip(_several(student_channels), _several(teacher_channels), strict=True)
        self.adapters = nn.ModuleList([nn.Conv2d(s, t, 1) for s, t in pairs])

    def forward(self, student: tuple[nn.Module, Any], teacher: tuple[nn.Module, Any]) -> Tensor:
        """Mean distance of the maps, a scalar; the student's go through their adapters first.

        Raises:
            ConfigError: maps differ in number or shape, or do not have the channels that the adapters were made for.
        """
        ours, theirs = _maps(student[1]), _maps(teacher[1])
        if len(self.adapters) > 1 and len(self.adapters) != len(ours):
            count = f"{len(self.adapters)} adapters for {len(ours)} maps"
            raise ConfigError(f"FeatureDistillation of {self.student!r}: {count}")
        if self.adapters:
            adapters = [self.adapters[0 if len(self.adapters) == 1 else k] for k in range(len(ours))]
            for adapter, one in zip(adapters, ours):
                if one.shape[1] != adapter.in_channels:
                    raise ConfigError(f"FeatureDistillation.student_channels: a map of {one.shape[1]} channels")
            ours = [adapter(one) for adapter, one in zip(adapters, ours)]
        _check_alike(self, ours, theirs)
        return self.weight * torch.stack([self._distance(s.float(), t.float()) for s, t in zip(ours, theirs)]).mean()

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.kind == "mse":
            return F.mse_loss(student, teacher)
        return softmax_divergence(student.flatten(2), teacher.flatten(2), self.temperature).mean()


def _several(channels: int | Sequence[int] | None) -> list[int]:
    return [] if channels is None else [channels] if isinstance(channels, int) else list(channels)


def _maps(output: Any) -> list[Tensor]:
    """(N, C, H, W) each: axes before the channels (batch and cameras) are one."""
    given = [output] if isinstance(output, Tensor) else list(output)
    return [x.flatten(0, -4) if x.ndim > 4 else x for x in given]


def _check_alike(term: DistillationTerm, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    shapes = [[tuple(x.shape) for x in maps] for maps in (ours, theirs)]
    if shapes[0] != shapes[1]:
        hint = "; other channels need student_channels and teacher_channels" * isinstance(term, FeatureDistillation)
        raise ConfigError(
            f"{type(term).__name__}: {term.student!r} of the student gives {shapes[0]}, {term.teacher!r} of the"
            f" teacher {shapes[1]}{hint}"
        )


def _predictions(term: DistillationTerm, module: nn.Module, output: Any) -> Any:
    """:class:`DensePredictions` of a dense head's raw maps."""
    head: Any = getattr(module, "head", module)  # the head of a pair that predicts
    if not hasattr(head, "predictions"):
        raise ConfigError(f"{type(term).__name__} needs dense heads, {term.student!r} is a {type(module).__name__}")
    return head.predictions(output)


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=_EPSILON)


def _at(output: Any, path: str, who: str) -> Iterator[Tensor]:
    part, _, rest = path.partition(".")
    if not path:
        yield output
    elif part == "*" and isinstance(output, (list, tuple)):
        for one in output:
            yield from _at(one, rest, who)
    elif isinstance(output, Mapping) and part in output:
        yield from _at(output[part], rest, who)
    elif isinstance(output, (list, tuple)) and part.isdigit() and int(part) < len(output):
        yield from _at(output[int(part)], rest, who)
    else:
        has = ", ".join(map(str, output)) if isinstance(output, Mapping) else type(output).__name__
        raise ConfigError(f"{who}.path: no {part!r} in an output that has {has}")
