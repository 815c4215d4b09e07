"""Whose file it is, which configuration it is of, and what the converter refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import projects.petr
import projects.streampetr
from bev.engine import conversion
from bev.engine.conversion import convert_file, published_shapes
from bev.io.checkpoint import CheckpointError, load_checkpoint
from bev.models.checkpoints import FAMILIES, Colours, Properties, convert, detect_family, read_published
from bev.models.checkpoints.families import Family, box_convention_of, family_named, register_family
from bev.models.checkpoints.properties import CAFFE, IMAGENET
from bev.models.detectors.bevdet_names import to_bevdepth
from bev.structures.conventions import CAMERAS_BEVDET, CAMERAS_DETR3D, convert_center_branch, convert_detr_branch
from tests.paths import REPO_ROOT

assert projects.petr.PETR_FILES.name in FAMILIES and projects.streampetr.STREAMPETR_FILES.name in FAMILIES
PUBLISHED = [(family, name) for family in FAMILIES.values() for name in family.configs]
THREE_D = [(family, name) for family, name in PUBLISHED if family.name != "yolox"]
TINY = "projects/petr/configs/petr_r50_p4_nusc.py"


def _official(family: Family, config: str) -> dict[str, Tensor]:
    """Names and shapes of a published file; every tensor is one number, repeated without memory."""
    weights = {
        name: (torch.zeros(()) if name.endswith("tracked") else torch.full((), 0.5)).expand(shape)
        for name, shape in published_shapes(REPO_ROOT / config).items()
    }
    return to_bevdepth(weights) if family.name == "bevdepth" else weights


@pytest.mark.parametrize(("family", "config"), THREE_D, ids=lambda x: Path(x).stem if isinstance(x, str) else "")
def test_every_published_file_is_known(family: Family, config: str) -> None:
    """Family from the names alone, configuration from the shapes, all tensors in their places."""
    weights = _official(family, config)
    assert detect_family(weights, "x.pth") is family
    assert not [other.name for other in FAMILIES.values() if other is not family and other.fits(weights)]
    published = conversion.PublishedWeights(weights, {}, "state_dict")
    with torch.device("meta"):
        found, cfg, model = conversion._configuration(None, family, published, REPO_ROOT)
    assert found == config
    target = conversion.properties_of_model(model, conversion._cameras(cfg))
    source = family.properties(weights)
    done = convert(weights, family, model, source, target)
    assert done.report.complete and not done.left_out
    assert source.frame == target.frame and source.cameras in (None, target.cameras)
    assert source.colours == target.colours, "the configuration shows the network the authors' colours"
    # Only DETR3D's configurations are of the present code while the authors' files are of the old one.
    assert (source.boxes != target.boxes) == (family.name == "detr3d")


def test_every_published_configuration_belongs_to_a_family() -> None:
    shipped = {p.relative_to(REPO_ROOT).as_posix() for p in REPO_ROOT.glob("configs/*/*_nusc.py")}
    shipped |= {p.relative_to(REPO_ROOT).as_posix() for p in REPO_ROOT.glob("projects/*/configs/*_nusc.py")}
    known = {name for _, name in PUBLISHED}
    # LSS's own files are not read; FCOS3D and other integrations convert their files themselves.
    assert known - {"configs/yolox/yolox_nano_coco.py"} <= shipped
    methods = ("configs/detr3d", "configs/bevdet", "configs/bevdepth", "configs/bevformer")
    assert {name for name in shipped if name.startswith(methods)} <= known


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"mmdet3d_version": "0.17.1", "mmcv_version": "1.4.0"}, "mmdet3d_v0"),
        ({"mmdet3d_version": "1.0.0rc4"}, "mmdet3d_v1"),
        ({"mmengine_version": "0.6.0"}, "mmdet3d_v1"),
        ({"mmcv_version": "1.4.0"}, None),
        ({}, None),
    ],
)
def test_versions_tell_the_box_code(versions: dict[str, str], expected: str | None) -> None:
    assert box_convention_of(versions) == expected


def test_branches_of_the_box_code() -> None:
    rows = torch.arange(10.0)
    assert convert_detr_branch(rows).tolist() == [0, 1, 3, 2, 4, 5, -7, -6, 8, 9]
    assert convert_detr_branch(rows, (3, 4)).tolist() == [0, 1, 2, 4, 3, 5, -7, -6, 8, 9]
    assert convert_center_branch("dim", rows[:3]).tolist() == [1, 0, 2]
    assert convert_center_branch("rot", rows[:2]).tolist() == [-1, 0]
    assert convert_center_branch("vel", rows[:2]).tolist() == [0, 1]


@pytest.mark.parametrize("key", ["ema_state_dict", "state_dict_ema", "model_ema", "ema"])
def test_the_average_is_preferred(tmp_path: Path, key: str) -> None:
    averaged = {"module.a.weight": torch.ones(2), "steps": torch.tensor(7)}
    torch.save({"state_dict": {"a.weight": torch.zeros(2)}, key: averaged}, tmp_path / "x.pth")
    read = read_published(tmp_path / "x.pth")
    assert read.key == key and list(read.weights) == ["a.weight"] and read.weights["a.weight"].sum() == 2
    assert read.skipped == ("steps",)
    plain = read_published(tmp_path / "x.pth", prefer_average=False)
    assert plain.key == "state_dict" and plain.weights["a.weight"].sum() == 0


def test_the_buffers_of_mmcv_averages_are_skipped(tmp_path: Path) -> None:
    one = torch.ones(1)
    state = {"img_neck.conv.weight": one, "ema_img_neck_conv_weight": torch.zeros(1), "ema_gain": one}
    torch.save({"state_dict": {f"module.module.{k}": v for k, v in state.items()}}, tmp_path / "x.pth")
    read = read_published(tmp_path / "x.pth")
    assert set(read.weights) == {"img_neck.conv.weight", "ema_gain"}
    assert read.skipped == ("ema_img_neck_conv_weight",)


def _save(folder: Path, weights: dict[str, Tensor], **others: object) -> Path:
    path = folder / "src.pth"
    torch.save({"state_dict": weights, **others}, path)
    return path


@pytest.fixture
def petr() -> Iterator[dict[str, Tensor]]:
    """A file of PETR whose tensors take no place."""
    yield {name: value for name, value in _official(FAMILIES["petr"], TINY).items()}


def test_damaged_foreign_and_unknown_files(tmp_path: Path) -> None:
    path = _save(tmp_path, {"a": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"src\.pth: no family's names are in it \(.*bevdepth.*it holds a \.\.\."):
        convert_file(path, tmp_path / "out.pth")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"src\.pth cannot be read: damaged"):
        convert_file(path, tmp_path / "out.pth")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "hyper_parameters": Path("x")}, path)
    with pytest.raises(CheckpointError, match=r"src\.pth cannot be read: .*not of tensors and plain values"):
        convert_file(path, tmp_path / "out.pth")
    torch.save({"state_dict": {}, "epoch": 3}, path)
    with pytest.raises(CheckpointError, match="has no tensors|no 'state_dict'"):
        convert_file(path, tmp_path / "out.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["src.pth"]


def test_a_file_of_another_family(petr: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pth is not of detr3d: it looks like petr; it holds"):
        family_named("detr3d", petr, "x.pth")
    with pytest.raises(CheckpointError, match="'petrv2' is unknown; did you mean 'petr'"):
        family_named("petrv2", petr, "x.pth")
    both = {**petr, **_official(FAMILIES["detr3d"], FAMILIES["detr3d"].configs[0])}
    with pytest.raises(CheckpointError, match=r"several families fit \(detr3d, petr\).*--from"):
        detect_family(both, "x.pth")
    with pytest.raises(ValueError, match="already registered"):
        register_family(FAMILIES["petr"])


def test_boxes_must_be_known(tmp_path: Path, petr: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal names and shapes in both codes: a guess would be wrong in silence."""
    codes = []

    def stop(weights: object, family: object, model: object, source: Properties, target: object) -> None:
        codes.append(source.boxes)
        raise CheckpointError("stop")

    monkeypatch.setattr(conversion, "convert", stop)
    monkeypatch.setattr(conversion, "_configuration", lambda *_: ("", {}, torch.nn.Identity()))
    monkeypatch.setattr(conversion, "properties_of_model", lambda *_: Properties())
    weights = {name: torch.zeros(1) for name in petr}
    path = _save(tmp_path, weights)
    with pytest.raises(CheckpointError, match=r"of petr, but whose.*--from petr \(authors\) or --from mmdet3d"):
        convert_file(path, tmp_path / "out.pth")
    for options in ({"family": "petr"}, {"family": "mmdet3d"}, {"boxes": "mmdet3d_v1"}):
        with pytest.raises(CheckpointError, match="stop"):
            convert_file(path, tmp_path / "out.pth", **options)
    _save(tmp_path, weights, meta={"mmdet3d_version": "1.1.0"})
    for options in ({}, {"family": "petr"}):
        with pytest.raises(CheckpointError, match="stop"):
            convert_file(path, tmp_path / "out.pth", **options)
    assert codes == ["mmdet3d_v0", "mmdet3d_v1", "mmdet3d_v1", "mmdet3d_v1", "mmdet3d_v1"]


