# bevdet_tiny_synthetic.py with the cameras' calibrations exchanged at random, in training and in validation, and
# without the losses on the images, which would project with them. Compare with the same without those losses:
# model.depth_loss_weight=0 model.measured_share=0 model.center_loss_weight=0 model.image_evidence=0.
_base_ = ["configs/bevdet/bevdet_tiny_synthetic.py"]
_range = dict(type="RangeFilter", x_m=(-51.2, 51.2), y_m=(-51.2, 51.2))
_exchange = dict(type="ExchangeCalibrations")
model = dict(depth_loss_weight=0.0, measured_share=0.0, center_loss_weight=0.0, image_evidence=0.0)
train_dataloader = dict(
    dataset=dict(load_points=False, transforms=[dict(type="RigMirror", probability=0.5), _range, _exchange])
)
val_dataloader = dict(dataset=dict(transforms=[_exchange]))
test_dataloader = val_dataloader
