"""Distillation of a probability flow: a student predicts the end of the teacher's trajectory in one call.

A deterministic sampler maps noise to data, and every state of a trajectory leads to the same end. The student
f(x_t, t) learns this end by regression. Luhman & Luhman 2021 (knowledge distillation) regress from the noise
alone; here all states are used, so that a sampler that adds noise to the predicted end and predicts again
(`Consistency`) stays close to the training distribution. In consistency distillation (Song et al. 2023) the
targets are the student's own predictions one step further; here they are always the teacher's.
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
    """The states of the teacher's DDIM trajectory.

    Args:
        noise: (B, *E), the state at times[0].
        times: (N,), decreasing.
        edit: applied to every state.
    Returns:
        (N, B, *E), from the noise to the end.
    """
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
    """The distance d(f(x_t, t), end), where f is the student's mean.

        d(a, b) = sqrt(|a - b|^2 + c^2) - c,    c = 0.00054 sqrt(numbers of a sample)

    d is the pseudo-Huber distance of Song & Dhariwal 2024, eq. 7.

    Args:
        student: denoiser whose mean predicts the end.
        x_t, end: (B, *E), states of trajectories and their ends.
        known: bool, broadcastable to x_t: positions left out of the distance.
        huber: c / sqrt(numbers of a sample); 0 gives the Euclidean distance.
    Returns:
        (B,)
    """
    error = (student(x_t, t).mean - end).square()
    if known is not None:
        error = torch.where(known, torch.zeros_like(error), error)
    c = huber * error[0].numel() ** 0.5
    return (error.flatten(1).sum(1) + c**2).sqrt() - c
