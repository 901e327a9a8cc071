"""The belief about x_0 given x_t: the one currency between networks, guidance and solvers."""

from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

Same = TypeVar("Same", bound="Denoised")


@runtime_checkable
class Denoised(Protocol):
    """What a model believes about x_0, in parameters that may be moved along straight lines."""

    def toward(self: Same, other: Same, scale: float | Tensor) -> Same:
        """self + scale * (other - self) in the natural parameter; scale may be (B, 1, ...). Other fields are `other`'s at every scale."""
        ...

    def rows(self: Same, start: int, stop: int) -> Same:
        """The belief about samples start .. stop - 1 of the batch."""
        ...


D = TypeVar("D", bound=Denoised)
D_co = TypeVar("D_co", bound=Denoised, covariant=True)


@runtime_checkable
class Denoise(Protocol[D_co]):
    """A denoiser with its condition bound: x_t (B, *E) and t (B,) to a belief."""

    def __call__(self, x_t: Tensor, t: Tensor) -> D_co: ...


@dataclass(frozen=True, slots=True)
class GaussianDenoised:
    """A Gaussian belief, moved by its mean at fixed variance.

    Args:
        mean: (B, *E), E[x_0 | x_t].
        variance_fraction: (B, *E) in [0, 1], where a step's log-variance lies between beta-tilde (0) and beta (1), if learned.
    """

    mean: Tensor
    variance_fraction: Tensor | None = None

    def toward(self, other: "GaussianDenoised", scale: float | Tensor) -> "GaussianDenoised":
        return GaussianDenoised(self.mean + scale * (other.mean - self.mean), other.variance_fraction)

    def rows(self, start: int, stop: int) -> "GaussianDenoised":
        fraction = self.variance_fraction
        return GaussianDenoised(self.mean[start:stop], None if fraction is None else fraction[start:stop])

    def moved(self, mean: Tensor) -> "GaussianDenoised":
        """The same belief about another mean."""
        return GaussianDenoised(mean, self.variance_fraction)


GaussianDenoise = Denoise[GaussianDenoised]  # what solvers and guidance of the Gaussian family take


@dataclass(frozen=True, slots=True)
class MaskedDenoised:
    """A belief about tokens, moved by its logits.

    Args:
        logits: (B, P, V), finite, as the network gave them.
        positions: (B, P), where they belong, or None for all positions.
    """

    logits: Tensor
    positions: Tensor | None = None

    def toward(self, other: "MaskedDenoised", scale: float | Tensor) -> "MaskedDenoised":
        return MaskedDenoised(self.logits + scale * (other.logits - self.logits), self.positions)

    def rows(self, start: int, stop: int) -> "MaskedDenoised":
        return MaskedDenoised(
            self.logits[start:stop], None if self.positions is None else self.positions[start:stop]
        )