def _convert(weights: dict[str, Tensor], family: str, config: str, source: Properties, target: Properties):
    with torch.device("meta"):
        model = conversion.MODELS.build(conversion.load_config(REPO_ROOT / config).model)
    return convert(weights, FAMILIES[family], model, source, target)


def test_what_no_permutation_mends(petr: dict[str, Tensor]) -> None:
    detr3d = FAMILIES["detr3d"].configs[0]
    with pytest.raises(CheckpointError, match="see the lidar frame, the configuration's head the ego frame"):
        _convert(petr, "petr", TINY, Properties(frame="lidar"), Properties(frame="ego"))
    with pytest.raises(CheckpointError, match="positions of these weights count the cameras in the order CAM_FRONT, "):
        _convert(petr, "petr", TINY, Properties(cameras=CAMERAS_DETR3D), Properties(cameras=CAMERAS_BEVDET))
    with pytest.raises(CheckpointError, match=r"learned for the cameras CAM_FRONT, .* data has front, back"):
        _convert(petr, "petr", TINY, Properties(cameras=CAMERAS_DETR3D), Properties(cameras=("front", "back")))
    moved = Colours("rgb", (0.0, 0.0, 0.0), IMAGENET.std)
    with pytest.raises(CheckpointError, match="a mean cannot be folded into a padded convolution"):
        weights = _official(FAMILIES["detr3d"], detr3d)
        _convert(weights, "detr3d", detr3d, Properties(colours=CAFFE), Properties(colours=moved))


