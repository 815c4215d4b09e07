# nuScenes as BEVFormer-tiny reads it: half size, padded to 480 rows, and two earlier frames drawn from the previous
# three (a queue of 3).
_base_ = ["configs/_base_/data/nuscenes_1600x900.py"]
_image = dict(size=(480, 800), resize=0.5)
train_dataloader = dict(dataset=dict(image=_image, history=2, history_pool=3))
# One recording after the other, each from its first frame: the state of the frame before is there.
val_dataloader = dict(sampler=dict(type="SceneEvalSampler"), dataset=dict(image=_image))
test_dataloader = val_dataloader
