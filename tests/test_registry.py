"""Configuration nodes become objects, parts first; every mistake names its key."""

import pytest

from bev.registry import MODELS, TRANSFORMS, ConfigError, check_keys


class Wheel:
    def __init__(self, radius_m: float, spokes: int = 8) -> None:
        self.radius_m, self.spokes = radius_m, spokes


class Cart:
    def __init__(self, wheels: list, load_kg: float = 0.0) -> None:
        self.wheels, self.load_kg = wheels, load_kg


@pytest.fixture(autouse=True)
def registered():
    MODELS.register_module(module=Cart)
    TRANSFORMS.register_module(module=Wheel)
    yield
    MODELS.module_dict.pop("Cart")
    TRANSFORMS.module_dict.pop("Wheel")


def test_parts_are_built_first_and_found_across_registries():
    cart = MODELS.build(
        dict(type="Cart", wheels=[dict(type="Wheel", radius_m=0.3), dict(type="bev.Wheel", radius_m=0.4)])
    )
    assert [w.radius_m for w in cart.wheels] == [0.3, 0.4]


@pytest.mark.parametrize(
    "cfg, message",
    [
        (dict(type="Cart", wheels=[], laod_kg=1.0), r"'model.laod_kg' is unknown; did you mean 'load_kg'\?"),
        (
            dict(type="Cart", wheels=[dict(type="Wheel", radius_m=1, spoke=3)]),
            r"'model.wheels\[0\].spoke' is unknown; did you mean 'spokes'",
        ),
        (
            dict(type="Cart", wheels=[dict(type="Wheal", radius_m=1)]),
            r"'model.wheels\[0\].type' names 'Wheal'.*did you mean 'Wheel'",
        ),
        (dict(type="Cart"), r"'model.wheels' is missing: Cart needs it"),
        (dict(wheels=[]), r"'model' must be a dict with a 'type'"),
        (dict(type="SparseEncoder"), r"'model.type' names 'SparseEncoder'.*sparse 3D convolution is not offered"),
        (dict(type="nosuchscope.Cart"), r"nosuchscope cannot be imported"),
    ],
)
def test_mistakes_name_the_key(cfg, message):
    with pytest.raises(ConfigError, match=message):
        MODELS.build(cfg)


def test_a_duplicate_name_raises():
    with pytest.raises(KeyError, match="Cart is already registered"):
        MODELS.register_module(module=Cart)


def test_check_keys_lists_what_is_valid():
    with pytest.raises(ConfigError, match=r"'run.zzz' is unknown; valid: alpha, beta"):
        check_keys(["zzz"], ["beta", "alpha"], "run")
