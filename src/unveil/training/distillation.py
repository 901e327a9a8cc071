"""Consistency distillation: a student that says in one call where a teacher's probability flow ends.

f(x_t, t) is the end at t = 0 of the flow through x_t, so that f(x_t, t) = f(x_s, s) along it and f(x, 0) = x, the boundary condition. The
second holds by parameterization: mean = c_skip x_t + c_out F with c_skip(0) = 1 and c_out(0) = 0 is true of eps, v, flow and EDM, which
divide by alpha; it is not of x0. The first is learned between neighbours of a grid. Song, Dhariwal, Chen & Sutskever 2023 (Consistency
Models), Alg. 2; for policies Prasad et al. 2024 (Consistency Policy), who add a free end s and a teacher of 80 steps.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unveil.process.corrupt import corrupt
from unveil.process.denoised import GaussianDenoise
from unveil.process.schedule import Schedule
from unveil.sampling.gaussian import DDIM


def consistency_loss(
    student: GaussianDenoise,
    teacher: GaussianDenoise,
    schedule: Schedule,
    x_0: Tensor,
    t: Float[Tensor, " B"],
    s: Float[Tensor, " B"],
    noise: Tensor,
    *,
    known: Tensor | None = None,
    huber: float = 0.00054,
) -> Float[Tensor, " B"]:
    """d(f(x_t, t), f'(x_s, s)): x_t = alpha_t x_0 + sigma_t noise, x_s the teacher's DDIM step from it, f' the student without gradient.

        d(a, b) = sqrt(|a - b|^2 + c^2) - c,    c = 0.00054 sqrt(numbers)        (pseudo-Huber, Song & Dhariwal 2024, eq. 7)

    At its minimum f is the composition of the teacher's DDIM steps, from t down the grid to 0, where the target is x_0-hat itself: the
    student knows nothing that the teacher with as many steps does not. The target's weights are the student's own, not an average of
    them (ibid., section 3.2).

    Args:
        student, teacher: beliefs; the student's is read as the end of the flow.
        schedule: of both.
        x_0, noise: (B, *E).
        t, s: neighbours of a falling grid, s < t.
        known: bool, broadcastable to x_0: clean in all states and left out of the distance.
        huber: c without its root; 0 for the root of the squared distance.
    """
    x_t = corrupt(schedule, x_0, t, noise, known)
    with torch.no_grad():
        x_s, _ = DDIM(schedule).step(teacher, x_t, t, s, None, None)
        x_s = x_s if known is None else torch.where(known, x_0, x_s)
        target = student(x_s, s).mean
    error = (student(x_t, t).mean - target).square()
    if known is not None:
        error = torch.where(known, torch.zeros_like(error), error)
    c = huber * error[0].numel() ** 0.5
    return (error.flatten(1).sum(1) + c**2).sqrt() - c


def neighbours(grid: Float[Tensor, " N"], count: int, generator: torch.Generator) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """`count` random pairs (t, s) of neighbouring times of a falling grid, each pair as likely as another."""
    place = torch.randint(len(grid) - 1, (count,), generator=generator, device="cpu")
    return grid[place], grid[place + 1]
