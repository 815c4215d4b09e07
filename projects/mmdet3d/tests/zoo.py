"""Official models with weights by a formula, on real input, as the golden item ``zoo`` has them."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from tests.parity.golden import Golden

_ALL = np.uint64(2**32 - 1)


def hashed(key: str, count: int) -> np.ndarray:
    """(count,) float64 in [-1, 1), a hash of the name and the position: the rule of the golden item's README."""
    z = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(zlib.crc32(key.encode()))) & _ALL
    z ^= z >> np.uint64(15)
    z = (z * np.uint64(2246822519)) & _ALL
    z ^= z >> np.uint64(13)
    z = (z * np.uint64(3266489917)) & _ALL
    z ^= z >> np.uint64(16)
    return z.astype(np.float64) / 2147483648 - 1


def _value(key: str, shape: torch.Size, keys: set[str]) -> np.ndarray:
    t = hashed(key, int(np.prod(shape)))
    if key.endswith("running_mean"):
        return 0.05 * t
    if key.endswith("running_var"):
        return 1 + 0.3 * t**2
    if key.endswith("bias"):
        return 0.1 * t
    if len(shape) >= 2:
        has_bias = key.endswith("weight") and key[: -len("weight")] + "bias" in keys
        return np.sqrt(3 * (1 if has_bias else 2) / (t.size / shape[0])) * t
    return 1 + 0.1 * t if key.endswith((".weight", ".scale")) else 0.1 * t


def fill(model: nn.Module, first_weight: str, input_gain: float) -> None:
    """Give every parameter and running statistic its value; dropout off."""
    state = model.state_dict()
    named = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    done: set[int] = set()
    for key, tensor in state.items():
        target = named[key]
        running = key.endswith(("running_mean", "running_var"))
        if id(target) in done or not (isinstance(target, nn.Parameter) or running):
            continue
        done.add(id(target))
        value = _value(key, tensor.shape, set(state))
        value *= 0.05 if "conv_offset" in key else 1
        value *= 0.2 if key.endswith(("bn3.weight", "conv2.bn.weight", "conv2.pointwise_conv.bn.weight")) else 1
        value *= input_gain if key == first_weight else 1
        tensor.copy_(torch.from_numpy(value).view(tensor.shape))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0


def build(golden: Golden) -> tuple[nn.Module, Config]:
    """The official model of a golden file, by the official config inside the installed package."""
    from projects.mmdet3d import official_config

    name = golden.config["config"]
    three_d = name.split("/")[0] in ("pointpillars", "fcos3d", "centerpoint", "pgd", "smoke")
    config = official_config(f"{'mmdet3d' if three_d else 'mmdet'}::{name}")
    override(config, golden.config["overrides"])
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(config.default_scope)
    config.model.pop("init_cfg", None)
    model = MODELS.build(config.model)
    fill(model, golden.config["first_weight"], golden.config["input_gain"])
    return model, config


def override(config: Config, overrides: list[str]) -> None:
    """Apply ``path.{a,b}.key=value (remark)``."""
    for text in overrides:
        path, value = text.split(" ")[0].split("=")
        head, brace, rest = path.partition("{")
        names, _, tail = rest.partition("}")
        for path in [head + name + tail for name in names.split(",")] if brace else [path]:
            config.merge_from_dict({f"model.{path}": float(value) if "." in value else int(value)})


