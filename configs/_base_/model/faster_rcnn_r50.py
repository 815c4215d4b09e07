# Faster R-CNN (arXiv 1506.01497) on ResNet-50 FPN: a dense head of one class proposes, a region head decides.
_base_ = ["configs/_base_/model/resnet50_fpn.py"]

_strides = (4, 8, 16, 32, 64)

model = dict(
    neck=dict(start_level=0, extra_levels="max_pool"),
    head=dict(
        type="TwoStageHead",
        rpn=dict(
            type="DenseHead",
            network=dict(type="ProposalConvs", in_channels=256, feat_channels=256),
            priors=dict(type="ScaledAnchors", strides=_strides, scales=(8,), ratios=(0.5, 1.0, 2.0)),
            box_coder=dict(type="DeltaBoxCoder"),
            criterion=dict(
                type="AnchorCriterion",
                assigner=dict(type="MaxIoUAssigner", pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3),
                sampler=dict(type="RandomSampler", count=256, positive_share=0.5),
                loss_cls=dict(type="SigmoidCrossEntropyLoss"),
                loss_bbox=dict(type="L1Loss"),
                count_negatives=True,
            ),
            decoder=dict(type="ProposalDecoder", level_candidates=1000, max_boxes=1000),
        ),
        training_proposals=dict(type="ProposalDecoder", level_candidates=2000, max_boxes=1000),
        regions=dict(
            type="RegionHead",
            features=dict(type="RegionFeatures", strides=_strides[:4]),
            network=dict(type="SharedLayers", num_classes=80, in_channels=256),
            box_coder=dict(type="DeltaBoxCoder", stds=(0.1, 0.1, 0.2, 0.2)),
            criterion=dict(
                type="RegionCriterion",
                assigner=dict(
                    type="MaxIoUAssigner", pos_iou=0.5, neg_iou=0.5, min_pos_iou=0.5, match_low_quality=False
                ),
                sampler=dict(type="RandomSampler", count=512, positive_share=0.25),
            ),
            decoder=dict(type="DenseDecoder"),
        ),
    ),
)