def test_old_names_and_what_training_alone_needs(petr: dict[str, Tensor]) -> None:
    old = {name.replace("conv2.conv_offset", "conv2_offset"): value for name, value in petr.items()}
    single = {name.removeprefix("img_"): value for name, value in old.items() if not name.startswith("pts")}
    done = _convert({**single, "bbox_head.x": torch.zeros(1)}, "petr", TINY, Properties(), Properties())
    assert done.report.unexpected == ["bbox_head.x"] and not done.report.misshapen
    assert all(name.startswith("pts_bbox_head.") for name in done.report.missing)
    stream = FAMILIES["streampetr"]
    weights = _official(stream, stream.configs[0])
    assert any(name.startswith("img_roi_head.") for name in weights)
    assert _convert(weights, "streampetr", stream.configs[0], Properties(), Properties()).report.complete
    small = "projects/streampetr/configs/streampetr_tiny_synthetic.py"  # has no such part
    done = _convert(weights, "streampetr", small, Properties(), Properties())
    assert not any(name.startswith("img_roi_head.") for name in done.report.unexpected)


def test_counters_and_constants(petr: dict[str, Tensor]) -> None:
    bare = {name: value for name, value in petr.items() if not name.endswith("num_batches_tracked")}
    done = _convert(bare, "petr", TINY, Properties(), Properties())
    counters = len(petr) - len(bare)
    assert done.report.complete and f"batch norms: {counters} step counters that the file lacks are 0" in done.notes
    bevdet = FAMILIES["bevdet"].configs[0]
    model = conversion.MODELS.build(conversion.load_config(REPO_ROOT / bevdet).model)
    weights = {**model.state_dict(), "img_view_transformer.dx": torch.ones(3)}
    notes = convert(weights, FAMILIES["bevdet"], model, Properties(), Properties()).notes
    assert [n for n in notes if n.startswith("WARNING")] == [
        "WARNING: img_view_transformer.dx of the file is not what the configuration's geometry gives"
    ]


def test_partial_files_are_refused_unless_asked_for(tmp_path: Path) -> None:
    """One whole way with the smallest published network; half-precision tensors become the model's type."""
    config = REPO_ROOT / "configs/bevformer/bevformer_tiny_synthetic.py"
    torch.manual_seed(0)
    state = conversion.MODELS.build(conversion.load_config(config).model).state_dict()
    wrong = {**{k: v.half() if v.is_floating_point() else v for k, v in state.items()}, "stray": torch.zeros(2)}
    wrong.pop("pts_bbox_head.bev_embedding.weight")
    wrong["pts_bbox_head.bev_embedding.x"] = wrong.pop("pts_bbox_head.query_embedding.weight")
    wrong["pts_bbox_head.code_weights"] = torch.zeros(7)
    path, out = _save(tmp_path, wrong, optimizer={"state": {0: {"step": torch.zeros(1)}}}), tmp_path / "out.pth"
    with pytest.raises(CheckpointError) as refused:
        convert_file(path, out, config=config)
    said = str(refused.value)
    for line in (
        "nothing is written",
        "missing (the model has them, the file does not): 2\n  pts_bbox_head.bev_embedding.weight\n",
        "unexpected (the file has them, the model does not): 2",
        "of another shape: 1\n  pts_bbox_head.code_weights: (7,) in the file, (10,) in the model",
        "--allow-partial writes what fits",
    ):
        assert line in said, said
    assert not out.exists()
    done = convert_file(path, out, config=config, partial=True)
    written = load_checkpoint(out)
    assert len(written["state_dict"]) == len(state) - 3 == len(done.conversion.report.matched)
    assert written["meta"]["partial"] is True and written["meta"]["family"] == "bevformer"
    assert all(value.dtype == state[name].dtype for name, value in written["state_dict"].items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.pth", "src.pth"]
