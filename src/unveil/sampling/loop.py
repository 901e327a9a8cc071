"""The only sampling loop, for every solver of both families."""

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
    """One step from t to s. Whatever must outlive the step (past beliefs, per-row clocks) travels in `carry`, None at first."""

    def step(
        self,
        denoise: Denoise[D_contra],
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        carry: Any,
        generator: Noise,
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
    """Follow `times` from noise to data.

    Args:
        denoise: x_t (B, *E), t (B,) -> belief about x_0.
        x: (B, *E), the state at times[0]; sigma(times[0]) * noise, or all masks.
        times: (N + 1,), float64 on the CPU, from `process/grid.py`; they fall; with `Renoise` they may also rise (RePaint).
        edit: changes the state after it is made, first at times[0].
        generator: the source of all randomness, or one for each sample (`noise.generators`), whose results then do not depend on the batch
            they are made in; None uses torch's global one.
        on_step: called with (x, s) after each step; a true result stops early.
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
