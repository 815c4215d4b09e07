# What every run has: progress, scalars, checkpoints, an average of the weights, validation at the end.
default_hooks = dict(
    param_scheduler=dict(type="ParamSchedulerHook"),
    logger=dict(type="ProgressHook", interval=50),
    scalars=dict(type="ScalarLogHook", interval=10),
    checkpoint=dict(type="CheckpointHook", interval_s=300.0, max_keep_ckpts=2),
)
custom_hooks = [dict(type="EMAHook", decay=0.999, ramp_steps=200)]
val_cfg = dict()
test_cfg = dict()
seed = 0
