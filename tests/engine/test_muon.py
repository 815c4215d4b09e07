"""Muon: what it does to matrices, to the rest, and to a resumed run."""

import copy

import pytest
import torch
from torch import nn

from bev.engine.muon import MuonAdamW, orthogonalize


@pytest.mark.parametrize("shape", [(3, 8, 40), (2, 40, 8), (1, 5, 5)])
def test_singular_values_become_equal_and_directions_stay(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape) * 1e-4
    result = torch.stack(orthogonalize(list(matrices)))
    assert result.shape == matrices.shape
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.3 and values.max() < 1.3
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    # Measured in the matrix's own singular directions the result is diagonal.
    inside = u.mT @ result @ vh.mT
    off = inside - torch.diag_embed(inside.diagonal(dim1=-2, dim2=-1))
    assert off.abs().max() < 1e-4
    assert orthogonalize([torch.zeros(3, 4)])[0].abs().max() == 0


def test_matrices_of_different_shapes_do_not_disturb_each_other():
    torch.manual_seed(1)
    matrices = [torch.randn(6, 20), torch.randn(30, 6) * 1e3, torch.randn(4, 4), torch.zeros(6, 6)]
    for together, matrix in zip(orthogonalize(matrices), matrices):
        torch.testing.assert_close(together, orthogonalize([matrix])[0], atol=1e-5, rtol=1e-4)


def test_the_update_of_a_weight_has_the_announced_size():
    weight = nn.Parameter(torch.zeros(16, 4, 3, 3))
    weight.grad = torch.randn_like(weight) * 1e3
    MuonAdamW([weight], lr=0.1, weight_decay=0.0).step()
    # Singular values near 1: RMS = 0.2 sqrt(max(R, C)) sqrt(R) / sqrt(R C) = 0.2 for R <= C.
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.1 * 0.2, rel=0.2)


def test_vectors_are_updated_as_by_adamw():
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.randn(7)), nn.Parameter(torch.zeros(7))
    theirs.data.copy_(ours.data)
    muon, adamw = MuonAdamW([ours], lr=0.03, weight_decay=0.1), torch.optim.AdamW([theirs], lr=0.03, weight_decay=0.1)
    for _ in range(5):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        muon.step()
        adamw.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_weight_decay_shrinks_and_missing_gradients_are_skipped():
    weight, idle = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    MuonAdamW([weight, idle], lr=0.5, weight_decay=0.1).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))
    assert (idle == 1).all()


def test_a_saved_state_continues_exactly():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    batches = [torch.randn(2, 3, 6, 6) for _ in range(6)]

    def train(model, optimizer, data):
        for x in data:
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    whole = copy.deepcopy(net)
    train(whole, MuonAdamW(whole.parameters()), batches)
    optimizer = MuonAdamW(net.parameters())
    train(net, optimizer, batches[:3])
    resumed = copy.deepcopy(net)
    later = MuonAdamW(resumed.parameters())
    later.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(resumed, later, batches[3:])
    for a, b in zip(whole.parameters(), resumed.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -0.1}, {"betas": (0.9, 1.0)}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="Muon"):
        MuonAdamW([nn.Parameter(torch.ones(2))], **bad)
