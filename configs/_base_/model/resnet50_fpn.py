# Backbone and neck of the one-stage detectors on ResNet-50, strides 8 to 128 (mmdet's 1x models).
model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer"),
    backbone=dict(type="ResNet", depth=50, frozen_stages=1, norm_eval=True),
    neck=dict(
        type="FPN",
        in_channels=(256, 512, 1024, 2048),
        out_channels=256,
        start_level=1,
        num_outs=5,
        extra_levels="on_output",
    ),
)
