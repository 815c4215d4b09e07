"""What is noted of a detector: depths, features, and where its queries look, held against the models' own numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bev.geometry.projection import in_image, project
from bev.structures import CameraRig
from bev.viz.insight import with_insight
from bev.viz.overlay import NOTHING
from bev.viz.recorder import Recorder
from tests.models.rigs import random_batch
from tests.models.test_bevformer import detector as bevformer
from tests.models.test_detr3d import _detector as detr3d
from tests.models.test_lift_splat import _detector as lift_splat
from tests.viz.test_draw import make_sample


def noted(model, place_m, batch=None):
    batch = random_batch() if batch is None else batch
    with torch.no_grad(), Recorder(place_m) as recorder:
        model.eval().predict(batch)
        return recorder.take(batch), batch


def test_lift_splat_depth_is_the_mean_of_its_distribution():
    torch.manual_seed(0)
    model = lift_splat()
    insights, batch = noted(model, None)
    with torch.no_grad():
        logits = model(batch.images, batch.rig)["depth_logits"]
    centers = model.img_view_transformer.depth_bins.centers_m()
    for i, insight in enumerate(insights):
        mean = (logits[i].softmax(-1) * centers).sum(-1)
        assert torch.from_numpy(insight.depth_m) == pytest.approx(mean, abs=1e-4)
        assert insight.bev.ndim == 2 and np.isfinite(insight.bev).all() and insight.looks is None
        assert insight.x_m == model.img_view_transformer.grid.x_m[:2]


def test_lift_splat_looks_along_the_rays_to_the_place():
    torch.manual_seed(0)
    (insight, _), batch = noted(lift_splat(), (8.0, 0.0))
    seen = [len(p) for p in insight.looks.pixels_px]
    assert seen[0] > 0 and seen[3] == 0  # the camera at +x, and the one that looks backwards
    columns = insight.looks.pixels_px[0][:, 0]
    # 1 m to each side at 7 m or more is at most 60 / 7 px, and half a feature pixel.
    assert np.abs(columns - 48).max() < 60 / 7 + 16 and (insight.looks.weight[0] > 0).all()


def test_detr3d_looks_where_its_nearest_query_projects():
    torch.manual_seed(0)
    model = detr3d()
    (insight, _), batch = noted(model, (5.0, 3.0))
    looks = insight.looks
    assert len(looks.xyz_m) == 2 and insight.depth_m is None and insight.bev is None
    pixels, depth = project(torch.from_numpy(looks.xyz_m).float(), batch.rig.img_from_ref[0].float())
    visible = in_image(pixels, depth, batch.rig.image_size_px)
    for n in range(6):
        assert looks.pixels_px[n] == pytest.approx(pixels[n, visible[n]].numpy(), abs=1e-2)
        assert len(looks.weight[n]) == len(looks.pixels_px[n]) and (looks.weight[n] >= 0).all()
    # No other query's last reference point is nearer: the heads' outputs tell all of them.
    with torch.no_grad():
        features = model.extract_features(batch.images)
        decoded = model.pts_bbox_head.transformer(
            features, model.pts_bbox_head.query_embedding.weight, batch.rig, model.pts_bbox_head.reg_branches
        )
        span = model.pts_bbox_head.transformer.decoder.layers[0].attentions[1].range
        points = span.to_metric(decoded.references[-2][0])
    nearest = (points[:, :2] - torch.tensor([5.0, 3.0])).norm(dim=-1).argmin()
    assert looks.xyz_m[-1] == pytest.approx(points[nearest].numpy(), abs=1e-4)


def test_bevformer_samples_lie_around_the_pillar_of_the_cell():
    model = bevformer()
    for layer in model.pts_bbox_head.transformer.encoder.layers:  # no offsets: samples are the pillar's own points
        attention = layer.attentions[1].deformable_attention
        attention.sampling_offsets.weight.data.zero_()
        attention.sampling_offsets.bias.data.zero_()
    (insight, _), batch = noted(model, (8.0, 1.0))
    looks = insight.looks
    assert np.abs(looks.xyz_m[:, :2] - [8.0, 1.0]).max() <= 2.0 + 1e-6 and len(looks.xyz_m) == 2
    pixels, _ = project(torch.from_numpy(looks.xyz_m).float(), batch.rig.img_from_ref[0].float())
    assert len(looks.pixels_px[0]) == 2 * 2 * 4 and len(looks.pixels_px[3]) == 0
    expected = {tuple(np.round(p, 1)) for p in pixels[0].numpy().astype(float)}
    assert {tuple(np.round(p, 1)) for p in looks.pixels_px[0]} == expected
    assert looks.weight[0].sum() == pytest.approx(2.0, abs=1e-4)  # a softmax in each of two heads
    assert insight.bev.shape == (10, 12) and insight.x_m == (-20.0, 20.0)


def test_nothing_is_noted_outside():
    recorder = Recorder((1.0, 1.0))
    model, batch = lift_splat().eval(), random_batch()
    with torch.no_grad():
        with recorder:
            pass
        model.predict(batch)
    assert recorder.take(batch)[0].depth_m is None


def test_what_the_network_saw_is_drawn_where_it_saw_it():
    """The network had the lower half of the picture at half its size: its map covers that half, marks move there."""
    torch.manual_seed(0)
    (insight, _), _ = noted(lift_splat(), (8.0, 0.0))
    big = replace(make_sample(), images=torch.zeros(6, 3, 256, 192, dtype=torch.uint8))
    network_from_image = torch.tensor([[0.5, 0, 0], [0, 0.5, -64.0], [0, 0, 1]], dtype=torch.float64)
    rig = insight.rig
    rig = CameraRig(
        rig.intrinsics, rig.cam_from_ref, network_from_image.expand(6, 3, 3), (64, 96), rig.names, rig.timestamp_us
    )
    overlay = with_insight(NOTHING, replace(insight, rig=rig), big, depth=True, bev=True)
    heat = overlay.camera_heat.value
    half = heat.shape[1] // 2
    assert np.isnan(heat[:, : half - 3]).all() and np.isfinite(heat[:, half + 3 : -3, 3:-3]).all()
    low, high = insight.depth_range_m
    assert heat[0, -8, 8] == pytest.approx((insight.depth_m[0, -1, 0] - low) / (high - low), abs=1e-5)
    moved = overlay.marks.pixels_px[0]
    assert moved == pytest.approx(insight.looks.pixels_px[0] * 2 + [0, 128])
    assert max(w.max() for w in overlay.marks.weight if len(w)) == 1
    assert overlay.ground[-1].shown.all() and overlay.ground[-1].x_m == insight.x_m


def test_a_model_without_them_says_so():
    torch.manual_seed(0)
    (insight, _), _ = noted(detr3d(), None)
    with pytest.raises(ValueError, match="no depth distribution"):
        with_insight(NOTHING, insight, make_sample(), depth=True, bev=False)
    with pytest.raises(ValueError, match="no bird's-eye-view features"):
        with_insight(NOTHING, insight, make_sample(), depth=False, bev=True)
