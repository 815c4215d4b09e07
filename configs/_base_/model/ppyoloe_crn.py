# PP-YOLOE (arXiv 2203.16250) with its own parts: CSPRepResNet, CSPRepPAN, attended one-convolution towers, distributed
# sides. ATSS assigns in the first third of the epochs, task alignment in the others: published
# are 100 of 300 (PP-YOLOE+: 30 of 80); who trains for another time changes `epochs` with it. Variants change depth and
# width. Counts of parameters are of the deploy form, in which every RepVGG block is one convolution
# (`bev.models.reparam.switch_to_deploy`; exports do it themselves).
_base_ = ["configs/_base_/model/ppyoloe.py"]

_losses = dict(
    loss_cls=dict(type="VarifocalLoss"),
    loss_bbox=dict(type="GIoULoss", loss_weight=2.5),
    loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.5),
)

model = dict(
    backbone=dict(_delete_=True, type="CSPRepResNet"),
    neck=dict(_delete_=True, type="CSPRepPAN", in_channels=(256, 512, 1024)),
    head=dict(
        network=dict(_delete_=True, type="AttentionTowers", num_classes=80, in_channels=(192, 384, 768)),
        criterion=dict(
            _delete_=True,
            type="SwitchCriterion",
            epochs=100,
            first=dict(
                type="QualityCriterion",
                assigner=dict(type="StaticQualityAssigner", assigner=dict(type="ATSSAssigner")),
                normalise=False,
                **_losses,
            ),
            later=dict(
                type="QualityCriterion",
                assigner=dict(type="TaskAlignedAssigner", inside_first=True),
                **_losses,
            ),
        ),
    ),
)
