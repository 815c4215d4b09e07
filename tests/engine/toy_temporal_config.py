custom_imports = dict(imports=["tests.engine.toy_temporal"])
_base_ = ["configs/_base_/schedule/adamw_cosine.py", "configs/_base_/runtime/default.py"]
model = dict(type="ToyMemory")
_dataset = dict(type="ToyRecordings")
train_dataloader = dict(batch_size=2, sampler=dict(type="SceneStreamSampler"), dataset=_dataset)
val_dataloader = dict(batch_size=2, sampler=dict(type="SceneEvalSampler"), dataset=_dataset)
val_evaluator = dict(type="ToyAge")
train_cfg = dict(max_steps=12, val_interval=0)
