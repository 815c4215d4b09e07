"""The filter against numbers computed by hand, and the motion models against geometry."""

from __future__ import annotations

import numpy as np
import pytest

from bev.tracking.kalman import Gaussian, mahalanobis_squared, predict, update
from bev.tracking.motion import ConstantTurnRate, ConstantVelocity, MotionModel, MotionNoise


def test_one_dimension_by_hand() -> None:
    """Position and velocity, dt 1: P' = [[2, 1], [1, 2]] with Q = diag(0, 1); z = 3, R = 2 gives gains 1/2 and 1/4."""
    state = Gaussian(np.array([[0.0, 1.0]]), np.eye(2)[None])
    transition = np.array([[[1.0, 1.0], [0.0, 1.0]]])
    moved = state.mean @ transition[0].T
    expected = predict(state, moved, transition, np.diag([0.0, 1.0])[None])
    np.testing.assert_allclose(expected.mean, [[1.0, 1.0]])
    np.testing.assert_allclose(expected.covariance, [[[2.0, 1.0], [1.0, 2.0]]])
    observe = np.array([[1.0, 0.0]])
    after = update(expected, np.array([[3.0 - 1.0]]), observe, np.array([[2.0]]))
    np.testing.assert_allclose(after.mean, [[2.0, 1.5]])
    np.testing.assert_allclose(after.covariance, [[[1.0, 0.5], [0.5, 1.75]]])
    assert mahalanobis_squared(np.array([[[2.0]]]), np.array([[[4.0]]])) == [[1.0]]


def test_an_unknown_component_is_as_if_not_observed() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 4, 4))
    state = Gaussian(rng.normal(size=(3, 4)), root @ root.transpose(0, 2, 1))
    noise, innovation = np.diag([1.0, 2.0, 3.0]), rng.normal(size=(3, 3))
    innovation[:, 1] = np.nan
    known = np.isfinite(innovation)
    some = update(state, innovation, np.eye(3, 4), noise, known)
    fewer = update(state, innovation[:, [0, 2]], np.eye(3, 4)[[0, 2]], noise[[0, 2]][:, [0, 2]])
    np.testing.assert_allclose(some.mean, fewer.mean, atol=1e-12)
    np.testing.assert_allclose(some.covariance, fewer.covariance, atol=1e-12)
    with pytest.raises(ValueError, match="a measurement is not finite"):
        update(state, innovation, np.eye(3, 4), noise)


def test_covariances_stay_symmetric_and_positive() -> None:
    """Through 200 steps with measurements a million times surer than the start."""
    model, noise = ConstantTurnRate(), MotionNoise(position_m=1e-3, yaw_rad=1e-3, velocity_mps=1e-3)
    state = model.start(np.array([[0.0, 0.0, 0.0, np.nan]]), MotionNoise(start_mps=1e3))
    for _ in range(200):
        moved, transition, q = model.step(state.mean, 0.5, noise)
        state = predict(state, moved, transition, q)
        state = update(state, np.zeros((1, 4)), model.observe, model.measurement_noise(noise))
        np.testing.assert_array_equal(state.covariance, state.covariance.transpose(0, 2, 1))
        assert np.linalg.eigvalsh(state.covariance).min() > 0


def test_a_quarter_circle() -> None:
    """Radius v / w = 2 m, a quarter turn in 0.5 s: from the origin towards +x it ends at (2, 2) towards +y."""
    state = np.array([[0.0, 0.0, 0.0, 2 * np.pi, np.pi]])
    moved, _, _ = ConstantTurnRate().step(state, 0.5, MotionNoise())
    np.testing.assert_allclose(moved, [[2.0, 2.0, np.pi / 2, 2 * np.pi, np.pi]], atol=1e-12)
    np.testing.assert_allclose(ConstantTurnRate().velocity(moved), [[0.0, 2 * np.pi]], atol=1e-12)


def test_straight_on() -> None:
    for rate in (0.0, 1e-6, -1e-6):
        moved, _, _ = ConstantTurnRate().step(np.array([[1.0, 2.0, np.pi / 6, 4.0, rate]]), 0.5, MotionNoise())
        np.testing.assert_allclose(moved[0, :2], [1 + np.sqrt(3), 2 + 1], atol=1e-5)
    moved, transition, noise = ConstantVelocity().step(
        np.array([[1.0, 2.0, 4.0, -2.0, 0.3]]), 0.5, MotionNoise(acceleration_mps2=2.0, yaw_radps=0.4)
    )
    np.testing.assert_allclose(moved, [[3.0, 1.0, 4.0, -2.0, 0.3]])
    # (dt^2 / 2)^2 a^2, dt^3 / 2 a^2, dt^2 a^2; and the heading's random walk.
    assert (noise[0, 0, 0], noise[0, 0, 2], noise[0, 2, 2], noise[0, 0, 1]) == (0.0625, 0.25, 1.0, 0.0)
    assert noise[0, 4, 4] == pytest.approx(0.4**2 * 0.5)
    np.testing.assert_array_equal(transition[0] @ [1.0, 2.0, 4.0, -2.0, 0.3], moved[0])


@pytest.mark.parametrize("model", [ConstantTurnRate(), ConstantVelocity()])
@pytest.mark.parametrize("rate", [0.7, -1.3, 0.0, 5e-4])
def test_the_jacobian_is_the_derivative(model: MotionModel, rate: float) -> None:
    state, step = np.array([[3.0, -2.0, 0.8, 6.0, rate]]), 1e-6
    _, transition, _ = model.step(state, 0.5, MotionNoise())
    for k in range(5):
        push = step * np.eye(5)[k]
        # Where the model takes the turn for straight, its derivative at 0 is that of a step out of there.
        size = 1e-3 if rate == 0 and k == 4 else step
        push = push * size / step
        ahead, behind = (model.step(state + sign * push, 0.5, MotionNoise())[0] for sign in (1, -1))
        np.testing.assert_allclose(transition[0, :, k], ((ahead - behind) / (2 * size))[0], atol=1e-6)


def test_a_first_detection_without_velocity_says_nothing_of_the_speed() -> None:
    noise = MotionNoise(velocity_mps=1.0, start_mps=6.0)
    for model in (ConstantTurnRate(), ConstantVelocity()):
        velocity = np.array([[3.0, 4.0], [np.nan, np.nan]])
        measured = model.measurement(np.zeros((2, 2)), np.arctan2([4.0, 4.0], [3.0, 3.0]), velocity)
        started = model.start(measured, noise)
        np.testing.assert_allclose(model.velocity(started.mean), [[3, 4], [0, 0]], atol=1e-12)
        speed = 3 if isinstance(model, ConstantTurnRate) else 2
        np.testing.assert_array_equal(started.covariance[:, speed, speed], [1.0, 36.0])
