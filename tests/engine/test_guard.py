"""A non-finite loss or gradient stops the run before it reaches the weights, and names where it came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bev.data.sampler import EndlessSampler
from bev.engine import NonFiniteError
from bev.engine.optim import AmpOptimWrapper, OptimWrapper
from bev.registry import ConfigError
from tests.engine.runs import assert_same_state, last, output, run_here, run_many

POISON = "train_dataloader.dataset.poison=3"
OPTIONS = ("model.batch_norm=true", "default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=0")


def _step_of_poison(batch_size: int) -> int:
    """Steps completed before frame 3 is first read."""
    batches = iter(EndlessSampler(10, batch_size, seed=0))
    return next(step for step in range(10) if 3 in [draw.index for draw in next(batches)])


@pytest.mark.parametrize("amp", [False, True])
def test_names_term_and_samples_and_keeps_the_last_good_state(tmp_path: Path, amp: bool) -> None:
    good = _step_of_poison(2)
    with pytest.raises(NonFiniteError, match=r"loss is not finite: loss_center = nan; samples: .*frame3") as error:
        run_here(tmp_path, *OPTIONS, POISON, amp=amp)
    assert f"last_good_{good}.pth" in str(error.value) and "loss_size" not in str(error.value)
    state = last(tmp_path)
    assert state["meta"]["step"] == good
    assert all(bool(torch.isfinite(value).all()) for value in state["state_dict"].values())
    if good:  # also the running statistics, which the bad forward pass had already changed
        saved = torch.load(tmp_path / f"step_{good}.pth", weights_only=True)
        assert_same_state({k: v for k, v in state.items() if k != "random_states"},
                          {k: v for k, v in saved.items() if k != "random_states"})  # fmt: skip


def test_one_process_stops_all(tmp_path: Path) -> None:
    """Only one of the two reads the poisoned frame; neither may be left waiting for the other."""
    assert run_many(tmp_path, 2, *OPTIONS, POISON) == [2, 2]
    texts = [output(tmp_path, rank) for rank in (0, 1)]
    assert sum("loss is not finite: loss_center = nan" in text for text in texts) == 1
    assert all("error: " in text and "last_good_" in text for text in texts)


class _BadRoot(nn.Module):
    """Loss is finite; the gradient of the square root at 0 is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.other = nn.Parameter(torch.ones(1))

    def forward(self) -> Tensor:
        return (self.weight * 0).sum().sqrt() + self.other.sum()


def _one_step(wrapper: OptimWrapper, model: nn.Module) -> None:
    wrapper.begin_step(model, 1)
    loss = model()
    wrapper.backward(loss, ["loss_root"], loss[None], ["token7"])
    wrapper.finish_step()


def test_gradient() -> None:
    model = _BadRoot()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), fused=True))
    with pytest.raises(NonFiniteError, match=r"gradient is not finite: its norm is nan, 1 of 2 .* samples: token7"):
        _one_step(wrapper, model)
    assert torch.equal(model.other, torch.ones(1))


def test_gradient_read_one_step_later() -> None:
    """The path of CUDA, where a fused optimiser skips the update by itself; fused optimisers of CPU can do it too."""
    model = _BadRoot()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), fused=True))
    assert not wrapper.skips_on_device
    wrapper.skips_on_device = True
    _one_step(wrapper, model)
    assert torch.equal(model.other, torch.ones(1)) and torch.equal(model.weight, torch.zeros(2))
    with pytest.raises(NonFiniteError, match=r"gradient is not finite: gradient norm = nan; samples: token7"):
        _one_step(wrapper, model)
    wrapper.guard.defer(torch.tensor(float("inf")))  # type: ignore[union-attr]
    with pytest.raises(NonFiniteError, match="gradient norm = inf"):
        wrapper.finish_run()


def test_can_be_switched_off() -> None:
    model = _BadRoot()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), check_finite=False)
    _one_step(wrapper, model)
    assert bool(torch.isnan(model.weight).any())


def test_float16_needs_cuda() -> None:
    with pytest.raises(ConfigError, match="float16 needs CUDA"):
        AmpOptimWrapper(torch.optim.SGD(_BadRoot().parameters(), lr=0.1), dtype="float16")
    with pytest.raises(ConfigError, match="valid: bfloat16, float16"):
        AmpOptimWrapper(torch.optim.SGD(_BadRoot().parameters(), lr=0.1), dtype="half")
