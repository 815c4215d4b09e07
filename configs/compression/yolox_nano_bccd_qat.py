"""The trained YOLOX-Nano of blood cells learns on with the rounding of int8.

`python tools/train.py configs/compression/yolox_nano_bccd_qat.py --cfg-options load_from=CHECKPOINT.pth`
"""

_base_ = ["configs/bccd/yolox_nano_bccd.py"]

frozen_norms = [""]
train_dataloader = dict(dataset=dict(close_epoch=0))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_cfg = dict(max_epochs=4)
custom_hooks = [dict(type="QuantizationHook"), dict(type="EMAHook", decay=0.9, ramp_steps=0)]
