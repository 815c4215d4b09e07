# The twelve epochs of the classical detectors: SGD, .02 a batch of 16, with this engine's warm-up and single cosine.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=35.0, norm_type=2),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup=0.006, min_ratio=0.01)]
train_cfg = dict(max_epochs=12)
custom_hooks = [dict(type="DetectionPicturesHook")]
seed = 0
