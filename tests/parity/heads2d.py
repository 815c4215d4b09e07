"""mmdet's head configurations as parts of ours, and mmdet's parameter names as ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bev.models import assigners, coders, losses, priors
from bev.models.conv_module import BN, GN, Norm
from bev.models.heads import dense
from bev.models.heads.dense import DenseHead
from tests.parity.test_assigners import renamed

Node = dict[str, Any]

_ASSIGNERS = {
    "MaxIoUAssigner": assigners.MaxIoUAssigner,
    "ATSSAssigner": assigners.ATSSAssigner,
    "TaskAlignedAssigner": assigners.TaskAlignedAssigner,
    "SimOTAAssigner": assigners.SimOTAAssigner,
    "DynamicSoftLabelAssigner": assigners.DynamicSoftLabelAssigner,
    "GridAssigner": assigners.GridAssigner,
}
# Where a family calls a layer otherwise.
_RENAMED = {
    "retina_cls": "conv_cls",
    "retina_reg": "conv_reg",
    "atss_cls": "conv_cls",
    "atss_reg": "conv_reg",
    "atss_centerness": "conv_quality",
    "conv_centerness": "conv_quality",
    "gfl_cls": "conv_cls",
    "gfl_reg": "conv_reg",
    "tood_cls": "conv_cls",
    "tood_reg": "conv_reg",
    "rtm_cls": "conv_cls",
    "rtm_reg": "conv_reg",
    "multi_level_cls_convs": "cls_convs",
    "multi_level_reg_convs": "reg_convs",
    "multi_level_conv_cls": "conv_cls",
    "multi_level_conv_reg": "conv_reg",
    "multi_level_conv_obj": "conv_quality",
}


def our_name(name: str, kind: str) -> str:
    """mmdet's parameter name -> that of ``DenseHead.network``."""
    first, _, rest = name.partition(".")
    if kind == "SSDHead":  # one convolution in a Sequential each
        level, _, leaf = rest.split(".")
        return f"{ {'cls_convs': 'conv_cls', 'reg_convs': 'conv_reg'}[first]}.{level}.{leaf}"
    return f"{_RENAMED.get(first, first)}.{rest}"


