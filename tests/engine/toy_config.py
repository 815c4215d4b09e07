custom_imports = dict(imports=["tests.engine.toy"])
_base_ = ["configs/_base_/schedule/adamw_cosine.py", "configs/_base_/runtime/default.py"]
model = dict(type="ToyDetector")
train_dataloader = dict(batch_size=2, dataset=dict(type="ToyFrames", length=10))
val_dataloader = dict(batch_size=2, dataset=dict(type="ToyFrames", length=5))
val_evaluator = dict(type="ToyMetric")
test_dataloader = dict(batch_size=2, dataset=dict(type="ToyFrames", length=5))
test_evaluator = dict(type="ToyMetric")
train_cfg = dict(max_steps=20, val_interval=10)
