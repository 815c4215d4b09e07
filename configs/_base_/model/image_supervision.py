# Class centres and LiDAR depth on the images, in training alone, for small image encoders at stride 8 with 64 channels:
# what taught every small detector its classes long before its boxes did.
model = dict(
    image_supervision=dict(
        type="ImageSupervision",
        image_head=dict(
            type="ImageCenterHead",
            in_channels=64,
            hidden_channels=64,
            num_classes=10,
            depth_bins=dict(type="LogDepthBins", low_m=2.0, high_m=58.0, count=32),
            stride_px=8,
            ground_m=-1.84,
        ),
    ),
)
