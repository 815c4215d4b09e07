"""Strided 1x1 convolutions of few channels: training does not crash, nothing else changes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from bev.models.backbones import ResNet
from bev.models.backbones.csp_darknet_parts import BaseConv
from bev.models.backbones.repvgg import RepVGG, RepVGGBlock
from bev.models.backbones.resnet import BasicBlock, BlockOptions, Bottleneck
from bev.models.backbones.sequential import conv_norm
from bev.models.conv_module import ConvModule, ResidualBlock
from bev.models.folding import fold_batch_norms
from bev.models.strided_conv import SparsePointwise2d, conv2d

# With plain convolutions each of these, on its own, ends the interpreter with torch 2.13 and AVX-512.
BLOCKS = {
    "RepVGG": lambda: RepVGGBlock(3, 24, 2),
    "ResidualBlock": lambda: ResidualBlock(8, 16, 2),
    "BasicBlock": lambda: BasicBlock(8, 16, 2),
    "Bottleneck": lambda: Bottleneck(8, 16, 2),
    "caffe": lambda: Bottleneck(12, 16, 2, BlockOptions(style="caffe")),
    "ConvModule": lambda: ConvModule(6, 16, 1, 2),
    "BaseConv": lambda: BaseConv(4, 8, 1, 2),
    "conv_norm": lambda: conv_norm(15, 16, 1, 2),
}


def _gradients(block: nn.Module, images: Tensor, memory_format: torch.memory_format) -> list[Tensor]:
    block.zero_grad()
    images = images.detach().contiguous(memory_format=memory_format).requires_grad_()
    results = block.to(memory_format=memory_format)(images).float()
    # Random weights: of the mean square after a batch norm, the gradient is rounding alone.
    (results * torch.randn(results.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    return [t.grad.float().clone() for t in (images, *block.parameters()) if t.grad is not None]


def train_in_both_layouts(name: str) -> None:
    """Gradients on channels_last pictures are those on contiguous ones; to be called in a process of its own."""
    torch.manual_seed(0)
    block = BLOCKS[name]()
    if hasattr(block, "relu"):
        block.relu = nn.SiLU()  # a ReLU near zero takes either side by rounding
    channels = next(m.in_channels for m in block.modules() if isinstance(m, nn.Conv2d))
    precisions = [(torch.float32, 1e-4), (torch.bfloat16, 0.1)]
    for dtype, tolerance in precisions if name in ("RepVGG", "ConvModule") else precisions[:1]:
        block.to(dtype)
        images = torch.randn(2, channels, 160, 224, dtype=dtype)
        expected = _gradients(block, images, torch.contiguous_format)
        found = _gradients(block, images, torch.channels_last)
        assert len(found) == len(expected) == 1 + len(list(block.parameters()))
        for one, other in zip(found, expected):
            assert float((one - other).norm()) <= tolerance * float(other.norm()) + 1e-6, (name, dtype)


def test_training_does_not_crash() -> None:
    code = "import torch\nfrom tests.models.test_strided_conv import BLOCKS, train_in_both_layouts\n"
    code += "for threads in (1, 2):\n    torch.set_num_threads(threads)\n"
    code += "    for name in list(BLOCKS)[threads - 1 :: threads]:\n"
    code += "        print(name, flush=True)\n        train_in_both_layouts(name)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"exit status {done.returncode} at {done.stdout.split()[-1:]}: {done.stderr[-2000:]}"
    assert set(done.stdout.split()) == set(BLOCKS)


@pytest.mark.parametrize("channels", [1, 3, 8, 15])
@pytest.mark.parametrize("size", [(32, 48), (31, 45), (1, 7)])
def test_results_are_those_of_the_plain_convolution(channels: int, size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        sparse = conv2d(channels, 24, 1, 2, bias=False).to(memory_format=memory_format)
        plain = nn.Conv2d(channels, 24, 1, 2, bias=False).to(memory_format=memory_format)
        plain.load_state_dict(sparse.state_dict())
        assert isinstance(sparse, SparsePointwise2d)
        images = torch.randn(2, channels, *size).contiguous(memory_format=memory_format)
        with torch.no_grad():
            assert torch.equal(sparse(images), plain(images))
        if size[0] > 1:
            assert torch.equal(sparse(images), plain(images))
        else:  # the layout of one row is read either way, and either kernel may be taken
            torch.testing.assert_close(sparse(images), plain(images), atol=1e-6, rtol=1e-6)


def test_only_what_needs_it_is_special() -> None:
    for plain in (conv2d(16, 8, 1, 2), conv2d(8, 8, 1, 1), conv2d(8, 8, 3, 2, 1), conv2d(8, 8, 1, 2, 0, 8)):
        assert type(plain) is nn.Conv2d
    with torch.device("meta"):
        assert not any(isinstance(m, SparsePointwise2d) for m in ResNet(18).modules())
        special = [n for n, m in RepVGG("a0").named_modules() if isinstance(m, SparsePointwise2d)]
    assert special == ["stage0.rbr_1x1.conv"]


def test_a_graph_without_gradients_has_the_plain_convolution() -> None:
    block = ConvModule(3, 8, 1, 2, activation=None).eval()
    with torch.no_grad():
        graph = torch.jit.trace(block, torch.randn(1, 3, 8, 8)).inlined_graph  # type: ignore[no-untyped-call]
    called = {node.kind() for node in graph.nodes()}
    assert "aten::_convolution" in called and "aten::slice" not in called, called


def test_its_batch_norm_folds() -> None:
    torch.manual_seed(2)
    block = ConvModule(3, 8, 1, 2, activation=None)
    images = torch.randn(2, 3, 8, 8)
    block(images)
    expected = block.eval()(images)
    assert fold_batch_norms(block) == 1
    torch.testing.assert_close(block(images), expected)