def flatten(prefix: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested tuples, lists and dicts, with their places joined by dots."""
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flatten(f"{prefix}.{index}", item)


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, list[Any]]]:
    """What every direct child module (and those of a RoI head) puts out, call by call."""
    outputs: dict[str, list[Any]] = {}
    children = {**dict(model.named_children())}
    children |= {f"roi_head.{k}": v for k, v in getattr(model, "roi_head", nn.Module()).named_children()}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: outputs.setdefault(name, []).append(output)

    handles = [child.register_forward_hook(keep(name)) for name, child in children.items()]
    yield outputs
    for handle in handles:
        handle.remove()


def named_outputs(outputs: dict[str, list[Any]]) -> dict[str, Tensor]:
    """``out.<child>...`` as the golden files name them: one more index where a module was called several times."""
    found: dict[str, Tensor] = {}
    for name, calls in outputs.items():
        found |= dict(flatten(f"out.{name}", calls[0] if len(calls) == 1 else calls))
    return found


def stored(golden: Golden, key: str, tensor: Tensor) -> Tensor:
    """The part of a tensor that its golden file keeps."""
    entry = golden.config["tensors"].get(key)
    if entry is None:
        return tensor
    assert list(tensor.shape) == entry["shape"], f"{key}: {list(tensor.shape)} instead of {entry['shape']}"
    return tensor.detach().reshape(-1)[:: entry["stride"]]


def image_batch(golden: Golden, folder: Path) -> dict[str, Any]:
    """Pictures after the official pipeline with their ground truth, as mmdet's data preprocessor takes them."""
    import cv2
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    pictures, samples = [], []
    for index, entry in enumerate(golden.config["input"].values()):
        picture = cv2.imread(str(folder / "inputs" / entry["png"]))
        pictures.append(torch.from_numpy(picture).permute(2, 0, 1))
        sample = DetDataSample()
        shape = tuple(entry["shape_after_pipeline"][:2])
        sample.set_metainfo(
            {
                **{"img_shape": shape, "ori_shape": tuple(entry["ori_shape"]), "pad_shape": shape},
                **{"scale_factor": tuple(entry["scale_factor"]), "batch_input_shape": shape, "img_id": index},
            }
        )
        bboxes, labels = golden[f"in.gt_bboxes.{index}"], golden[f"in.gt_labels.{index}"]
        sample.gt_instances = InstanceData(bboxes=bboxes, labels=labels.long())
        sample.ignored_instances = InstanceData(bboxes=bboxes[:0], labels=labels[:0].long())
        samples.append(sample)
    return {"inputs": pictures, "data_samples": samples}


def lidar_batch(golden: Golden, folder: Path, range_m: Sequence[float]) -> dict[str, Any]:
    """The key frame's sweep, without points outside the range, as the official pipeline has it."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    (file,) = folder.glob("*LIDAR_TOP*.pcd.bin")
    points = np.fromfile(file, np.float32).reshape(-1, 5)
    points[:, 4] = 0  # seconds since the sweep, where the file has the laser's number
    inside = (points[:, :3] > range_m[:3]) & (points[:, :3] < range_m[3:])
    points = points[inside.all(1)]
    if golden.config["input"]["points"]["shape"][1] == 4:  # the time, not the intensity
        points = np.ascontiguousarray(points[:, [0, 1, 2, 4]])
    assert hashlib.sha256(points.tobytes()).hexdigest() == golden.config["input"]["points"]["sha256_float32"]
    sample = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes})
    boxes = LiDARInstance3DBoxes(golden["in.gt_bboxes_3d"], box_dim=golden["in.gt_bboxes_3d"].shape[1])
    sample.gt_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=golden["in.gt_labels_3d"].long())
    return {"inputs": {"points": [torch.from_numpy(points)]}, "data_samples": [sample]}


def mono_batch(golden: Golden, folder: Path) -> dict[str, Any]:
    """The front camera's picture."""
    import cv2
    from mmdet3d.structures import CameraInstance3DBoxes, Det3DDataSample
    from mmengine.structures import InstanceData

    picture = cv2.imread(str(folder / golden.config["input"]["image"]["file"]))
    camera = golden["in.cam2img"].double().numpy()
    meta = {"img_shape": picture.shape[:2], "ori_shape": picture.shape[:2], "box_type_3d": CameraInstance3DBoxes}
    sample = Det3DDataSample(metainfo={**meta, "cam2img": camera.tolist(), "scale_factor": (1.0, 1.0), "sample_idx": 0})
    boxes = golden["in.gt_bboxes_3d"]
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=CameraInstance3DBoxes(boxes, box_dim=boxes.shape[1], origin=(0.5, 1.0, 0.5)),
        **{"labels_3d": golden["in.gt_labels_3d"].long(), "centers_2d": golden["in.centers_2d"]},
        **{"depths": golden["in.depths"], "attr_labels": golden["in.attr_labels"].long()},
    )
    sample.gt_instances = InstanceData(
        bboxes=golden["in.gt_bboxes"], labels=golden["in.gt_bboxes_labels"].long()
    )
    sample.ignored_instances = InstanceData(bboxes=golden["in.gt_bboxes"][:0], labels=torch.zeros(0).long())
    return {"inputs": {"img": [torch.from_numpy(picture).permute(2, 0, 1)]}, "data_samples": [sample]}
