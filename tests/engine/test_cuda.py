"""What differs on CUDA: float16 with a gradient scaler, flags read later, updates that skip themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bev.engine import NonFiniteError
from bev.engine.optim import OptimWrapper
from tests.engine.runs import largest_difference, last, run_here

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
OPTIONS = ("device=cuda", "optim_wrapper.optimizer.lr=0.01")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_stays_near_full_precision(tmp_path: Path, dtype: str) -> None:
    full = run_here(tmp_path / "full", *OPTIONS)
    amp = ("optim_wrapper.type=AmpOptimWrapper", f"optim_wrapper.dtype={dtype}")
    half = run_here(tmp_path / "half", *OPTIONS, *amp)
    assert 0 < largest_difference(full, half) < 0.1
    assert all(bool(torch.isfinite(value).all()) for value in half["state_dict"].values())


def test_non_finite_loss_stops_before_the_update(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="loss_center = nan; samples: .*frame3"):
        run_here(tmp_path, *OPTIONS, "model.batch_norm=true", "train_dataloader.dataset.poison=3")
    assert all(bool(torch.isfinite(value).all()) for value in last(tmp_path)["state_dict"].values())


def test_non_finite_gradient_is_skipped_on_the_device_and_reported_later() -> None:
    model = torch.nn.Linear(2, 1).cuda()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), fused=True))
    assert wrapper.skips_on_device
    before = model.weight.detach().clone()
    wrapper.begin_step(model, 1)
    loss = (model.weight * 0).sum().sqrt()  # its gradient is 0 * inf
    wrapper.backward(loss, ["loss_root"], loss[None], ["token7"])
    wrapper.finish_step()
    assert torch.equal(model.weight, before)
    with pytest.raises(NonFiniteError, match="gradient norm = nan; samples: token7"):
        wrapper.finish_run()


def test_resumes(tmp_path: Path) -> None:
    want = run_here(tmp_path / "a", *OPTIONS, "default_hooks.checkpoint.interval=10")
    keep = "default_hooks.checkpoint.max_keep_ckpts=0"
    run_here(tmp_path / "b", *OPTIONS, "default_hooks.checkpoint.interval=10", keep)
    got = run_here(tmp_path / "b", *OPTIONS, resume=str(tmp_path / "b" / "step_10.pth"))
    assert largest_difference(want, got) < 1e-5
