# The twin of bevdet4d_tiny_synthetic.py that sees one frame alone: what its velocity errors are compared with.
_base_ = ["configs/bevdet/bevdet4d_tiny_synthetic.py"]
model = dict(num_previous=0, img_bev_encoder_backbone=dict(in_channels=32))
train_dataloader = dict(sampler=dict(type="EndlessSampler"))
val_dataloader = dict(sampler=dict(type="EvalSampler"))
test_dataloader = val_dataloader
