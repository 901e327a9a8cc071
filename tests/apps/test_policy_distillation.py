"""A student of a policy whose flow is known: what its loss compares, and chunks in one call that the teacher takes many for."""

import numpy as np
import torch
from torch import nn

from unveil.apps.policy import Policy
from unveil.apps.policy_distillation import StudentBatch, student_batches, student_loss
from unveil.apps.policy_model import PolicyModel, PolicyShape
from unveil.apps.policy_training import PolicyBatch
from unveil.sampling.gaussian import Consistency


class Says(nn.Module):
    """One number, but at t = 0, of which it is told -1, what it sees: the boundary condition, which x_0 lacks by itself."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x, time, cond=None):
        return torch.where(time[:, None, None] < 0, x, self.value)


def batch_of(count=6):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((count, 8, 1), generator=generator)
    windows = PolicyBatch(
        torch.zeros(count, 2, 1), torch.full((count, 8, 1), 0.25), torch.zeros(count), noise, 0, torch.tensor([0, 1, 2, 3, 3, 0])
    )
    one = torch.ones(count, dtype=torch.float64)
    return StudentBatch(windows, 0.5 * one, 0.0 * one)


def test_the_loss_compares_with_the_teachers_step_and_leaves_known_actions_out():
    """From t to s = 0 the teacher's step ends at its belief, 0.7: a student that says 0.7 has no loss, whatever is known."""
    teacher = PolicyModel(PolicyShape(1, 1, 2, 8, 4, 50, "x0", prefix=3), Says(0.7))
    batch = batch_of()
    for value, expected in ((0.7, 0.0), (0.5, 0.2)):
        student = PolicyModel(PolicyShape(1, 1, 2, 8, 4, 50, "x0", prefix=3), Says(value))
        loss, _ = student_loss(teacher)(student, batch)
        unknown = (8 - batch.windows.known).float()
        np.testing.assert_allclose(loss.detach(), (expected * unknown.sqrt()).mean(), atol=3e-3)
    wide = PolicyModel(PolicyShape(1, 1, 2, 8, 4, 50, "x0", prefix=3), Says(7.0))
    loss, _ = student_loss(wide)(PolicyModel(wide.shape, Says(1.0)), batch)  # what is taught is within the limits
    np.testing.assert_allclose(loss.detach(), 0.0, atol=3e-3)


def test_times_are_neighbours_of_the_teachers_grid():
    for predicts in ("v", "flow"):
        shape = PolicyShape(1, 1, 2, 8, 4, 100, predicts)
        batch = student_batches(lambda g: batch_of().windows, shape, 20)(torch.Generator().manual_seed(0))
        np.testing.assert_allclose(batch.t - batch.s, 0.05, atol=1e-12)
        assert bool((batch.t > 0).all())


def test_a_student_acts_in_one_call_and_keeps_known_actions():
    shape = PolicyShape(1, 1, 2, 8, 4, 50, "x0", prefix=3)
    model = PolicyModel(shape, Says(0.7))
    calls = []
    model.denoiser.network.register_forward_pre_hook(lambda *_: calls.append(1))
    prefix = np.full((2, 2, 1), -0.3)
    chunk = Policy(model, Consistency(model.denoiser.schedule), 1).predict(np.zeros((2, 2, 1), np.float32), prefix)
    assert len(calls) == 1
    np.testing.assert_array_equal(chunk[:, 1:3], prefix)
    np.testing.assert_allclose(chunk[:, 3:], 0.7, rtol=1e-6)
