"""Time grids of a sampler: decreasing times (float64, CPU), the last one 0 unless it says otherwise."""

import torch
from jaxtyping import Float
from torch import Tensor

from unveil.process.schedule import Schedule, log_snr

Grid = Float[Tensor, " N"]


def uniform(steps: int, start: float = 1.0, end: float = 0.0) -> Grid:
    """steps + 1 evenly spaced times from `start` to `end`.

    Raises:
        ValueError: fewer than one step, or not 0 <= end < start.
    """
    _at_least_one(steps)
    if not 0.0 <= end < start:
        raise ValueError(
            f"uniform grid: end and start must satisfy 0 <= end < start, got start {start} and end {end}"
        )
    return torch.linspace(start, end, steps + 1, dtype=torch.float64, device="cpu")


def trailing(train_steps: int, steps: int) -> Grid:
    """Every (train_steps / steps)-th entry of a table, counted from the noisy end: the first time is 1.

    Lin et al. 2024, table 2.

    Raises:
        ValueError: fewer than one step, or more than `train_steps`.
    """
    _at_least_one(steps, train_steps)
    entries = torch.arange(steps, -1, -1, dtype=torch.float64, device="cpu") * (train_steps / steps)
    return entries.round() / train_steps


def leading(train_steps: int, steps: int, offset: int = 1, end: int = 1) -> Grid:
    """Every (train_steps // steps)-th entry of a table, counted from the clean end; the last time is `end`.

    Entries 1 + offset + i * stride, i = 0 .. steps - 1. With the defaults these are the times of DDIM and
    PNDM in Stable Diffusion: diffusers' `timestep_spacing="leading"` with `steps_offset=1`, whose last step
    goes to the table's first entry, not to t = 0 (`set_alpha_to_one=False`). CompVis' code has the same times
    if `steps` divides `train_steps`, and else more steps.

    Args:
        offset: entries that are left out at the clean end.
        end: entry, counted from 1, at which the last step ends; 0 is t = 0.
    Raises:
        ValueError: fewer than one step, entries beyond the table, or an end that is not below the first.
    """
    _at_least_one(steps, train_steps)
    first, stride = 1 + offset, train_steps // steps
    if not 0 <= end < first or first + (steps - 1) * stride > train_steps:
        raise ValueError(
            f"leading grid: {steps} steps of {stride} entries from entry {first}, and an end before it, must "
            f"lie in a table of {train_steps}; take fewer `steps`"
        )
    entries = [first + i * stride for i in reversed(range(steps))]
    return torch.tensor([*entries, end], dtype=torch.float64, device="cpu") / train_steps


def linspace(train_steps: int, steps: int) -> Grid:
    """`steps` evenly spaced times from the last entry of a table to its first, then 0.

    Times lie between entries, and the network is called there. k-diffusion's `get_sigmas`, which is "Uniform"
    in A1111's web UI; diffusers' Euler schedulers with `timestep_spacing="linspace"`, except that they
    interpolate sigma / alpha between entries where `Tabulated` and k-diffusion interpolate its logarithm.

    Raises:
        ValueError: fewer than one step, or more than `train_steps`.
    """
    _at_least_one(steps, train_steps)
    times = torch.linspace(1.0, 1.0 / train_steps, steps, dtype=torch.float64, device="cpu")
    return torch.cat([times, torch.zeros_like(times[:1])])


def sgm_uniform(train_steps: int, steps: int, rounded: bool = False) -> Grid:
    """steps + 1 evenly spaced times from the last entry of a table to its first; 0 replaces the last of them.

    Unlike those of `linspace`, the last step starts well above the first entry. "SGM Uniform" in A1111's web
    UI and ComfyUI, after Stability's generative-models.

    Args:
        rounded: round to entries: diffusers' multi-step schedulers (DPM-Solver++, UniPC) with
            `timestep_spacing="linspace"`, their default.
    Raises:
        ValueError: fewer than one step, or more than `train_steps`.
    """
    _at_least_one(steps, train_steps)
    entries = torch.linspace(train_steps - 1.0, 0.0, steps + 1, dtype=torch.float64, device="cpu")[:-1]
    entries = (entries.round() if rounded else entries) + 1.0
    return torch.cat([entries, torch.zeros_like(entries[:1])]) / train_steps


