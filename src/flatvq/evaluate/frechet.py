"""The Fréchet distance between the features of two sets of images.

Axes: B images, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.shapes import require_axes

__all__ = ["FeatureStatistics", "frechet_distance", "frechet_distance_of"]


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of the features of a set of images, in float64.

    Example:
        >>> of = FeatureStatistics.of
        >>> both = of(torch.tensor([[0.0], [2.0]])).merge(of(torch.tensor([[4.0]])))
        >>> both.count, both.mean.tolist(), both.covariance.tolist()
        (3, [2.0], [[4.0]])
    """

    count: int
    """Number of images."""
    mean: Tensor
    """[F]."""
    scatter: Tensor
    """[F, F], the sum of (x - mean)(x - mean)^T over the images."""

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Compute the statistics of a batch of features.

        Args:
            features: [B, F] with B at least 1.

        Raises:
            FlatvqError: if the batch is empty or not [B, F].
            NonFiniteError: if a feature is NaN or infinite.
        """
        require_axes(features, "features", "B", "F")
        if len(features) == 0:
            raise FlatvqError("no features", "pass the features of at least one image")
        if not bool(features.isfinite().all()):
            raise NonFiniteError("NaN or infinity in the features", "check the images and the network")
        features = features.detach().cpu().to(torch.float64)
        mean = features.mean(dim=0)
        return cls(len(features), mean, (features - mean).T @ (features - mean))

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Return the statistics of the union of both sets (Chan, Golub & LeVeque 1983)."""
        count, step = self.count + other.count, other.mean - self.mean
        between = torch.outer(step, step) * (self.count * other.count / count)
        mean = self.mean + step * (other.count / count)
        return FeatureStatistics(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Tensor:
        """Sample covariance [F, F], divided by count - 1."""
        return self.scatter / (self.count - 1)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Return the Fréchet distance |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Heusel et al. 2017).

    For the features of originals and reconstructions this is rFID. The trace of the root is computed as the
    sum of the singular values of C_a^(1/2) C_b^(1/2), which is real even for the singular covariances of few
    images. Few images inflate the distance. Published values use 50,000 images, so report the number.

    Args:
        a: statistics of one set, of at least 2 images.
        b: statistics of the other set, of at least 2 images.

    Returns:
        The distance, at least 0, in squared units of the features.

    Raises:
        FlatvqError: if a set has fewer than two images.

    Example:
        >>> a = FeatureStatistics.of(torch.tensor([[-1.0], [1.0]]))  # mean 0, variance 2
        >>> b = FeatureStatistics.of(torch.tensor([[2.0], [6.0]]))  # mean 4, variance 8
        >>> round(frechet_distance(a, b), 9)  # 4^2 + 2 + 8 - 2 * sqrt(2 * 8)
        18.0
    """
    if min(a.count, b.count) < 2:
        raise FlatvqError(
            f"sets of {a.count} and {b.count} images have no covariance", "pass at least two images each"
        )
    shared = torch.linalg.svdvals(_root(a.covariance) @ _root(b.covariance)).sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * shared
    return float(((a.mean - b.mean).square().sum() + spread).clamp(min=0))


def frechet_distance_of(a: Tensor, b: Tensor) -> float:
    """Return the Fréchet distance between two sets of features, as `frechet_distance` does.

    With fewer images than features, X and Y being the centred features of B and B' images, the trace of the
    root is the sum of the singular values of X Y^T / ((B - 1) (B' - 1))^(1/2), a matrix as small as the sets.

    Args:
        a: [B, F], of at least 2 images.
        b: [B', F], of at least 2 images.

    Raises:
        FlatvqError: if a set has fewer than two images.
        NonFiniteError: if a feature is NaN or infinite.

    Example:
        >>> round(frechet_distance_of(torch.tensor([[-1.0], [1.0]]), torch.tensor([[2.0], [6.0]])), 9)
        18.0
    """
    if not 1 < min(len(a), len(b)) < a.shape[1]:
        return frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))
    means, centred = [], []
    for features in (a, b):
        if not bool(features.isfinite().all()):
            raise NonFiniteError("NaN or infinity in the features", "check the images and the network")
        rows = features.detach().cpu().to(torch.float64)
        means.append(rows.mean(dim=0))
        centred.append((rows - means[-1]) / (len(rows) - 1) ** 0.5)
    spread = sum(rows.square().sum() for rows in centred)
    shared = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    return float(((means[0] - means[1]).square().sum() + spread - 2 * shared).clamp(min=0))


def _root(covariance: Tensor) -> Tensor:
    """Return the square root of a positive semi-definite matrix; eigenvalues below 0 are rounding errors."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
