# nuScenes as BEVFormer-base reads it: full size, padded to 928 rows, and three earlier frames drawn from the previous
# four (a queue of 4).
_base_ = ["configs/_base_/data/nuscenes_1600x900.py"]
_image = dict(size=(928, 1600), resize=1.0)
train_dataloader = dict(dataset=dict(image=_image, history=3, history_pool=4))
# One recording after the other, each from its first frame: the state of the frame before is there.
val_dataloader = dict(sampler=dict(type="SceneEvalSampler"), dataset=dict(image=_image))
test_dataloader = val_dataloader
