"""The Kalman filter in matrix form, for many objects at once.

With state x (S), covariance P (S, S), transition F, process noise Q, measurement z (Z), its matrix H (Z, S) and its
noise R::

    predict:  x' = f(x)              P' = F P F^T + Q
    update:   y = z - H x'           S = H P' H^T + R         K = P' H^T S^-1
              x = x' + K y           P = (I - K H) P' (I - K H)^T + K R K^T

For a linear motion f(x) = F x; for another F is its Jacobian at x (the extended filter). The covariance is updated in
Joseph's form, which stays symmetric and positive. Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to
Tracking and Navigation" (2001), sections 5.2 and 10.3.

N objects are filtered together: x is (N, S), P is (N, S, S). Units are those of the state's own components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N states: ``mean`` (N, S) and ``covariance`` (N, S, S), float64."""

    mean: np.ndarray
    covariance: np.ndarray

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, rows: np.ndarray) -> Gaussian:
        """States by mask or index."""
        return Gaussian(self.mean[rows], self.covariance[rows])

    def with_rows(self, rows: np.ndarray, new: Gaussian) -> Gaussian:
        """The same with the states at ``rows`` replaced."""
        mean, covariance = self.mean.copy(), self.covariance.copy()
        mean[rows], covariance[rows] = new.mean, new.covariance
        return Gaussian(mean, covariance)

    @staticmethod
    def cat(first: Gaussian, second: Gaussian) -> Gaussian:
        """The states of both."""
        parts = zip((first.mean, first.covariance), (second.mean, second.covariance))
        return Gaussian(*(np.concatenate(pair) for pair in parts))


def predict(state: Gaussian, moved: np.ndarray, transition: np.ndarray, noise: np.ndarray) -> Gaussian:
    """States after a time step.

    Args:
        state: N states of size S.
        moved: (N, S) f(x).
        transition: (N, S, S) F, the Jacobian of f at x.
        noise: (N, S, S) Q.
    """
    covariance = transition @ state.covariance @ transition.transpose(0, 2, 1) + noise
    return Gaussian(moved, covariance)


def innovation_covariance(state: Gaussian, observe: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(N, Z, Z) covariance H P H^T + R of what will be measured; ``observe`` (Z, S), ``noise`` (N, Z, Z) or (Z, Z)."""
    return observe @ state.covariance @ observe.T + noise


def update(
    state: Gaussian, innovation: np.ndarray, observe: np.ndarray, noise: np.ndarray, known: np.ndarray | None = None
) -> Gaussian:
    """States after a measurement.

    Args:
        state: N predicted states of size S.
        innovation: (N, Z) y = z - H x, angles already wrapped.
        observe: (Z, S) H.
        noise: (N, Z, Z) or (Z, Z) R, without correlation between components that may be unknown.
        known: (N, Z) bool, components that were measured; None: all. The others change nothing.

    Returns:
        The updated states.

    Raises:
        ValueError: an innovation that is known and not finite.
    """
    count, size = state.mean.shape
    h = np.broadcast_to(observe, (count, *observe.shape))
    if known is not None:
        h = h * known[:, :, None]
        innovation = np.where(known, innovation, 0.0)
    if not np.isfinite(innovation).all():
        raise ValueError("a measurement is not finite")
    cross = state.covariance @ h.transpose(0, 2, 1)
    total = h @ cross + noise
    gain = np.linalg.solve(total, cross.transpose(0, 2, 1)).transpose(0, 2, 1)
    left = np.eye(size) - gain @ h
    covariance = left @ state.covariance @ left.transpose(0, 2, 1) + gain @ noise @ gain.transpose(0, 2, 1)
    mean = state.mean + (gain @ innovation[:, :, None])[:, :, 0]
    return Gaussian(mean, (covariance + covariance.transpose(0, 2, 1)) / 2)


def mahalanobis_squared(offset: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Squared distances in standard deviations, y^T S^-1 y.

    Args:
        offset: (N, M, Z) of M measurements from each of N expectations.
        covariance: (N, Z, Z).

    Returns:
        (N, M). Of a right association it is chi-square distributed with Z degrees of freedom.
    """
    solved = np.linalg.solve(covariance, offset.transpose(0, 2, 1))
    return np.einsum("nmz,nzm->nm", offset, solved)
