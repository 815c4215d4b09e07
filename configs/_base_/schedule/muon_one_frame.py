# Many small steps: one frame a process and step, Muon for what has rows and columns, AdamW for the rest, bfloat16. The
# decoder of a set-prediction head wants a smaller rate than the convolutions. See benchmarks/results/recipe.md.
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    optimizer=dict(type="MuonAdamW", lr=1e-2, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=dict(pts_bbox_head=dict(lr_mult=0.5))),
    clip_grad=dict(max_norm=35.0, norm_type=2),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup=0.05, min_ratio=0.01)]
