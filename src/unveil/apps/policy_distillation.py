"""A student of a diffusion policy: the teacher's probability flow in one to three calls. Prasad et al. 2024 (Consistency Policy)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.apps.policy_model import PolicyModel, PolicyShape, policy_schedule
from unveil.apps.policy_training import PolicyBatch, clean_of
from unveil.process.grid import trailing, uniform
from unveil.process.schedule import Tabulated
from unveil.sampling.guidance import clipped
from unveil.training.distillation import consistency_loss, neighbours


class StudentBatch(NamedTuple):
    """Windows with their noise, and neighbouring times t > s of the teacher's grid, (B,) each; the windows' own times are not used."""

    windows: PolicyBatch
    t: Tensor
    s: Tensor


def student_batches(
    draw: Callable[[torch.Generator], PolicyBatch], shape: PolicyShape, steps: int
) -> Callable[[torch.Generator], StudentBatch]:
    """Batches with times of a grid of so many steps of the teacher."""
    schedule = policy_schedule(shape)
    grid = trailing(schedule.steps, steps) if isinstance(schedule, Tabulated) else uniform(steps)

    def batches(generator: torch.Generator) -> StudentBatch:
        windows = draw(generator)
        return StudentBatch(windows, *neighbours(grid, len(windows.actions), generator))

    return batches


def student_loss(teacher: PolicyModel) -> Callable[[nn.Module, StudentBatch], tuple[Tensor, Mapping[str, float]]]:
    """`consistency_loss` of chunks; the teacher's beliefs are clamped to the data's limits, as when it acts.

    Teacher and student are told the same: pictures cut alike, and the same known actions.
    """
    teacher.eval().requires_grad_(False)

    def loss(model: nn.Module, batch: StudentBatch) -> tuple[Tensor, Mapping[str, float]]:
        assert isinstance(model, PolicyModel)
        with torch.no_grad():
            _, told, _ = clean_of(teacher, batch.windows)
        x_0, cond, known = clean_of(model, batch.windows)
        taught = clipped(partial(teacher.denoiser, cond=told), -1.0, 1.0)
        student = partial(model.denoiser, cond=cond)
        noise = batch.windows.noise.to(model.device)
        return consistency_loss(student, taught, model.denoiser.schedule, x_0, batch.t, batch.s, noise, known=known).mean(), {}

    return loss
