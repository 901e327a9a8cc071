"""Batches of paths and their loss: what is known stays out of it, times are spread evenly."""

import numpy as np
import pytest
import torch

from unveil.planning.data.episodes import Episodes
from unveil.planning.data.windows import PathWindows
from unveil.planning.path_model import PathModel, PathModelShape
from unveil.planning.path_training import path_batches, path_loss


def walk(steps: int = 400) -> Episodes:
    rng = np.random.default_rng(0)
    places = rng.normal(size=(steps, 2)).cumsum(0).astype(np.float32)
    marks = np.zeros(steps, bool)
    marks[99::100] = True
    return Episodes(
        places, np.zeros((steps, 1), np.float32), np.zeros(steps, np.float32), np.zeros(steps, bool), marks
    )


def model_of(windows: PathWindows) -> PathModel:
    torch.manual_seed(0)
    made = PathModel(PathModelShape(2, 2, 3, 16, 1, 2, windows.longest))
    made.learn_statistics(walk())
    for layer in (made.denoiser.network.final, made.denoiser.network.leave):
        torch.nn.init.normal_(layer.weight, std=0.1)  # they start at zero, where nothing could be seen
    return made


def seeded(seed: int) -> torch.Generator:
    return torch.Generator(device="cpu").manual_seed(seed)


def test_times_fall_once_into_each_of_as_many_parts_as_rows():
    batch = path_batches(PathWindows(walk(), 2, 2), 32)(seeded(0))
    assert sorted((batch.t * 32).floor().long().clamp(max=31).tolist()) == list(range(32))


def test_ends_and_padding_are_known_and_some_waypoints_if_wanted():
    windows = PathWindows(walk(), 2, 2)
    extra = {}
    for share in (0.0, 1.0):
        between = 0
        for seed in range(20):
            batch = path_batches(windows, 32, share)(seeded(seed))
            place = torch.arange(batch.positions.shape[1])
            ends = (place == 0) | (place >= batch.lengths[:, None] - 1)
            assert batch.known[ends].all()
            between += int((batch.known & ~ends[..., None]).sum())
        extra[share] = between
    assert extra[0.0] == 0 and extra[1.0] > 20


def test_the_loss_does_not_see_noise_on_known_numbers_and_sees_it_elsewhere():
    windows = PathWindows(walk(), 2, 2)
    model, batch = model_of(windows), path_batches(windows, 16)(seeded(1))
    value, parts = path_loss(model, batch)
    assert float(value.detach()) == pytest.approx(
        parts["denoising_loss"] + 0.1 * parts["travel_loss"], rel=1e-5
    )
    fresh = torch.randn(batch.noise.shape, generator=seeded(2))
    same = batch._replace(noise=torch.where(batch.known, fresh, batch.noise))
    other = batch._replace(noise=torch.where(batch.known, batch.noise, fresh))
    torch.testing.assert_close(path_loss(model, same)[0], value)
    assert abs(float(path_loss(model, other)[0].detach()) - float(value.detach())) > 1e-6


def test_travel_times_are_learned_in_strides_of_the_window():
    """A model that says log(lengths - 1) at every level has no travel loss."""
    windows = PathWindows(walk(), 2, 2)
    model, batch = model_of(windows), path_batches(windows, 16)(seeded(1))

    class Oracle(torch.nn.Module):
        def forward(self, pair: torch.Tensor) -> torch.Tensor:
            return (batch.lengths - 1).float().log()[:, None].expand(-1, 5)

    model.travel = Oracle()
    assert path_loss(model, batch)[1]["travel_loss"] == 0.0
