"""A student of a policy whose flow is known: what its loss compares, and chunks in one call that the teacher
takes many for."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from unveil.policy.distillation import STATES, StudentBatch, student_batches, student_loss
from unveil.policy.model import PolicyModel, PolicyShape
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.observation import ObservationEncoder, Part
from unveil.policy.networks.transformer import PolicyTransformer
from unveil.policy.policy import Policy
from unveil.policy.training import PolicyBatch, clean_of
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
    windows = PolicyBatch(
        torch.zeros(count, 2, 1), torch.full((count, 8, 1), 0.25), torch.zeros(count), noise, 0, known
    )
    return at_positions(windows, torch.arange(STATES))


def at_positions(windows, positions):
    """Of trajectories of 5 steps."""
    positions = positions.expand(len(windows.actions), -1)
    return StudentBatch(windows, positions, uniform(5)[positions])


def test_the_loss_compares_with_the_teachers_end_and_leaves_known_actions_out():
    """The teacher believes 0.7 all the way, and so ends there: a student that says 0.7 has no loss, whatever
    is known."""
    shape, batch = PolicyShape(1, 1, 2, 8, 4, 50, "x0", prefix=3), batch_of()
    for value, expected in ((0.7, 0.0), (0.5, 0.2)):
        loss, _ = student_loss(PolicyModel(shape, Says(0.7)), 5)(PolicyModel(shape, Says(value)), batch)
        unknown = (8 - batch.windows.known).float()
        np.testing.assert_allclose(loss.detach(), (expected * unknown.sqrt()).mean(), atol=3e-3)
    loss, _ = student_loss(PolicyModel(shape, Says(7.0)), 5)(
        PolicyModel(shape, Says(1.0)), batch
    )  # what is taught is within the limits
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
    batch = at_positions(
        batch.windows._replace(observations=torch.randn(6, 2, 1)), torch.tensor([0, 4, 2, 1])
    )
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


def told_by(how):
    """A policy of observations (2, 3), with weights that are no longer the initial ones, and windows for
    it."""
    torch.manual_seed(0)
    generator, parts, size = torch.Generator().manual_seed(0), (), 3
    if how == "pixels":
        parts = Part("numbers", (3,)), Part("picture", (3, 48, 48), 0, (40, 40))
        size += 3 * 48 * 48
    kinds = {"tokens": "tokens", "inpainting": "inpainting"}
    shape = PolicyShape(size, 1, 2, 8, 4, 50, "v", kinds.get(how, "film"), prefix=3, parts=parts)
    encoder = ObservationEncoder(parts, 4, width=16) if parts else None
    seen = size if encoder is None else encoder.size
    if how == "tokens":
        network = PolicyTransformer(1, 8, seen + 3, 2, 16, 1, 2)
    else:
        network = ConditionalUNet(shape.row, 3 + (0 if how == "inpainting" else 2 * seen), (8, 8), 3, 16)
    model = PolicyModel(shape, network, encoder)
    with torch.no_grad():
        for number in network.parameters():
            number += 0.3 * torch.randn(number.shape, generator=generator)
        for number in list(network.parameters())[-2:]:
            number *= 0.1  # beliefs within the limits
    rows = 8 if how == "inpainting" else 2
    observations = torch.rand((6, rows, size), generator=generator) * (255.0 if parts else 1.0)
    known, noise = torch.tensor([0, 1, 2, 3, 3, 0]), torch.randn((6, 8, shape.row), generator=generator)
    return model, PolicyBatch(observations, torch.full((6, 8, 1), 0.25), torch.zeros(6), noise, 0, known)


@pytest.mark.parametrize("how", ["film", "tokens", "pixels", "inpainting"])
def test_a_student_with_its_teachers_weights_has_learned_a_trajectory_of_one_step(how):
    """However both are told: its end is the teacher's belief. What another environment observed says
    something else."""
    teacher, windows = told_by(how)
    student, loss = deepcopy(teacher), student_loss(teacher, 1)
    batch = StudentBatch(
        windows, torch.zeros((6, STATES), dtype=torch.int64), torch.ones((6, STATES), dtype=torch.float64)
    )
    assert float(loss(student, batch)[0].detach()) < 1e-4
    with torch.no_grad():
        list(student.denoiser.network.parameters())[-2].mul_(1.5)
    changed, _ = loss(student, batch)
    assert float(changed.detach()) > 1e-3
    changed.backward()
    assert all(number.grad is None for number in teacher.parameters())
    if how == "pixels":
        assert any(
            number.grad is not None and bool((number.grad != 0).any())
            for number in student.encoder.parameters()
        )
    other = windows._replace(observations=windows.observations.flip(0))
    assert (
        float((belief(teacher, windows) - belief(teacher, other)).abs().max()) > 1e-3
    )  # so what was observed does reach it


def belief(model, windows):
    """Of the noise itself, with what is known in it."""
    x_0, cond, known = clean_of(model, windows)
    x = windows.noise if known is None else torch.where(known, x_0, windows.noise)
    with torch.no_grad():
        return model.denoiser(x, torch.ones(len(x), dtype=torch.float64), cond=cond).mean


def test_every_trajectory_is_learned_from_its_noise_and_from_positions_before_its_end():
    batch = student_batches(lambda g: batch_of().windows, PolicyShape(1, 1, 2, 8, 4, 100, "v"), 20)(
        torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(batch.t, 1.0 - 0.05 * batch.positions.double())
    assert batch.positions.shape == (6, STATES) and bool((batch.positions[:, 0] == 0).all())
    assert int(batch.positions.min()) >= 0 and 0 < int(batch.positions.max()) < 20


def test_a_student_acts_in_one_call_and_keeps_known_actions():
    shape = PolicyShape(1, 1, 2, 8, 4, 50, "x0", prefix=3)
    model = PolicyModel(shape, Says(0.7))
    calls = []
    model.denoiser.network.register_forward_pre_hook(lambda *_: calls.append(1))
    prefix = np.full((2, 2, 1), -0.3)
    chunk = Policy(model, Consistency(model.denoiser.schedule), 1).predict(
        np.zeros((2, 2, 1), np.float32), prefix
    )
    assert len(calls) == 1
    np.testing.assert_array_equal(chunk[:, 1:3], prefix)
    np.testing.assert_allclose(chunk[:, 3:], 0.7, rtol=1e-6)
