# AdamW, clipped, with linear warm-up and one half cosine over the whole run; no decay on norms and biases.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=35.0, norm_type=2),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup=0.05, min_ratio=0.01)]
