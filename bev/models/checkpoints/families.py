"""Whose file is it: the published detectors, how their files are recognised and what their weights expect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from bev.io.checkpoint import CheckpointError
from bev.models.checkpoints.properties import CAFFE, DETECTRON, IMAGENET, Colours, Properties
from bev.models.detectors.bevdet_names import from_bevdepth
from bev.models.detectors.yolox_weights import from_official as from_yolox
from bev.registry import suggest
from bev.structures.conventions import CAMERAS_DETR3D, BoxConvention

Weights = Mapping[str, Tensor]


def openmmlab_names(weights: Weights) -> dict[str, Tensor]:
    """Names of OpenMMLab's camera detectors -> ours: they are ours, but for those of old files and of FCOS3D.

    ``conv2_offset`` is the deformable offset of mmdet < 2.0; ``backbone.`` and ``neck.`` are what single-image
    detectors (FCOS3D, from which DETR3D starts) call their parts.
    """
    renamed = {}
    for name, value in weights.items():
        name = name.replace("conv2_offset.", "conv2.conv_offset.")
        renamed[f"img_{name}" if name.startswith(("backbone.", "neck.")) else name] = value
    return renamed


@dataclass(frozen=True)
class Family:
    """One method's published files.

    Attributes:
        name: as given to ``--from``.
        signature: regular expressions, each of which some name of its files matches.
        configs: published configurations, from the repository's root.
        properties: of a file's weights, told from the weights.
        rename: its names -> ours.
        training_only: prefixes of parts that only training needs; left out where the model has no such part.
        ambiguous: files of equal names and shapes exist in both box codes, so that the file has to say, or the user.
        size_rows: of log length and log width in its box code.
    """

    name: str
    signature: tuple[str, ...]
    configs: tuple[str, ...]
    properties: Callable[[Weights], Properties]
    rename: Callable[[Weights], dict[str, Tensor]] = openmmlab_names
    training_only: tuple[str, ...] = ()
    ambiguous: bool = False
    size_rows: tuple[int, int] = (2, 3)
    patterns: tuple[re.Pattern[str], ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", tuple(re.compile(text) for text in self.signature))

    def fits(self, names: Iterable[str]) -> bool:
        """Every pattern of the signature is among the names."""
        names = list(names)
        return all(any(pattern.search(name) for name in names) for pattern in self.patterns)


FAMILIES: dict[str, Family] = {}


def register_family(family: Family) -> Family:
    """Make a method's files known (projects do so when imported).

    Raises:
        ValueError: the name is taken.
    """
    if family.name in FAMILIES:
        raise ValueError(f"checkpoint family {family.name!r} is already registered")
    FAMILIES[family.name] = family
    return family


def detect_family(names: Iterable[str], source: str) -> Family:
    """The family whose signature the names carry.

    Raises:
        CheckpointError: none, or several; names the file and some of its keys.
    """
    names = list(names)
    found = [family for family in FAMILIES.values() if family.fits(names)]
    if len(found) == 1:
        return found[0]
    said = "several families fit" if found else "no family's names are in it"
    raise CheckpointError(
        f"checkpoint {source}: {said} ({', '.join(f.name for f in found) or ', '.join(sorted(FAMILIES))}); "
        f"it holds {', '.join(names[:3])} ...; tell whose it is with --from"
    )


def family_named(name: str, names: Iterable[str], source: str) -> Family:
    """The family that the user named, if the file can be one of its.

    Raises:
        CheckpointError: unknown name, or a file of another family.
    """
    names = list(names)
    if name not in FAMILIES:
        raise CheckpointError(f"checkpoint family {name!r} is unknown{suggest(name, FAMILIES)}")
    if FAMILIES[name].fits(names):
        return FAMILIES[name]
    others = [family.name for family in FAMILIES.values() if family.fits(names)]
    hint = f"it looks like {' or '.join(others)}" if others else "no family's names are in it"
    raise CheckpointError(f"checkpoint {source} is not of {name}: {hint}; it holds {', '.join(names[:3])} ...")


def image_colours(weights: Weights) -> Colours:
    """Colours of a backbone from what it is: VoVNet came from detectron2, deformable ResNet-101 from Caffe's."""
    if any(".OSA" in name for name in weights):
        return DETECTRON
    return CAFFE if any("conv_offset" in name and "backbone" in name for name in weights) else IMAGENET


def box_convention_of(versions: Mapping[str, str]) -> BoxConvention | None:
    """What the package versions in a file say of its box code; None: nothing.

    mmdet3d turned its boxes around in 1.0.0rc0; mmengine exists only since.
    """
    version = versions.get("mmdet3d_version")
    if version is not None and version[:1].isdigit():
        return "mmdet3d_v0" if version.startswith("0.") else "mmdet3d_v1"
    return "mmdet3d_v1" if "mmengine_version" in versions else None


def _bevdet(weights: Weights) -> Properties:
    # The second generation has neither the grid's constants nor the old name of the depth convolution.
    first = any(name.endswith("img_view_transformer.depthnet.weight") for name in weights)
    return Properties("mmdet3d_v0" if first else "mmdet3d_v1", "lidar" if first else "ego", None, IMAGENET)


def _bevdepth(weights: Weights) -> dict[str, Tensor]:
    try:
        return from_bevdepth(weights)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


register_family(
    Family(
        "detr3d",
        (r"pts_bbox_head\.transformer\.reference_points\.", r"attentions\.1\.position_encoder\.0\."),
        ("configs/detr3d/detr3d_r101_dcn_nusc.py", "configs/detr3d/detr3d_vovnet_nusc.py"),
        lambda weights: Properties("mmdet3d_v0", "lidar", CAMERAS_DETR3D, image_colours(weights)),
        ambiguous=True,
    )
)
register_family(
    Family(
        "bevformer",
        (r"pts_bbox_head\.transformer\.cams_embeds", r"pts_bbox_head\.bev_embedding\."),
        tuple(f"configs/bevformer/bevformer_{size}_nusc.py" for size in ("tiny", "small", "base")),
        lambda weights: Properties("mmdet3d_v0", "lidar", CAMERAS_DETR3D, image_colours(weights)),
    )
)
register_family(
    Family(
        "bevdet",
        (r"^img_view_transformer\.depth_?net\.", r"^pts_bbox_head\.task_heads\."),
        (
            "configs/bevdet/bevdet_r50_nusc.py",
            "configs/bevdet/bevdet_r50_dev2_nusc.py",
            "configs/bevdet/bevdet_swint_nusc.py",
            "configs/bevdet/bevdet4d_r50_nusc.py",
            "configs/bevdepth/bevdet_bevdepth_r50_nusc.py",
        ),
        _bevdet,
    )
)
register_family(
    Family(
        "bevdepth",
        (r"^(model\.)?backbone\.depth_net\.", r"^(model\.)?head\.task_heads\."),
        ("configs/bevdepth/bevdepth_r50_2key_nusc.py",),
        lambda weights: Properties("mmdet3d_v1", "ego", None, IMAGENET),
        rename=_bevdepth,
    )
)
register_family(
    Family(
        "yolox",
        (r"^backbone\.backbone\.(stem|dark2)\.", r"^head\.(stems|cls_preds)\."),
        ("configs/yolox/yolox_nano_coco.py",),
        lambda weights: Properties(),
        rename=from_yolox,
    )
)
