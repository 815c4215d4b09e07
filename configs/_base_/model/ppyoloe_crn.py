# PP-YOLOE (arXiv 2203.16250) with its own parts: CSPRepResNet, CSPRepPAN, attended one-convolution towers, distributed
# sides, task-aligned assignment. Variants change depth and width. Counts of parameters are of the deploy form, in which
# every RepVGG block is one convolution (`bev.models.reparam.switch_to_deploy`; exports do it themselves).
_base_ = ["configs/_base_/model/ppyoloe.py"]

model = dict(
    backbone=dict(_delete_=True, type="CSPRepResNet"),
    neck=dict(_delete_=True, type="CSPRepPAN", in_channels=(256, 512, 1024)),
    head=dict(
        network=dict(_delete_=True, type="AttentionTowers", num_classes=80, in_channels=(192, 384, 768)),
    ),
)
