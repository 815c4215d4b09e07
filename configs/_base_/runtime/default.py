# What a run has besides the default hooks (progress, scalars, checkpoints, schedules): an average over its last hundred
# steps. A longer one lags behind weights whose rate falls to zero.
custom_hooks = [dict(type="EMAHook", decay=0.99, ramp_steps=20)]
seed = 0
