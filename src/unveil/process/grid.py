"""Grids: the falling times (float64, CPU) that a sampler visits, the last one 0."""

import torch
from jaxtyping import Float
from torch import Tensor

from unveil.process.schedule import Schedule, log_snr

Grid = Float[Tensor, " N"]


def uniform(steps: int, start: float = 1.0, end: float = 0.0) -> Grid:
    """steps + 1 evenly spaced times from `start` to `end`.

    Raises:
        ValueError: fewer than one step, or times out of order.
    """
    _at_least_one(steps)
    if not 0.0 <= end < start:
        raise ValueError(f"uniform grid: 0 <= end < start is needed, got start {start} and end {end}")
    return torch.linspace(start, end, steps + 1, dtype=torch.float64, device="cpu")


def trailing(train_steps: int, steps: int) -> Grid:
    """Every (train_steps / steps)-th entry of a table counted from the noisy end, so the first time is 1. Lin et al. 2024, table 2.

    Raises:
        ValueError: fewer than one step, or more than `train_steps`.
    """
    _at_least_one(steps, train_steps)
    places = torch.arange(steps, -1, -1, dtype=torch.float64, device="cpu") * (train_steps / steps)
    return places.round() / train_steps


def karras(
    schedule: Schedule, steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Grid:
    """Noise-to-signal ratios sigma / alpha spaced as in Karras et al. 2022, eq. 5, on any schedule; then 0. steps + 1 times.

    Raises:
        ValueError: fewer than one step, 0 < sigma_min < sigma_max does not hold, or the schedule does not reach that far.
    """
    _at_least_one(steps)
    if not 0.0 < sigma_min < sigma_max:
        raise ValueError(f"karras grid: 0 < sigma_min < sigma_max is needed, got {sigma_min} and {sigma_max}")
    place = torch.linspace(0.0, 1.0, steps, dtype=torch.float64, device="cpu")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    ratio = (high + place * (low - high)) ** rho
    times = schedule.time(-2.0 * ratio.log())
    reached = (-0.5 * log_snr(schedule, times)).exp()
    if float(times[0]) > 1.0 + 1e-9 or not torch.allclose(reached, ratio, rtol=1e-4):
        ends = torch.tensor([1e-3, 1.0], dtype=torch.float64, device="cpu")
        least, most = ((-0.5 * log_snr(schedule, ends)).exp()).tolist()
        raise ValueError(
            f"karras grid: sigma / alpha from {sigma_min} to {sigma_max} is asked, but this schedule goes from about {least:.3g} "
            f"(t = 0.001) to {most:.4g} (t = 1); give sigma_min and sigma_max within"
        )
    times = times.clamp(max=1.0)
    return torch.cat([times, torch.zeros_like(times[:1])])


def respaced(train_steps: int, sections: tuple[int, ...]) -> Grid:
    """A sub-sequence of a table: equal sections, clean to noisy, each with its own number of steps. Nichol & Dhariwal 2021, section 4.

    `respaced(1000, (10, 15, 5))` takes 10 steps in the cleanest third, 15 in the middle, 5 in the noisiest.

    Raises:
        ValueError: a section asks for no step or for more than it holds.
    """
    size, longer = divmod(train_steps, len(sections))
    places: list[float] = []
    start = 0
    for i, count in enumerate(sections):
        length = size + (i < longer)
        if not 1 <= count <= length:
            raise ValueError(f"respaced grid: section {i} has {length} steps, cannot take {count} of them")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        places += [start + round(k * stride) + 1 for k in range(count)]
        start += length
    return torch.tensor([*reversed(places), 0], dtype=torch.float64, device="cpu") / train_steps


def jumping(times: Tensor, length: int, visits: int) -> Grid:
    """Falling times with each stretch of `length` steps (the last may be shorter) walked `visits` times.

    Down, up by the whole stretch, down again: RePaint's resampling, with one step up instead of `length`, since noise added at once is as
    noise added in turn. Lugmayr et al. 2022, Alg. 1 and appendix B (their j and r). The result rises in places; the solver must know how
    to go up, see `Renoise`.

    Raises:
        ValueError: length or visits below 1.
    """
    if length < 1 or visits < 1:
        raise ValueError(
            f"jumps need a length and a number of visits of at least 1, got {length} and {visits}"
        )
    found = [times[:1]]
    for start in range(0, len(times) - 1, length):
        stretch = times[start + 1 : start + 1 + length]
        found.append(stretch)
        for _ in range(visits - 1):
            found += [times[start : start + 1], stretch]
    return torch.cat(found)


def strided(train_steps: int, steps: int) -> Grid:
    """Every k-th entry of a table from the cleanest on, k the least stride that takes exactly so many: "ddimN" of improved-diffusion.

    Raises:
        ValueError: no stride takes so many.
    """
    _at_least_one(steps, train_steps)
    for stride in range(1, train_steps + 1):
        if len(range(0, train_steps, stride)) == steps:
            places = [*reversed(range(1, train_steps + 1, stride)), 0]
            return torch.tensor(places, dtype=torch.float64, device="cpu") / train_steps
    raise ValueError(f"no stride takes exactly {steps} of {train_steps} steps")


def respaced_by(train_steps: int, text: str) -> Grid:
    """`respaced` by counts such as "25,25,50", clean to noisy, or `strided` by "ddim25", as improved-diffusion's `timestep_respacing`.

    Raises:
        ValueError: neither, or counts that do not fit.
    """
    if text.startswith("ddim") and text[4:].isdigit():
        return strided(train_steps, int(text[4:]))
    counts = text.split(",")
    if not all(part.strip().isdigit() for part in counts):
        raise ValueError(f"respacing is by counts such as 25,25,50, or ddim25, got {text!r}")
    return respaced(train_steps, tuple(int(part) for part in counts))


def quadratic(train_steps: int, steps: int, share: float = 0.8) -> Grid:
    """A sub-sequence of a table whose entries grow as i^2, up to `share` of it, so closer where it is clean. Song, Meng & Ermon 2021, D.2.

    Entries that round to the same place are taken once, so there may be fewer than asked.

    Raises:
        ValueError: fewer than two steps, or more than `train_steps`.
    """
    _at_least_one(steps, train_steps)
    if steps == 1:
        raise ValueError("quadratic grid: at least 2 steps are needed")
    places = (
        torch.linspace(0.0, (share * train_steps) ** 0.5, steps, dtype=torch.float64, device="cpu")
        .square()
        .floor()
        .unique()
    )
    return torch.cat([places.flip(0) + 1.0, torch.zeros(1, dtype=torch.float64, device="cpu")]) / train_steps


def _at_least_one(steps: int, most: int | None = None) -> None:
    if steps < 1 or (most is not None and steps > most):
        raise ValueError(
            f"grid: steps must be at least 1{'' if most is None else f' and at most {most}'}, got {steps}"
        )
