# Sixty epochs of 292 pictures in batches of eight, bfloat16, Muon, one cosine, an average over the last hundred steps.
optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="MuonAdamW", lr=5e-3, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=35.0, norm_type=2),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup=0.03, min_ratio=0.02)]
train_cfg = dict(max_epochs=60)
custom_hooks = [dict(type="EMAHook", decay=0.99, ramp_steps=50), dict(type="DetectionPicturesHook")]
seed = 0
