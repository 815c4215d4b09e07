"""Fusions before export leave the numbers as they are: batch norms, branches, whole networks."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bev.deploy.graph import DetectorGraph
from bev.deploy.surgery import PlainAttention, fold_batch_norms, switch_to_deploy
from bev.deploy.surgery_report import STEPS, surgery_report, table
from bev.engine import load_config
from bev.models.backbones import CSPRepResNet, EfficientNet, MobileNetV2, RepVGG, ResNet, ShuffleNetV2
from bev.models.conv_module import ConvModule
from bev.registry import MODELS
from tests.deploy import small
from tests.models.test_mobile_backbones import randomise
from tests.paths import REPO_ROOT

_LATE = ("fold_constants", "merge_convs")
NETWORKS = {
    "RepVGG": lambda: RepVGG("a0", width=0.25, blocks=(1, 2, 2, 1)),
    "CSPRepResNet": lambda: CSPRepResNet(0.33, 0.125),
    "EfficientNet": lambda: EfficientNet("lite0"),
    "MobileNetV2": lambda: MobileNetV2(0.25),
    "ShuffleNetV2": lambda: ShuffleNetV2(0.5),
    "ResNet": lambda: ResNet(18, base_channels=8),
}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]), st.sampled_from([1, 2, 8]))
def test_convolution_and_norm_are_one_convolution(seed: int, size: int, stride: int, groups: int) -> None:
    torch.manual_seed(seed)
    module = randomise(ConvModule(8, 16, size, stride, groups=groups, bias=bool(seed % 2)))
    x = torch.randn(2, 8, 9, 11)
    with torch.no_grad():
        before = module(x)
        assert fold_batch_norms(module) == 1 and isinstance(module.bn, nn.Identity)
        torch.testing.assert_close(module(x), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_without_norms_give_the_same_maps(name: str) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.uniform_(norm.bias, -0.1, 0.1)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for _ in range(2):  # statistics of this picture, so that maps stay of size one through all layers
            net.train()(torch.randn(4, 3, 64, 96))
        before = net.eval()(x)
        switch_to_deploy(net)
        fold_batch_norms(net)
        after = net(x)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    for ours, theirs in zip(after, before):
        torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-5)


@pytest.mark.parametrize("name", ["yolov7_nano", "retinanet_repvgg"])
def test_exports_leave_teaching_parts_out(name: str) -> None:
    """The graph's model has one convolution a block and no auxiliary head's maps; the detector stays as it is."""
    torch.manual_seed(0)
    detector = MODELS.build(load_config(REPO_ROOT / f"configs/bccd/{name}_bccd.py").model).eval()
    names = set(detector.state_dict())
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    graph = DetectorGraph(copy.deepcopy(detector), images, outputs="raw")
    assert not any("rbr_dense" in key or "auxiliary" in key for key in graph.output_names)
    assert not any("rbr_dense" in key for key in graph.model.state_dict())
    assert set(detector.state_dict()) == names


@pytest.mark.parametrize("same", ["all", "keys", "none"])
def test_attention_of_one_product_or_three(same: str) -> None:
    """As torch's own, whichever of queries, keys and values are one tensor."""
    torch.manual_seed(0)
    torchs = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    nn.init.normal_(torchs.in_proj_bias)
    query, other, value = (torch.randn(2, 5, 8) for _ in range(3))
    inputs = {"all": (query, query, query), "keys": (query, query, value), "none": (query, other, value)}[same]
    for merged in (True, False):
        ours = PlainAttention(torchs, merged)
        torch.testing.assert_close(ours(*inputs)[0], torchs(*inputs)[0], atol=1e-5, rtol=1e-5)


def test_report_of_what_each_change_is_worth() -> None:
    """A head of two branches after a norm: fewer nodes at the end, none more on the way, the same numbers."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    example = replace(small.yolox(), images=small.yolox().images[:1])
    steps = surgery_report(example, runs=1)
    assert [step.name for step in steps] == ["as trained", *(STEPS[n] for n in ("fold_norms", *_LATE))]
    nodes = [step.nodes for step in steps]
    # The exporter itself drops norms behind convolutions.
    assert nodes[0] >= nodes[1] >= nodes[2] > nodes[3] and all(step.moved < 1e-5 for step in steps)
    assert steps[0].gflops is not None and steps[-1].gflops == pytest.approx(steps[0].gflops)
    assert len(table(steps).splitlines()) == 2 + len(steps)
