"""The trained YOLOX-Nano of blood cells loses half of its weights while the others learn on.

`python tools/train.py configs/compression/yolox_nano_bccd_sparse.py --cfg-options load_from=CHECKPOINT.pth`
"""

_base_ = ["configs/bccd/yolox_nano_bccd.py"]

train_dataloader = dict(dataset=dict(close_epoch=0))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=8)
custom_hooks = [
    dict(type="PruningHook", sparsity=0.5, end=0.6),
    dict(type="EMAHook", decay=0.9, ramp_steps=0),
]
