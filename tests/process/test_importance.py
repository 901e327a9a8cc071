"""Importance sampling of times: even until ten losses of each are known, then in proportion to their root
mean square, never biased."""

import pytest
import torch

from unveil.process.importance import KEPT, LossHistory


def filled(rows) -> LossHistory:
    history = LossHistory(len(rows))
    for place, losses in enumerate(rows):
        for loss in losses:
            history.note(torch.tensor([place]), torch.tensor([loss]))
    return history


def test_times_are_even_until_each_has_ten_losses(generator):
    history = filled([[5.0] * KEPT, [1.0] * (KEPT - 1), [0.1] * KEPT])
    places, weights = history.draw(3000, generator)
    assert torch.bincount(places).double().div(3000).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert weights.tolist() == pytest.approx([1.0] * 3000)
    history.note(torch.tensor([1]), torch.tensor([1.0]))
    assert history.probabilities().tolist() != pytest.approx([1 / 3] * 3, abs=0.03)


def test_probabilities_are_the_root_of_the_second_moment_of_the_last_ten():
    """(3, 4, ...): sqrt((9 + 16) / 2), not the mean 3.5; what came before the last ten is forgotten."""
    history = filled([[100.0, 3.0, *[3.0, 4.0] * 5][1:], [1.0] * KEPT])
    assert history.losses[0].tolist() == [3.0, 4.0] * 5
    root = 12.5**0.5
    expected = [0.999 * root / (root + 1.0) + 0.0005, 0.999 / (root + 1.0) + 0.0005]
    assert history.probabilities().tolist() == pytest.approx(expected, rel=1e-12)
    history.note(torch.tensor([1, 1]), torch.tensor([7.0, 8.0]))
    assert history.losses[1].tolist() == [1.0] * 8 + [7.0, 8.0]


def test_the_weighted_mean_is_the_even_mean_and_its_spread_is_smaller(generator):
    """E over p of L / (T p) = mean of L, for losses of any size: exactly, by summing; and drawn."""
    true = torch.tensor([8.0, 1.0, 0.2, 0.05, 0.01], dtype=torch.float64)
    history = filled([[float(value)] * KEPT for value in true])
    p = history.probabilities()
    every = 1.0 / (5 * p)
    assert float((p * every * true).sum()) == pytest.approx(float(true.mean()), rel=1e-12)
    places, weights = history.draw(20_000, generator)
    torch.testing.assert_close(weights, every[places])
    assert float((weights * true[places]).mean()) == pytest.approx(float(true.mean()), rel=0.01)
    weighed, plain = (
        (weights * true[places]).std(),
        true[torch.randint(5, (20_000,), generator=generator)].std(),
    )
    assert float(weighed) < 0.1 * float(plain)


def test_a_time_whose_losses_vanish_is_still_drawn(generator):
    history = filled([[0.0] * KEPT, [1.0] * KEPT])
    assert float(history.probabilities()[0]) == pytest.approx(0.0005)
    assert filled([[0.0] * KEPT] * 2).probabilities().tolist() == [0.5, 0.5]
