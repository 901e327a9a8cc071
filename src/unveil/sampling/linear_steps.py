"""The steps of a solver as numbers: linear combinations of states, predicted means and noise.

Every Gaussian solver that does not read the belief's variance is linear in these. `linear_steps` finds the
factors by running the solver once on unit vectors; `replay` then samples without the solver, and without
times as tensors, so that a graph can be recorded of it (`unveil export`).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.process.denoised import GaussianDenoised
from unveil.sampling.loop import Solver
from unveil.sampling.noise import Recorded

CALLS = 5  # the most network calls, and the most draws of noise, of a step of any solver


class Term(NamedTuple):
    """A term of a linear combination: factor * one of the states, means or draws of noise, by its number."""

    kind: str
    number: int
    factor: float


Combination = tuple[Term, ...]


class LinearStep(NamedTuple):
    """One step of a solver.

    Args:
        calls: time and input of each call of the denoiser.
        result: the next state, before the edit.
    """

    calls: tuple[tuple[float, Combination], ...]
    result: Combination


class LinearSteps(NamedTuple):
    """All steps of a sample.

    Args:
        times: times of the initial state and of each step's result.
        draws: number of draws of noise in all steps.
    """

    steps: tuple[LinearStep, ...]
    times: tuple[float, ...]
    draws: int


def linear_steps(solver: Solver[GaussianDenoised], times: Tensor) -> LinearSteps:
    """The steps of a solver on falling times.

    Raises:
        ValueError: a solver that is not linear, such as one that reads a learned variance.
    """
    count = len(times) - 1
    names = [("state", k) for k in range(count)]
    names += [(kind, k) for kind in ("mean", "noise") for k in range(CALLS * count)]
    units = torch.eye(len(names), dtype=torch.float64, device="cpu")
    mean_first, noise_first = count, count + CALLS * count
    noise = Recorded([units[None, i] for i in range(noise_first, len(names))])
    steps: list[LinearStep] = []
    means, carry = 0, None
    for k, (t, s) in enumerate(pairwise(times)):
        calls: list[tuple[float, Combination]] = []

        def denoise(
            x_t: Tensor, t: Tensor, calls: list[tuple[float, Combination]] = calls
        ) -> GaussianDenoised:
            nonlocal means
            calls.append((float(t.reshape(-1)[0]), _combination(x_t[0], names)))
            means += 1
            return GaussianDenoised(units[None, mean_first + means - 1])

        x, carry = solver.step(denoise, units[None, k], t, s, carry, noise)
        steps.append(LinearStep(tuple(calls), _combination(x[0], names)))
    return LinearSteps(tuple(steps), tuple(times.tolist()), noise.used)


def _combination(x: Tensor, names: Sequence[tuple[str, int]]) -> Combination:
    if not bool(torch.isfinite(x).all()):
        raise ValueError("linear steps: a factor of this solver is not finite at these times")
    return tuple(Term(names[i][0], names[i][1], float(x[i])) for i in torch.nonzero(x).flatten().tolist())


def replay(
    steps: LinearSteps,
    mean: Callable[[Tensor, float], Tensor],
    x: Tensor,
    noise: Sequence[Tensor] = (),
    edit: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """What `sample` returns with the solver of these steps.

    Args:
        mean: x_t (B, *E), t -> the mean of x_0.
        x: (B, *E), the state at the first time.
        noise: (B, *E) each, standard normal noise of the draws.
        edit: edit of the initial state and of each step's result, as `Inpaint`.
    Raises:
        ValueError: another number of draws.
    """
    if len(noise) != steps.draws:
        raise ValueError(f"replay: {steps.draws} draws of noise are needed, got {len(noise)}")
    known: dict[str, list[Tensor]] = {"state": [edit(x)], "mean": [], "noise": list(noise)}

    def combined(terms: Combination) -> Tensor:
        total: Tensor | None = None
        for kind, number, factor in terms:
            part = known[kind][number]
            part = part if factor == 1.0 else factor * part
            total = part if total is None else total + part
        return torch.zeros_like(x) if total is None else total

    for step in steps.steps:
        for time, terms in step.calls:
            known["mean"].append(mean(combined(terms), time))
        known["state"].append(edit(combined(step.result)))
    return known["state"][-1]
