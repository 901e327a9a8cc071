"""Randomness of samples: one generator for a batch, or one for each sample, whose numbers then do not depend on the batch around it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Recorded:
    """Standard normal numbers that were drawn before, one tensor for each draw in its order: to compare with another implementation.

    Raises:
        ValueError: at a draw of another shape, or beyond the last.
    """

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self._draws = list(draws)
        self.used = 0

    def next(self, x: Tensor) -> Tensor:
        """The next draw, which must have x's shape."""
        if self.used == len(self._draws):
            raise ValueError(
                f"recorded noise: {self.used} draws were given, and another one of shape {tuple(x.shape)} is needed"
            )
        draw = self._draws[self.used]
        if draw.shape != x.shape:
            raise ValueError(
                f"recorded noise: draw {self.used} must have shape {tuple(x.shape)}, got {tuple(draw.shape)}"
            )
        self.used += 1
        return draw.to(x)


Noise = torch.Generator | Sequence[torch.Generator] | Recorded | None
"""None: torch's global generator. A sequence of n: each serves len(x) / n successive rows, such as the candidates of one sample."""


def generators(seed: int, count: int, first: int = 0) -> list[torch.Generator]:
    """A generator for each of the samples first .. first + count - 1: sample i has the seed `seed + i`, whatever is drawn beside it."""
    return [torch.Generator(device="cpu").manual_seed(seed + i) for i in range(first, first + count)]


def some_of(generator: Noise, rows: slice) -> Noise:
    """The randomness of some samples of a batch: their own generators, or the one that serves all."""
    if isinstance(generator, Recorded):
        raise ValueError("recorded noise belongs to whole batches")
    return generator[rows] if isinstance(generator, Sequence) else generator


def normal_like(x: Tensor, generator: Noise) -> Tensor:
    """Standard normal noise of x's shape, dtype and device; CPU generators serve every device with the same numbers."""
    if isinstance(generator, Recorded):
        return generator.next(x)
    return _drawn(x, generator, torch.randn, x.dtype)


def uniform_like(x: Tensor, generator: Noise, positive: bool = False, where: Tensor | None = None) -> Tensor:
    """Float64 numbers of x's shape in [0, 1), or inside (0, 1), on its device; CPU generators serve all devices.

    Args:
        where: bool, (B,) or more of x's leading dimensions: where numbers are wanted. With a generator for each sample no others are drawn
            (they are 1 there), so that a row's stream does not depend on what other rows still want; one generator draws all.
    """
    if isinstance(generator, Recorded):
        raise ValueError("recorded noise is normal, and this needs uniform numbers")
    if where is not None and isinstance(generator, Sequence):
        numbers = _drawn_where(x, generator, where)
    else:
        numbers = _drawn(x, generator, torch.rand, torch.float64)
    return numbers.clamp(min=2.0**-60) if positive else numbers


def _drawn(
    x: Tensor,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    draw: Callable[..., Tensor],
    dtype: torch.dtype,
) -> Tensor:
    if not isinstance(generator, Sequence):
        device = x.device if generator is None else generator.device
        return draw(x.shape, dtype=dtype, device=device, generator=generator).to(x.device)
    shape = (_rows_each(x, generator), *x.shape[1:])
    parts = [draw(shape, dtype=dtype, device=own.device, generator=own) for own in generator]
    return torch.cat(parts).to(x.device) if parts else torch.empty(x.shape, dtype=dtype, device=x.device)


def _drawn_where(x: Tensor, generator: Sequence[torch.Generator], where: Tensor) -> Tensor:
    each, wanted = _rows_each(x, generator), where.cpu()
    numbers = torch.ones(x.shape, dtype=torch.float64, device="cpu")
    for i, own in enumerate(generator):
        rows = slice(i * each, (i + 1) * each)
        count = int(wanted[rows].sum())
        if count:
            numbers[rows][wanted[rows]] = torch.rand(
                (count, *x.shape[where.ndim :]), dtype=torch.float64, device=own.device, generator=own
            ).cpu()
    return numbers.to(x.device)


def _rows_each(x: Tensor, generator: Sequence[torch.Generator]) -> int:
    each, left = divmod(len(x), len(generator)) if generator else (0, len(x))
    if left:
        raise ValueError(
            f"{len(generator)} generators cannot serve {len(x)} rows in equal parts; give one for each sample"
        )
    return each
