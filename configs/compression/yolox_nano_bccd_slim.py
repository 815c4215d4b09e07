"""The trained YOLOX-Nano of blood cells loses channels, half of its parameters, and learns on beside its former self.

`pip install 'bevstack[prune]'`, then with the two paths below set by `--cfg-options` where they differ:
`python tools/train.py configs/compression/yolox_nano_bccd_slim.py`
"""

_base_ = ["configs/bccd/yolox_nano_bccd.py"]

_trained = "work_dirs/bccd/yolox_nano"
train_dataloader = dict(dataset=dict(close_epoch=0))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_epochs=15)
custom_hooks = [
    dict(type="ChannelPruningHook", checkpoint=_trained, ratio=0.3),
    dict(
        type="DistillationHook",
        teacher=dict(config="configs/bccd/yolox_nano_bccd.py", checkpoint=_trained),
        terms=[dict(type="LogitDistillation", weight=1.0)],
    ),
    dict(type="EMAHook", decay=0.95, ramp_steps=0),
]
