# An anchor detector in the style of YOLOv7 (arXiv 2207.02696): ELAN layers in backbone and neck, and a coarse auxiliary
# head on the neck's top-down way, taught by an assignment that the lead head's predictions guide; inference and export
# leave it out. The original's extended layers, RepConv and implicit knowledge are not used. Published for the original
# (COCO test-dev, 640 px): tiny 38.7 AP of 6.2 M, base 51.4 of 36.9 M parameters.
_base_ = ["configs/_base_/model/yolov5.py"]

_convs = dict(type="CoupledConvs", num_classes=80, per_cell=3, prior_probability=0.01)

model = dict(
    backbone=dict(block="elan", blocks=(2, 2, 2, 2)),
    neck=dict(block="elan", depth=0.67, top_down=True),
    head=dict(
        _delete_=True,
        type="LeadGuidedHead",
        head=dict(
            type="DenseHead",
            network=dict(in_channels=(256, 512, 1024), **_convs),
            priors=dict(
                type="SizedAnchors",
                strides=(8, 16, 32),
                sizes_px=(
                    ((12, 16), (19, 36), (40, 28)),
                    ((36, 75), (76, 55), (72, 146)),
                    ((142, 110), (192, 243), (459, 401)),
                ),
            ),
            box_coder=dict(type="RatioBoxCoder"),
            criterion=dict(type="RatioCriterion", assigner=dict(type="RatioSimOTAAssigner", topk=20)),
            decoder=dict(type="DenseDecoder", score_threshold=0.001, nms_iou=0.65, max_boxes=300),
        ),
        auxiliary=dict(in_channels=(256, 512, 512), **_convs),
        assigner=dict(type="RatioSimOTAAssigner", reach=1.0, topk=20),
    ),
)
