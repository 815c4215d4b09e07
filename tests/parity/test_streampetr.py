"""StreamPETR's head over three frames with memory against the published implementation.

Golden item streampetr_head; tolerances from its README. Every file of the folder is checked. The published memory lives
in the global frame with absolute times; ours in the latest frame's, so it is taken there for the comparison.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bev.models.attention import GlobalDecoderLayer, GlobalTransformer
from bev.models.heads import Motion
from bev.structures import CameraRig
from projects.streampetr import StreamPETRHead
from tests.parity.golden import Golden, load_weights
from tests.parity.query_heads import assert_boxes, head_parts, rig_from
from tests.paths import golden_cases

CASES = pytest.mark.parametrize("path", golden_cases("streampetr_head"), ids=lambda p: p.stem)
FEATURES, METRES = {"atol": 5e-5, "rtol": 5e-5}, {"atol": 5e-4, "rtol": 1e-5}
_STRIDE_PX = 16  # of in.location


def _head(config: dict[str, Any]) -> StreamPETRHead:
    """The published configuration, in this library's terms."""
    decoder, dim = config["transformer"]["decoder"], config["embed_dims"]
    layer = decoder["transformerlayers"]
    heads, hidden = layer["attn_cfgs"][0]["num_heads"], layer["feedforward_channels"]
    layers = [GlobalDecoderLayer(dim, heads, hidden, 0.0) for _ in range(decoder["num_layers"])]
    return StreamPETRHead(
        GlobalTransformer(dim, layers),
        config["in_channels"],
        embed_dim=dim,
        range_m=config["bbox_coder"]["pc_range"],
        position_range_m=config["position_range"],
        num_propagated=config["num_propagated"],
        memory_length=config["memory_len"],
        top_k=config["topk_proposals"],
        depth_count=config["depth_num"],
        stride_px=_STRIDE_PX,
        code_weights=config["code_weights"],
        compat="official",
        **head_parts(config, legacy=False),
    )


def _motion(golden: Golden, frame: int) -> Motion:
    now = golden.group(f"in.frame{frame}")
    batch = len(now["timestamp"])
    pose, elapsed, came = now["ego_pose"], torch.zeros(batch).double(), torch.eye(4).double().expand(batch, 4, 4)
    if frame:
        before = golden.group(f"in.frame{frame - 1}")
        came, elapsed = now["ego_pose_inv"] @ before["ego_pose"], now["timestamp"] - before["timestamp"]
    return Motion(now["prev_exists"] > 0, pose, came, elapsed)


def _run(golden: Golden, head: StreamPETRHead, rig: CameraRig) -> list[dict[str, Any]]:
    """Outputs of the file's three frames, each from the state of the one before."""
    outputs, memory = [], {}
    for frame in range(3):
        now = golden.group(f"in.frame{frame}")
        picked = now["topk_indexes"].squeeze(-1) if "topk_indexes" in now else None
        state = {**memory, **head.motion_inputs(_motion(golden, frame))}
        outputs.append(head([now["feat"]], rig, state, picked))
        memory = outputs[-1]["state"]
    return outputs


@pytest.fixture
def run(path: Path) -> tuple[Golden, StreamPETRHead, list[dict[str, Any]]]:
    golden = Golden(path)
    head = _head(golden.config["head"])
    load_weights(head, golden.group("weights"))
    rig = rig_from(golden["in.lidar2img"], golden["in.pad_shape"], golden["in.intrinsics"])
    with torch.no_grad():
        return golden, head, _run(golden, head.eval(), rig)


@CASES
def test_outputs_of_three_frames(run: tuple[Golden, StreamPETRHead, list[dict[str, Any]]]) -> None:
    golden, _, outputs = run
    order = [0, 1, 3, 4, 2, 5, 6, 7, 8, 9]  # published: cx, cy, cz, log sizes, ...
    for frame, result in enumerate(outputs):
        expected = golden.group(f"out.frame{frame}")
        torch.testing.assert_close(result["cls_logits"], expected["all_cls_scores"], **FEATURES)
        torch.testing.assert_close(result["box_code"], expected["all_bbox_preds"][..., order], **METRES)


@CASES
def test_memory_after_each_frame(run: tuple[Golden, StreamPETRHead, list[dict[str, Any]]]) -> None:
    golden, _, outputs = run
    for frame, result in enumerate(outputs):
        state, expected = result["state"], golden.group(f"out.frame{frame}")
        now = golden.group(f"in.frame{frame}")
        pose = now["ego_pose"].unsqueeze(1)
        torch.testing.assert_close(state["embedding"], expected["memory_embedding"], **FEATURES)
        torch.testing.assert_close(state["velocity_mps"], expected["memory_velo"], **FEATURES)
        point_m = _homogeneous(pose, state["point_m"])
        torch.testing.assert_close(point_m, expected["memory_reference_point"].double(), **METRES)
        torch.testing.assert_close(pose @ state["pose"].double(), expected["memory_egopose"].double(), **METRES)
        time = state["age_s"].double() - now["timestamp"][:, None]
        torch.testing.assert_close(time.unsqueeze(-1), expected["memory_timestamp"], atol=1e-5, rtol=0)


def _homogeneous(pose: Tensor, point_m: Tensor) -> Tensor:
    return (pose[..., :3, :3] @ point_m.double().unsqueeze(-1)).squeeze(-1) + pose[..., :3, 3]


@CASES
def test_decoding(run: tuple[Golden, StreamPETRHead, list[dict[str, Any]]]) -> None:
    golden, head, outputs = run
    for frame, result in enumerate(outputs):
        for sample, boxes in enumerate(head.decode(result)):
            assert_boxes(boxes, golden.group(f"out.frame{frame}.decode.{sample}"), "mmdet3d_v1")
