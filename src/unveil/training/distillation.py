"""Distillation of a probability flow: a student that says in one call where the teacher's samples end.

A deterministic sampler is a map from noise to data, and every state on its way leads to the same end. The student f(x_t, t) learns that
end by regression: Luhman & Luhman 2021 (knowledge distillation) from the noise alone, here from all states, so that a sampler which noises
the end anew and looks again (`Consistency`) finds what the student was trained on. Unlike consistency distillation (Song et al. 2023),
whose targets are the student's own answers one step further on, the targets are the teacher's from the first step of training on.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unveil.process.denoised import GaussianDenoise
from unveil.process.schedule import Schedule
from unveil.sampling.edit import Edit, identity
from unveil.sampling.gaussian import DDIM
from unveil.sampling.loop import sample


def trajectory(
    teacher: GaussianDenoise,
    schedule: Schedule,
    noise: Tensor,
    times: Float[Tensor, " N"],
    edit: Edit = identity,
) -> Tensor:
    """(N, B, *E): the states of the teacher's DDIM at the times, from the noise (B, *E) to the end."""
    states = [edit(noise, times[0], None)]
    sample(teacher, DDIM(schedule), noise, times, edit=edit, on_step=lambda x, _: states.append(x))
    return torch.stack(states)


def end_loss(
    student: GaussianDenoise,
    x_t: Tensor,
    t: Float[Tensor, " B"],
    end: Tensor,
    *,
    known: Tensor | None = None,
    huber: float = 0.00054,
) -> Float[Tensor, " B"]:
    """d(f(x_t, t), end), f the student's mean.

        d(a, b) = sqrt(|a - b|^2 + c^2) - c,    c = 0.00054 sqrt(numbers)        (pseudo-Huber, Song & Dhariwal 2024, eq. 7)

    Args:
        student: beliefs, whose means are read as ends.
        x_t, end: (B, *E) states of trajectories and where they end.
        known: bool, broadcastable to x_t: left out of the distance.
        huber: c without its root; 0 for the root of the squared distance.
    """
    error = (student(x_t, t).mean - end).square()
    if known is not None:
        error = torch.where(known, torch.zeros_like(error), error)
    c = huber * error[0].numel() ** 0.5
    return (error.flatten(1).sum(1) + c**2).sqrt() - c
