"""Random numbers of samplers: one generator for a batch, or one per sample.

With one generator per sample, the numbers of a sample do not depend on the rest of its batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Recorded:
    """Recorded standard normal numbers, one tensor per draw, for comparison with another implementation.

    Raises:
        ValueError: a draw has another shape than recorded, or no draw is left.
    """

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self._draws = list(draws)
        self.used = 0

    def next(self, x: Tensor) -> Tensor:
        """The next recorded draw, which must have the shape of x."""
        if self.used == len(self._draws):
            raise ValueError(
                f"recorded noise: {self.used} draws were given, one more of shape {tuple(x.shape)} is needed"
            )
        draw = self._draws[self.used]
        if draw.shape != x.shape:
            raise ValueError(
                f"recorded noise: draw {self.used} must have shape {tuple(x.shape)}, got {tuple(draw.shape)}"
            )
        self.used += 1
        return draw.to(x)


Noise = torch.Generator | Sequence[torch.Generator] | Recorded | None
"""None is torch's global generator. In a sequence of n, each generates len(x) / n successive rows of x,
such as the candidates of one sample."""


def generators(seed: int, count: int, first: int = 0) -> list[torch.Generator]:
    """Generators of the samples first .. first + count - 1; sample i always has the seed `seed + i`."""
    return [torch.Generator(device="cpu").manual_seed(seed + i) for i in range(first, first + count)]


def some_of(generator: Noise, rows: slice) -> Noise:
    """The generators of some rows of a batch: their own, or the shared one."""
    if isinstance(generator, Recorded):
        raise ValueError("recorded noise cannot be split by rows: it is recorded for whole batches")
    return generator[rows] if isinstance(generator, Sequence) else generator


def normal_like(x: Tensor, generator: Noise) -> Tensor:
    """Standard normal noise like x; a CPU generator gives the same numbers on every device."""
    if isinstance(generator, Recorded):
        return generator.next(x)
    return _drawn(x, generator, torch.randn, x.dtype)


def uniform_like(x: Tensor, generator: Noise, positive: bool = False, where: Tensor | None = None) -> Tensor:
    """Uniform float64 numbers in [0, 1), with the shape and device of x; CPU generators serve every device.

    Args:
        positive: exclude 0.
        where: bool, (B,) or more of x's leading dimensions: the numbers that are needed. With one generator
            per sample only these are drawn (the others are 1), so that the numbers of a row do not depend on
            the needs of other rows; a single generator draws all.
    """
    if isinstance(generator, Recorded):
        raise ValueError("recorded noise is normal, but uniform numbers are needed here")
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
            f"{len(generator)} generators cannot serve {len(x)} rows in equal parts; use one per sample"
        )
    return each
