"""bevformer_tiny_synthetic.py whose grid of queries begins with lifted image features instead of learned numbers alone.

Not published as BEVFormer: forward projection before backward projection, as FB-BEV (arXiv 2308.02236) has it; and the
map's own heatmaps, whose peaks begin most queries of the decoder, are found in cells of 1 m.
"""

_base_ = ["configs/bevformer/bevformer_tiny_synthetic.py"]

_cells = dict(type="BEVGrid", x_m=(-51.2, 51.2, 1.024), y_m=(-51.2, 51.2, 1.024), z_m=(-5.0, 3.0, 8.0))

model = dict(
    pts_bbox_head=dict(
        proposals=dict(
            head=dict(in_channels=32, shared_channels=32, coder=dict(grid=_cells), min_radius=2),
            fine=dict(
                type="FineMap",
                embed_dim=64,
                cell_channels=52,
                factor=2,
                encoder=dict(type="BEVEncoder", in_channels=68, widths=(32, 64, 96), blocks=(1, 1)),
                spread_channels=16,
                out_channels=32,
            ),
        ),
        lifted=dict(
            type="LiftedQueries",
            in_channels=64,
            hidden_channels=48,
            embed_dim=64,
            depth_bins=dict(type="LogDepthBins", low_m=2.0, high_m=58.0, count=32),
            grid=_cells,
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
