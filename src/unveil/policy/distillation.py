"""A student of a diffusion policy: chunks in one to three network calls that the teacher takes many for."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.policy.model import PolicyModel, PolicyShape, policy_schedule
from unveil.policy.training import PolicyBatch, clean_of
from unveil.process.grid import Grid, trailing, uniform
from unveil.process.schedule import Schedule, Tabulated
from unveil.sampling.edit import Inpaint, identity
from unveil.sampling.guidance import clipped
from unveil.training.distillation import end_loss, trajectory

STATES = 4  # of every trajectory, that are learned from


class StudentBatch(NamedTuple):
    """Windows with their noise, where the teacher begins, and `places` of its trajectory, at times t, (B, STATES) each.

    The windows' times are not used.
    """

    windows: PolicyBatch
    places: Tensor
    t: Tensor


def student_batches(
    draw: Callable[[torch.Generator], PolicyBatch], shape: PolicyShape, steps: int
) -> Callable[[torch.Generator], StudentBatch]:
    """Batches for trajectories of so many steps: of each the noise, which every chunk begins with, and other states at random."""
    times = taught_at(policy_schedule(shape), steps)

    def batches(generator: torch.Generator) -> StudentBatch:
        windows = draw(generator)
        places = torch.randint(steps, (len(windows.actions), STATES), generator=generator, device="cpu")
        places[:, 0] = 0
        return StudentBatch(windows, places, times[places])

    return batches


def student_loss(
    teacher: PolicyModel, steps: int
) -> Callable[[nn.Module, StudentBatch], tuple[Tensor, Mapping[str, float]]]:
    """`end_loss` of chunks along the teacher's DDIM in so many steps, its beliefs clamped to the data's limits, as when it acts.

    Teacher and student are told the same: pictures cut alike, and the same known actions.
    """
    teacher.eval().requires_grad_(False)
    schedule = policy_schedule(teacher.shape)
    times = taught_at(schedule, steps)

    def loss(model: nn.Module, batch: StudentBatch) -> tuple[Tensor, Mapping[str, float]]:
        assert isinstance(model, PolicyModel)
        with torch.no_grad():
            x_0, told, known = clean_of(teacher, batch.windows)
            taught = clipped(partial(teacher.denoiser, cond=told), -1.0, 1.0)
            noise = batch.windows.noise.to(model.device)
            states = trajectory(
                taught, schedule, noise, times, identity if known is None else Inpaint(known, x_0)
            )
        _, cond, _ = clean_of(model, batch.windows)
        rows, count = torch.arange(len(noise), device=model.device)[:, None], batch.places.shape[1]
        x_t, end = (
            states[batch.places.to(model.device), rows].flatten(0, 1),
            states[-1].repeat_interleave(count, dim=0),
        )
        known = None if known is None else known.repeat_interleave(count, dim=0)
        student = partial(model.denoiser, cond=cond.repeat(count))
        return end_loss(student, x_t, batch.t.flatten(), end, known=known).mean(), {}

    return loss


def taught_at(schedule: Schedule, steps: int) -> Grid:
    """The times of a trajectory of so many steps."""
    return trailing(schedule.steps, steps) if isinstance(schedule, Tabulated) else uniform(steps)
