"""bevformer_tiny_synthetic.py whose grid of queries begins with lifted image features instead of learned numbers alone.

Not published as BEVFormer: forward projection before backward projection, as FB-BEV (arXiv 2308.02236) has it.
"""

_base_ = ["configs/bevformer/bevformer_tiny_synthetic.py"]

model = dict(
    pts_bbox_head=dict(
        lifted=dict(
            type="LiftedQueries",
            in_channels=64,
            hidden_channels=48,
            embed_dim=64,
            depth_bins=dict(type="LogDepthBins", low_m=2.0, high_m=58.0, count=32),
            grid=dict(type="BEVGrid", x_m=(-51.2, 51.2, 1.024), y_m=(-51.2, 51.2, 1.024), z_m=(-5.0, 3.0, 8.0)),
            fold=2,
            stride_px=8,
        )
    )
)
# Convolutions learn at the full rate, also those that make and read the map; the transformer at half of it.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={"pts_bbox_head.lifted": dict(lr_mult=1.0), "pts_bbox_head.proposals": dict(lr_mult=1.0)}
    )
)