def latent_consistency(train_steps: int, steps: int, distilled: int = 50) -> Grid:
    """Evenly spaced ones of the times for which a latent consistency model was distilled, from 1; then 0.

    It was distilled for every (train_steps // distilled)-th entry of a table; the grid takes entries of equal
    distance among these, rounded towards noise. Luo et al. 2023, section 4.3; diffusers' `LCMScheduler`.

    Raises:
        ValueError: fewer than one step, or more than the model was distilled for.
    """
    _at_least_one(steps, min(distilled, train_steps))
    stride = train_steps // min(distilled, train_steps)
    count = min(distilled, train_steps)
    entries = [stride * (count - i * count // steps) for i in range(steps)]
    return torch.tensor([*entries, 0], dtype=torch.float64, device="cpu") / train_steps


def karras(
    schedule: Schedule, steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Grid:
    """steps times at which sigma / alpha of any schedule takes the noise levels of Karras et al.; then 0.

    Karras et al. 2022, eq. 5.

    Raises:
        ValueError: fewer than one step, not 0 < sigma_min < sigma_max, or a ratio beyond the schedule.
    """
    fraction = _fractions("karras", steps, sigma_min, sigma_max)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    ratio = (high + fraction * (low - high)) ** rho
    return _at_ratios("karras", schedule, ratio)


def exponential(schedule: Schedule, steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Grid:
    """steps times that are evenly spaced in log(sigma / alpha) of any schedule, in its log-SNR; then 0.

    k-diffusion's `get_sigmas_exponential`. Lu et al. 2022 (DPM-Solver), section 3.4.

    Raises:
        ValueError: as for `karras`.
    """
    fraction = _fractions("exponential", steps, sigma_min, sigma_max)
    return _at_ratios("exponential", schedule, sigma_max * (sigma_min / sigma_max) ** fraction)


def _fractions(name: str, steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    _at_least_one(steps)
    if not 0.0 < sigma_min < sigma_max:
        raise ValueError(f"{name} grid: 0 < sigma_min < sigma_max must hold, got {sigma_min} and {sigma_max}")
    return torch.linspace(0.0, 1.0, steps, dtype=torch.float64, device="cpu")


def _at_ratios(name: str, schedule: Schedule, ratio: Tensor) -> Grid:
    """The times at which sigma / alpha takes these decreasing values; then 0."""
    times = schedule.time(-2.0 * ratio.log())
    reached = (-0.5 * log_snr(schedule, times)).exp()
    if float(times[0]) > 1.0 + 1e-9 or not torch.allclose(reached, ratio, rtol=1e-4):
        ends = torch.tensor([1e-3, 1.0], dtype=torch.float64, device="cpu")
        least, most = ((-0.5 * log_snr(schedule, ends)).exp()).tolist()
        raise ValueError(
            f"{name} grid: sigma / alpha must run from {float(ratio[-1]):.4g} to {float(ratio[0]):.4g}, but "
            f"this schedule goes from about {least:.3g} (t = 0.001) to {most:.4g} (t = 1); "
            "choose sigma_min and sigma_max in this range"
        )
    times = times.clamp(max=1.0)
    return torch.cat([times, torch.zeros_like(times[:1])])


def respaced(train_steps: int, sections: tuple[int, ...]) -> Grid:
    """A sub-sequence of a table in equal sections, from clean to noisy, each with its own number of steps.

    `respaced(1000, (10, 15, 5))` takes 10 steps in the cleanest third, 15 in the middle and 5 in the
    noisiest. Nichol & Dhariwal 2021, section 4.

    Raises:
        ValueError: a count is below 1 or above the number of steps in its section.
    """
    size, longer = divmod(train_steps, len(sections))
    entries: list[float] = []
    start = 0
    for i, count in enumerate(sections):
        length = size + (i < longer)
        if not 1 <= count <= length:
            raise ValueError(
                f"respaced grid: the count of section {i} must lie in 1 .. {length}, got {count}"
            )
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        entries += [start + round(k * stride) + 1 for k in range(count)]
        start += length
    return torch.tensor([*reversed(entries), 0], dtype=torch.float64, device="cpu") / train_steps


def jumping(times: Tensor, length: int, visits: int) -> Grid:
    """Repeat each stretch of `length` steps of decreasing `times` `visits` times.

    The last stretch may be shorter. This is RePaint's resampling: denoise along the stretch, return to its
    start by adding noise, denoise again. The return is one step instead of `length`, which has the same
    distribution. Lugmayr et al. 2022, Alg. 1 and appendix B (their j is `length`, their r is `visits`). Some
    times of the result increase, so the solver must support steps towards noise; see `Renoise`.

    Raises:
        ValueError: length or visits below 1.
    """
    if length < 1 or visits < 1:
        raise ValueError(f"jumping grid: length and visits must be at least 1, got {length} and {visits}")
    stretches = [times[:1]]
    for start in range(0, len(times) - 1, length):
        stretch = times[start + 1 : start + 1 + length]
        stretches.append(stretch)
        for _ in range(visits - 1):
            stretches += [times[start : start + 1], stretch]
    return torch.cat(stretches)


def strided(train_steps: int, steps: int) -> Grid:
    """Every k-th entry of a table, from the cleanest on; k is the smallest stride that gives `steps` entries.

    This is "ddimN" of improved-diffusion.

    Raises:
        ValueError: no k gives exactly `steps` entries.
    """
    _at_least_one(steps, train_steps)
    for stride in range(1, train_steps + 1):
        if len(range(0, train_steps, stride)) == steps:
            entries = [*reversed(range(1, train_steps + 1, stride)), 0]
            return torch.tensor(entries, dtype=torch.float64, device="cpu") / train_steps
    raise ValueError(f"strided grid: no stride takes exactly {steps} of {train_steps} steps")


def respaced_by(train_steps: int, text: str) -> Grid:
    """The grid of improved-diffusion's `timestep_respacing`.

    Args:
        text: counts per section, clean to noisy, such as "25,25,50" (`respaced`); or "ddim25" (`strided`); or
            "fast27", GLIDE's "10,10,3,2,2" whose first time is two entries before the last.
    Raises:
        ValueError: another text, or counts that do not fit the table.
    """
    if text.startswith("ddim") and text[4:].isdigit():
        return strided(train_steps, int(text[4:]))
    if text == "fast27":
        times = respaced(train_steps, (10, 10, 3, 2, 2))
        times[0] = (train_steps - 2.0) / train_steps  # the noisiest entries give artefacts with DDIM
        return times
    counts = text.split(",")
    if not all(part.strip().isdigit() for part in counts):
        raise ValueError(f"respacing must be counts such as 25,25,50, or ddim25 or fast27, got {text!r}")
    return respaced(train_steps, tuple(int(part) for part in counts))


def quadratic(train_steps: int, steps: int, share: float = 0.8) -> Grid:
    """A sub-sequence of a table whose entries grow as i^2, so that they are denser at the clean end.

    Entries of equal index count once, so there may be fewer steps. Song, Meng & Ermon 2021, D.2.

    Args:
        share: fraction of the table that the grid covers, from the clean end.
    Raises:
        ValueError: fewer than two steps, or more than `train_steps`.
    """
    _at_least_one(steps, train_steps)
    if steps == 1:
        raise ValueError("quadratic grid: steps must be at least 2, got 1")
    entries = (
        torch.linspace(0.0, (share * train_steps) ** 0.5, steps, dtype=torch.float64, device="cpu")
        .square()
        .floor()
        .unique()
    )
    return torch.cat([entries.flip(0) + 1.0, torch.zeros(1, dtype=torch.float64, device="cpu")]) / train_steps


def _at_least_one(steps: int, most: int | None = None) -> None:
    if steps < 1 or (most is not None and steps > most):
        raise ValueError(
            f"grid: steps must be at least 1{'' if most is None else f' and at most {most}'}, got {steps}"
        )
