# YOLOX's 300 epochs with this engine's linear warm-up and single cosine; SGD with Nesterov momentum, .01 a batch of 64.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup=0.017, min_ratio=0.05)]
train_cfg = dict(max_epochs=300, val_interval_epochs=10)
custom_hooks = [dict(type="EMAHook", decay=0.9998, ramp_steps=2000), dict(type="DetectionPicturesHook")]
seed = 0
