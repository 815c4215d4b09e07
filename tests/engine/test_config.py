"""Reading configurations, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from bev.engine import load_config, prepare
from bev.engine.runner import Runner
from bev.registry import ConfigError
from tests.engine.runs import CONFIG


def _write(folder: Path, text: str, name: str = "config.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_bases_are_found_from_the_folder_that_holds_configs(tmp_path: Path) -> None:
    _write(tmp_path / "configs" / "_base_" / "schedule", "train_cfg = dict(max_steps=3)\nseed = 1", "s.py")
    deep = tmp_path / "projects" / "one" / "configs"
    path = _write(deep, '_base_ = ["configs/_base_/schedule/s.py"]\ntrain_cfg = dict(val_interval=2)')
    cfg = load_config(path)
    assert cfg.train_cfg == {"max_steps": 3, "val_interval": 2} and cfg.seed == 1
    beside = _write(deep, '_base_ = ["config.py"]\nseed = 2', "other.py")
    assert load_config(beside).seed == 2
    missing = _write(deep, '_base_ = ["configs/_base_/none.py"]', "third.py")
    with pytest.raises(ConfigError, match="third.py cannot be read"):
        load_config(missing)


def test_helpers_start_with_an_underscore(tmp_path: Path) -> None:
    cfg = load_config(_write(tmp_path, "_steps = 4\ntrain_cfg = dict(max_steps=_steps)"))
    assert cfg.train_cfg.max_steps == 4 and "_steps" not in cfg
    with pytest.raises(ConfigError, match="config key 'steps' is unknown.*start with an underscore"):
        load_config(_write(tmp_path, "steps = 4"))


def test_an_option_replaces_what_the_file_says_in_another_way() -> None:
    before = dict(load_config(CONFIG).train_cfg)
    assert before["max_steps"] and before["val_interval"], "else nothing is replaced"
    cfg = load_config(CONFIG, ["train_cfg.max_epochs=3", "train_cfg.val_interval_epochs=1"])
    assert cfg.train_cfg == {"max_epochs": 3, "val_interval_epochs": 1}
    both = load_config(CONFIG, ["train_cfg.max_steps=3", "train_cfg.max_epochs=3"]).train_cfg
    assert both["max_steps"] == both["max_epochs"] == 3  # which TrainLoop refuses
    assert load_config(CONFIG, ["train_cfg.max_epochs=None"]).train_cfg == {**before, "max_epochs": None}


@pytest.mark.parametrize("text", ["seed = (", "seed = unknown_name", "seed = 1 / 0"])
def test_broken_files(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="config.py cannot be read"):
        load_config(_write(tmp_path, text))
    with pytest.raises(ConfigError, match="none.py does not exist"):
        load_config(tmp_path / "none.py")


def test_options() -> None:
    options = ["model.channels=4", "train_cfg.val_interval=None", "custom_hooks.0.decay=1e-1"]
    options += ["randomness.deterministic=true"]
    cfg = load_config(CONFIG, [*options, "optim_wrapper.optimizer.betas=(0.9,0.99)", "work_dir=some/where"])
    assert cfg.model.channels == 4 and cfg.train_cfg.val_interval is None and cfg.custom_hooks[0].decay == 0.1
    assert cfg.randomness.deterministic is True and cfg.optim_wrapper.optimizer.betas == (0.9, 0.99)
    assert cfg.work_dir == "some/where"


OPTION_ERRORS = {
    "optim_wraper.optimizer.lr=3": "config key 'optim_wraper' does not exist; did you mean 'optim_wrapper'",
    "optim_wrapper.optimiser.lr=3": "'optim_wrapper.optimiser' does not exist; did you mean 'optimizer'",
    "default_hooks.chekpoint.interval=3": "'default_hooks.chekpoint' does not exist; did you mean 'checkpoint'",
    "param_scheduler.1.warmup=1": "'param_scheduler' is a list of 1, '1' is not an index",
    "seed.x=1": "'seed' is 0, it has no keys",
    "seeed=3": "config key 'seeed' is unknown; did you mean 'seed'",
    "model": "not of the form key=value",
}


@pytest.mark.parametrize("option", OPTION_ERRORS)
def test_options_whose_path_does_not_exist(option: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(CONFIG, [option])
    assert OPTION_ERRORS[option] in str(error.value)


BUILD_ERRORS = {
    "model.chanels=3": "config key 'model.chanels' is unknown; did you mean 'channels'",
    "model.type=ToyDetectr": "config key 'model.type' names 'ToyDetectr', which is not registered; did you mean",
    "test_dataloader.batch_sizee=3": "config key 'test_dataloader.batch_sizee' is unknown; did you mean 'batch_size'",
    "train_dataloader.dataset.lenght=3": "'train_dataloader.dataset.lenght' is unknown; did you mean 'length'",
    "test_evaluator.outt=1": "config key 'test_evaluator.outt' is unknown; did you mean 'out'",
    "default_hooks.checkpoint.intervall=3": "'default_hooks.checkpoint.intervall' is unknown; did you mean 'interval'",
    "custom_hooks.0.deca=1": "config key 'custom_hooks[0].deca' is unknown; did you mean 'decay'",
    "custom_hooks.0.type=EMAHok": "config key 'custom_hooks[0].type' names 'EMAHok'",
    "train_cfg.max_step=3": "config key 'train_cfg.max_step' is unknown; did you mean 'max_steps'",
    "train_cfg.type=TrainLop": "config key 'train_cfg.type' names 'TrainLop', which is not registered; did you mean",
    "optim_wrapper.optimizer.lrr=3": "config key 'optim_wrapper.optimizer.lrr' is unknown; did you mean 'lr'",
    "optim_wrapper.optimizer.type=AdamX": "config key 'optim_wrapper.optimizer.type' names 'AdamX'",
    "optim_wrapper.acumulative_counts=3": "did you mean 'accumulative_counts'",
    "randomness.sed=3": "config key 'randomness.sed' is unknown; did you mean 'seed'",
    "param_scheduler.0.warmupp=1": "config key 'param_scheduler[0].warmupp' is unknown; did you mean 'warmup'",
    'param_scheduler=[{"type": "MultiStepLR", "milstones": [1]}]': "'param_scheduler[0].milstones' is unknown; did you",
    "val_evaluator=None": "config key 'val_evaluator' is missing",
    "train_dataloader=None": "config key 'train_dataloader' is missing",
    "model=None": "config key 'model' is missing",
}


@pytest.mark.parametrize("option", BUILD_ERRORS)
def test_mistakes_show_before_anything_is_built(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError) as error:
        Runner(prepare(load_config(CONFIG, [option]), str(tmp_path / "run")))
    assert BUILD_ERRORS[option] in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["train_cfg.type=EpochBasedTrainLoop", "train_cfg.type=ValLoop"])
def test_loops_of_mmengine_are_refused(tmp_path: Path, option: str) -> None:
    cfg = prepare(load_config(CONFIG, [option, "train_cfg.max_steps=None"]), str(tmp_path))
    cfg.train_cfg = {"type": cfg.train_cfg.type}
    with pytest.raises(ConfigError, match="is not a TrainLoop of bev"):
        Runner(cfg).train()


def test_model_must_be_a_detector(tmp_path: Path) -> None:
    cfg = prepare(load_config(CONFIG), str(tmp_path))
    cfg.model = {"type": "ImageNormalizer"}
    with pytest.raises(ConfigError, match="builds a ImageNormalizer, expected a Detector"):
        Runner(cfg)


def test_default_hooks_can_be_changed_replaced_and_switched_off(tmp_path: Path) -> None:
    text = 'default_hooks = dict(logger=dict(interval=7), scalars=None, checkpoint=dict(type="IterTimerHook"))'
    hooks = load_config(_write(tmp_path, text)).default_hooks
    assert hooks.logger == {"type": "ProgressHook", "interval": 7}
    assert hooks.scalars is None and hooks.checkpoint == {"type": "IterTimerHook"}
    with pytest.raises(ConfigError, match="'default_hooks.loger' is unknown; did you mean 'logger'"):
        load_config(_write(tmp_path, "default_hooks = dict(loger=dict(interval=7))"))


def test_command_line_choices(tmp_path: Path) -> None:
    cfg = prepare(load_config(CONFIG, ["randomness.seed=4"]), amp=True, seed=9)
    assert cfg.work_dir == "work_dirs/toy_config"
    assert cfg.optim_wrapper.type == "AmpOptimWrapper" and cfg.seed == 9 and "seed" not in cfg.randomness
    assert Runner(prepare(cfg, str(tmp_path))).seed == 9
