"""The sampling loop of all solvers, Gaussian and masked."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from unveil.process.denoised import D, Denoise, Denoised
from unveil.sampling.edit import Edit, identity
from unveil.sampling.noise import Noise

D_contra = TypeVar("D_contra", bound=Denoised, contravariant=True)


@runtime_checkable
class Solver(Protocol[D_contra]):
    """A sampling step from t to s. `carry` is the solver's state (past beliefs, clocks), None at first."""

    def step(
        self, denoise: Denoise[D_contra], x_t: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise
    ) -> tuple[Tensor, Any]: ...


@torch.no_grad()
def sample(
    denoise: Denoise[D],
    solver: Solver[D],
    x: Tensor,
    times: Tensor,
    *,
    edit: Edit = identity,
    generator: Noise = None,
    on_step: Callable[[Tensor, Tensor], object] | None = None,
) -> Tensor:
    """Sample x_0: take one solver step between each pair of neighbouring `times`.

    Args:
        denoise: x_t (B, *E), t (B,) -> belief about x_0.
        x: (B, *E), the state at times[0]; sigma(times[0]) * noise, or all masks.
        times: (N + 1,), float64 on the CPU, decreasing, from `process/grid.py`; with the solver `Renoise`
            they may also increase (RePaint).
        edit: applied to the initial state at times[0], and to the state after each step.
        generator: the source of all randomness; or one generator per sample (`noise.generators`), so that a
            sample does not depend on the rest of its batch; None uses torch's global generator.
        on_step: called with (x, s) after each step; sampling stops early if it returns a true value.
    Returns:
        The state at the last time.
    """
    x, carry = edit(x, times[0], generator), None
    for t, s in pairwise(times):
        x, carry = solver.step(denoise, x, t, s, carry, generator)
        x = edit(x, s, generator)
        if on_step is not None and on_step(x, s):
            break
    return x
