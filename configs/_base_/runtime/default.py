# What a run has besides the default hooks (progress, scalars, checkpoints, schedules): an average of the weights.
custom_hooks = [dict(type="EMAHook", decay=0.999, ramp_steps=200)]
seed = 0
