"""Distillation of a diffusion policy into a student that samples chunks in one to three network calls."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.policy.model import PolicyModel, PolicyShape, policy_schedule, times_of
from unveil.policy.training import PolicyBatch, clean_of
from unveil.sampling.edit import Inpaint, identity
from unveil.sampling.guidance import clipped
from unveil.training.distillation import end_loss, trajectory

STATES = 4  # states of each trajectory in a batch


class StudentBatch(NamedTuple):
    """Windows with the teacher's initial noise, and states of its trajectory.

    The states have `positions` and times t, each (B, STATES). The windows' own times are not used.
    """

    windows: PolicyBatch
    positions: Tensor
    t: Tensor


def student_batches(
    draw: Callable[[torch.Generator], PolicyBatch], shape: PolicyShape, steps: int
) -> Callable[[torch.Generator], StudentBatch]:
    """Batches of trajectories of so many steps; of each the initial noise and random other states."""
    times = times_of(policy_schedule(shape), steps)

    def batches(generator: torch.Generator) -> StudentBatch:
        windows = draw(generator)
        positions = torch.randint(steps, (len(windows.actions), STATES), generator=generator, device="cpu")
        positions[:, 0] = 0
        return StudentBatch(windows, positions, times[positions])

    return batches


def student_loss(
    teacher: PolicyModel, steps: int
) -> Callable[[nn.Module, StudentBatch], tuple[Tensor, Mapping[str, float]]]:
    """`end_loss` of chunks along the teacher's DDIM trajectory, with beliefs clamped as when it acts.

    Teacher and student have the same condition: the same crops of images and the same known actions.

    Args:
        steps: DDIM steps of the trajectory.
    """
    teacher.eval().requires_grad_(False)
    schedule = policy_schedule(teacher.shape)
    times = times_of(schedule, steps)

    def loss(model: nn.Module, batch: StudentBatch) -> tuple[Tensor, Mapping[str, float]]:
        assert isinstance(model, PolicyModel)
        with torch.no_grad():
            x_0, cond, known = clean_of(teacher, batch.windows)
            denoise = clipped(partial(teacher.denoiser, cond=cond), -1.0, 1.0)
            noise = batch.windows.noise.to(model.device)
            edit = identity if known is None else Inpaint(known, x_0)
            states = trajectory(denoise, schedule, noise, times, edit)  # (steps + 1, B, H, row)
        _, cond, _ = clean_of(model, batch.windows)
        rows, count = torch.arange(len(noise), device=model.device)[:, None], batch.positions.shape[1]
        x_t = states[batch.positions.to(model.device), rows].flatten(0, 1)  # (B STATES, H, row)
        end = states[-1].repeat_interleave(count, dim=0)
        known = None if known is None else known.repeat_interleave(count, dim=0)
        student = partial(model.denoiser, cond=cond.repeat(count))
        return end_loss(student, x_t, batch.t.flatten(), end, known=known).mean(), {}

    return loss