def network_weights(weights: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The files' weights by our names; GFL's integral is no weight here."""
    return {our_name(k, kind): v for k, v in weights.items() if not k.startswith("integral.")}


def build_head(config: Node, epoch: int | None = None) -> DenseHead:
    """The head of a file's ``config['head']``."""
    head = _BUILDERS[config["type"]](config)
    if epoch is not None:
        head.criterion.epoch = epoch
    return head


def _norm(config: Node) -> Norm | None:
    node = config.get("norm_cfg")
    if node is None:
        return None
    if node["type"] == "GN":
        return GN(node["num_groups"])
    return BN(node.get("eps", 1e-5), node.get("momentum", 0.1))


def _assigner(node: Node, **extra: Any) -> Any:
    options = {k: v for k, v in renamed(node).items() if k != "type"}
    return _ASSIGNERS[node["type"]](**options, **extra)


def _loss(node: Node) -> Any:
    options = {k: v for k, v in node.items() if k not in ("type", "use_sigmoid")}
    if node["type"] == "CrossEntropyLoss":
        return losses.BinaryCrossEntropyLoss(**options)
    return getattr(losses, node["type"])(**options)


def _anchors(node: Node) -> priors.PriorGenerator:
    return priors.OctaveAnchors(node["strides"], node["octave_base_scale"], node["scales_per_octave"], node["ratios"])


def _delta(config: Node) -> coders.DeltaBoxCoder:
    return coders.DeltaBoxCoder(config["bbox_coder"]["target_stds"])


def _decoder(config: Node, **extra: Any) -> dense.DenseDecoder:
    test = config["test_cfg"]
    return dense.DenseDecoder(
        test["score_thr"], test["nms"]["iou_threshold"], test.get("max_per_img"), test.get("nms_pre"), **extra
    )


def _towers(config: Node, strides: list[int], **extra: Any) -> dense.SharedTowers:
    options: Node = dict(scales=True, norm=_norm(config)) | extra
    width, depth = config["feat_channels"], config["stacked_convs"]
    return dense.SharedTowers(config["num_classes"], config["in_channels"], strides, width, depth, **options)


def _retina(config: Node) -> DenseHead:
    anchors = _anchors(config["anchor_generator"])
    return DenseHead(
        _towers(config, anchors.strides, per_cell=anchors.per_cell[0], scales=False),
        anchors,
        _delta(config),
        dense.AnchorCriterion(
            _assigner(config["train_cfg"]["assigner"]), _loss(config["loss_cls"]), _loss(config["loss_bbox"])
        ),
        _decoder(config),
    )


def _fcos(config: Node) -> DenseHead:
    normalised = config.get("norm_on_bbox", False)
    radius = config.get("center_sample_radius", 1.5) if config.get("center_sampling") else None
    network = _towers(
        config,
        config["strides"],
        quality="box" if config.get("centerness_on_reg") else "cls",
        box_form="relu" if normalised else "exp",
        bias=True if config.get("conv_bias") is True else None,
        deformable_last=config.get("dcn_on_last_conv", False),
    )
    criterion = dense.CenternessCriterion(
        assigners.PointRangeAssigner(config["regress_ranges"], radius),
        _loss(config["loss_cls"]),
        _loss(config["loss_bbox"]),
        _loss(config["loss_centerness"]),
        one_each=False,
        least_centerness=1e-6,
    )
    points = priors.PointPriors(config["strides"])
    return DenseHead(network, points, coders.DistanceBoxCoder(), criterion, _decoder(config))


def _atss(config: Node) -> DenseHead:
    anchors = _anchors(config["anchor_generator"])
    criterion = dense.CenternessCriterion(
        _assigner(config["train_cfg"]["assigner"]),
        _loss(config["loss_cls"]),
        _loss(config["loss_bbox"]),
        _loss(config["loss_centerness"]),
    )
    network = _towers(config, anchors.strides, quality="box")
    return DenseHead(network, anchors, _delta(config), criterion, _decoder(config))


def _paa(config: Node) -> DenseHead:
    anchors = _anchors(config["anchor_generator"])
    criterion = dense.MixtureCriterion(
        _assigner(config["train_cfg"]["assigner"]),
        _loss(config["loss_cls"]),
        _loss(config["loss_bbox"]),
        _loss(config["loss_centerness"]),
        config["topk"],
    )
    decoder = _decoder(config, quality_mode="geometric", voting=config["score_voting"])
    return DenseHead(_towers(config, anchors.strides, quality="box"), anchors, _delta(config), criterion, decoder)


def _gfl(config: Node) -> DenseHead:
    anchors, coder = _anchors(config["anchor_generator"]), coders.DistributionBoxCoder(config["reg_max"])
    criterion = dense.DistributionCriterion(
        _assigner(config["train_cfg"]["assigner"]),
        _loss(config["loss_cls"]),
        _loss(config["loss_bbox"]),
        _loss(config["loss_dfl"]),
    )
    network = _towers(config, anchors.strides, box_channels=coder.channels)
    return DenseHead(network, anchors, coder, criterion, _decoder(config))


def _tood(config: Node) -> DenseHead:
    anchors, train = _anchors(config["anchor_generator"]), config["train_cfg"]
    first = dense.CenternessCriterion(
        _assigner(train["initial_assigner"]),
        _loss(config["initial_loss_cls"]),
        _loss(config["loss_bbox"]),
        one_each=False,
    )
    later = dense.QualityCriterion(
        _assigner(train["assigner"], alpha=train["alpha"], beta=train["beta"]),
        _loss(config["loss_cls"]),
        _loss(config["loss_bbox"]),
    )
    network = dense.AlignedTowers(
        config["num_classes"],
        config["in_channels"],
        len(anchors.strides),
        config["feat_channels"],
        config["stacked_convs"],
        _norm(config),
    )
    criterion = dense.SwitchCriterion(first, later, train["initial_epoch"])
    decoder = _decoder(config, clip=False)
    return DenseHead(network, anchors, coders.CornerBoxCoder(), criterion, decoder, "probability")


def _rtmdet(config: Node) -> DenseHead:
    strides = config["anchor_generator"]["strides"]
    if config["type"] == "RTMDetHead":
        network: Any = _towers(config, strides, activation="silu", box_form="exp_strides")
    else:
        network = dense.LevelTowers(
            config["num_classes"],
            config["in_channels"],
            strides,
            config["feat_channels"],
            config["stacked_convs"],
            norm=_norm(config),
            share_convs=config["share_conv"],
            box_form="exp_strides",
            kernel_size=config["pred_kernel_size"],
        )
    criterion = dense.QualityCriterion(
        _assigner(config["train_cfg"]["assigner"]),
        _loss(config["loss_cls"]),
        _loss(config["loss_bbox"]),
        assign_logits=True,
        normalise=False,
    )
    points = priors.PointPriors(strides, config["anchor_generator"]["offset"])
    return DenseHead(network, points, coders.DistanceBoxCoder(), criterion, _decoder(config))


def _ssd(config: Node) -> DenseHead:
    node, train = config["anchor_generator"], config["train_cfg"]
    low, high = node["basesize_ratio_range"]
    anchors = priors.SSDAnchors(
        node["strides"], node["ratios"], node["input_size"], (low, high), 0.07 if low == 0.15 else 0.1
    )
    network = dense.LevelTowers(
        config["num_classes"] + 1,
        config["in_channels"],
        node["strides"],
        stacked_convs=0,
        per_cell=anchors.per_cell,
        kernel_size=3,
    )
    criterion = dense.AnchorCriterion(
        _assigner(train["assigner"]),
        losses.CrossEntropyLoss(),
        losses.SmoothL1Loss(train["smoothl1_beta"]),
        negatives_per_positive=train["neg_pos_ratio"],
    )
    return DenseHead(network, anchors, _delta(config), criterion, _decoder(config), "softmax")


def _yolov3(config: Node) -> DenseHead:
    node = config["anchor_generator"]
    network = dense.CoupledConvs(
        config["num_classes"], config["in_channels"], config["out_channels"], len(node["base_sizes"][0])
    )
    weights = {
        f"weight_{ours}": config[f"loss_{theirs}"]["loss_weight"]
        for ours, theirs in (("cls", "cls"), ("obj", "conf"), ("xy", "xy"), ("wh", "wh"))
    }
    criterion = dense.GridCriterion(_assigner(config["train_cfg"]["assigner"]), **weights)
    quality = config["test_cfg"]["conf_thr"]
    decoder = _decoder(config, quality_threshold=quality, clip=False, across_levels=True)
    anchors = priors.SizedAnchors(node["strides"], node["base_sizes"])
    return DenseHead(network, anchors, coders.CellBoxCoder(), criterion, decoder)


def _yolox(config: Node) -> DenseHead:
    strides = config["strides"]
    network = dense.LevelTowers(
        config["num_classes"],
        config["in_channels"],
        strides,
        config["feat_channels"],
        config["stacked_convs"],
        quality="box",
        norm=_norm(config),
        depthwise=config["use_depthwise"],
    )
    node = {k: v for k, v in renamed(config["train_cfg"]["assigner"]).items() if k != "type"}
    criterion = dense.ObjectnessCriterion(assigners.SimOTAAssigner(**node | {"root": True}))
    decoder = _decoder(config, single_label=True, clip=False)
    return DenseHead(network, priors.PointPriors(strides, 0.0), coders.StrideBoxCoder(), criterion, decoder)


_BUILDERS = {
    "RetinaHead": _retina,
    "FCOSHead": _fcos,
    "ATSSHead": _atss,
    "PAAHead": _paa,
    "GFLHead": _gfl,
    "TOODHead": _tood,
    "RTMDetHead": _rtmdet,
    "RTMDetSepBNHead": _rtmdet,
    "SSDHead": _ssd,
    "YOLOV3Head": _yolov3,
    "YOLOXHead": _yolox,
}
