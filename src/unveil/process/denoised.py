"""Beliefs: predictions of x_0 given x_t, which networks return, guidance changes and solvers read."""

from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

Same = TypeVar("Same", bound="Denoised")


@runtime_checkable
class Denoised(Protocol):
    """A prediction of x_0, in parameters that can be interpolated and extrapolated linearly."""

    def toward(self: Same, other: Same, scale: float | Tensor) -> Same:
        """self + scale * (other - self) in the natural parameter; all other fields are those of `other`.

        Args:
            scale: a number, or (B, 1, ...).
        """
        ...

    def rows(self: Same, start: int, stop: int) -> Same:
        """The belief about samples start .. stop - 1 of the batch."""
        ...


D = TypeVar("D", bound=Denoised)
D_co = TypeVar("D_co", bound=Denoised, covariant=True)


@runtime_checkable
class Denoise(Protocol[D_co]):
    """A denoiser whose condition is fixed: maps x_t (B, *E) and t (B,) to a belief."""

    def __call__(self, x_t: Tensor, t: Tensor) -> D_co: ...


@dataclass(frozen=True, slots=True)
class GaussianDenoised:
    """A Gaussian belief; its natural parameter is the mean, at fixed variance.

    Args:
        mean: (B, *E), E[x_0 | x_t].
        variance_fraction: (B, *E) in [0, 1], the position of a step's log-variance between log beta-tilde (0)
            and log beta (1); None if the variance is not learned.
    """

    mean: Tensor
    variance_fraction: Tensor | None = None

    def toward(self, other: "GaussianDenoised", scale: float | Tensor) -> "GaussianDenoised":
        return GaussianDenoised(self.mean + scale * (other.mean - self.mean), other.variance_fraction)

    def rows(self, start: int, stop: int) -> "GaussianDenoised":
        fraction = self.variance_fraction
        return GaussianDenoised(self.mean[start:stop], None if fraction is None else fraction[start:stop])

    def moved(self, mean: Tensor) -> "GaussianDenoised":
        """This belief with another mean."""
        return GaussianDenoised(mean, self.variance_fraction)


GaussianDenoise = Denoise[GaussianDenoised]  # the input of Gaussian solvers and guidance


@dataclass(frozen=True, slots=True)
class MaskedDenoised:
    """A belief about tokens; its natural parameters are the logits.

    Args:
        logits: (B, P, V), finite, the unchanged output of the network.
        positions: (B, P), the sequence positions of the logits; None if they are of all positions in order.
    """

    logits: Tensor
    positions: Tensor | None = None

    def toward(self, other: "MaskedDenoised", scale: float | Tensor) -> "MaskedDenoised":
        return MaskedDenoised(self.logits + scale * (other.logits - self.logits), self.positions)

    def rows(self, start: int, stop: int) -> "MaskedDenoised":
        return MaskedDenoised(
            self.logits[start:stop], None if self.positions is None else self.positions[start:stop]
        )
