"""A student of a policy whose flow is known: what its loss compares, and chunks in one call that the teacher takes many for."""

import numpy as np
import torch
from torch import nn

from unveil.apps.policy import Policy
from unveil.apps.policy_distillation import STATES, StudentBatch, student_batches, student_loss
from unveil.apps.policy_model import PolicyModel, PolicyShape
from unveil.apps.policy_training import PolicyBatch
from unveil.process.grid import uniform
from unveil.sampling.gaussian import DDIM, Consistency


class Says(nn.Module):
    """One number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x, time, cond=None):
        return self.value.expand_as(x)


def batch_of(count=6):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((count, 8, 1), generator=generator)
    known = torch.tensor([0, 1, 2, 3, 3, 0])
    windows = PolicyBatch(torch.zeros(count, 2, 1), torch.full((count, 8, 1), 0.25), torch.zeros(count), noise, 0, known)
    return at_places(windows, torch.arange(STATES))


def at_places(windows, places):
    """Of trajectories of 5 steps."""
    places = places.expand(len(windows.actions), -1)
    return StudentBatch(windows, places, uniform(5)[places])


def test_the_loss_compares_with_the_teachers_end_and_leaves_known_actions_out():
    """The teacher believes 0.7 all the way, and so ends there: a student that says 0.7 has no loss, whatever is known."""
    shape, batch = PolicyShape(1, 1, 2, 8, 4, 50, "x0", prefix=3), batch_of()
    for value, expected in ((0.7, 0.0), (0.5, 0.2)):
        loss, _ = student_loss(PolicyModel(shape, Says(0.7)), 5)(PolicyModel(shape, Says(value)), batch)
        unknown = (8 - batch.windows.known).float()
        np.testing.assert_allclose(loss.detach(), (expected * unknown.sqrt()).mean(), atol=3e-3)
    loss, _ = student_loss(PolicyModel(shape, Says(7.0)), 5)(PolicyModel(shape, Says(1.0)), batch)  # what is taught is within the limits
    np.testing.assert_allclose(loss.detach(), 0.0, atol=3e-3)


class Spy(nn.Module):
    """Says half of what it sees and keeps it, with the times."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.seen = nn.Parameter(torch.tensor(0.5)), []

    def forward(self, x, time, cond=None):
        self.seen.append((x.detach(), time, cond))
        return self.factor * x


def test_a_student_is_shown_states_of_the_teachers_way_with_their_times_and_observations():
    """The same that the teacher saw when it acted on those observations with that noise."""
    shape, batch = PolicyShape(1, 1, 2, 8, 4, 50, "v"), batch_of()
    batch = at_places(batch.windows._replace(observations=torch.randn(6, 2, 1)), torch.tensor([0, 4, 2, 1]))
    teacher, student = PolicyModel(shape, Spy()), PolicyModel(shape, Spy())
    student_loss(teacher, 5)(student, batch)
    way, [(x, time, cond)] = teacher.denoiser.network.seen, student.denoiser.network.seen
    assert len(way) == 5
    for row in range(6):
        for column, place in enumerate((0, 4, 2, 1)):
            torch.testing.assert_close(x[4 * row + column], way[place][0][row])
            torch.testing.assert_close(time[4 * row + column], way[place][1][row])
            torch.testing.assert_close(cond.vector[4 * row + column], way[place][2].vector[row])
    policy = Policy(teacher, DDIM(teacher.denoiser.schedule), 5, seed=0)
    noise = torch.randn((1, 8, 1), generator=torch.Generator().manual_seed(0))
    teacher.denoiser.network.seen.clear()
    policy.predict(np.zeros((1, 2, 1), np.float32))
    torch.testing.assert_close(teacher.denoiser.network.seen[0][0], noise)
    for (_, acted, _), (_, taught, _) in zip(teacher.denoiser.network.seen, way, strict=True):
        torch.testing.assert_close(acted, taught[:1])


def test_every_trajectory_is_learned_from_its_noise_and_from_places_before_its_end():
    batch = student_batches(lambda g: batch_of().windows, PolicyShape(1, 1, 2, 8, 4, 100, "v"), 20)(torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.t, 1.0 - 0.05 * batch.places.double())
    assert batch.places.shape == (6, STATES) and bool((batch.places[:, 0] == 0).all())
    assert int(batch.places.min()) >= 0 and 0 < int(batch.places.max()) < 20


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
