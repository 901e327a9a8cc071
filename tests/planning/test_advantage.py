"""What a step is worth beside others from like states, and returns that go on after a time limit."""

import tracemalloc

import numpy as np
import pytest

from unveil.planning.advantage import advantages
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.trajectories import continued_returns, returns_to_go


def recording(rewards, terminals=(), timeouts=(), observations=None) -> Episodes:
    count = len(rewards)
    marks = np.arange(count)
    seen = np.zeros((count, 1), np.float32) if observations is None else observations
    return Episodes(
        seen,
        np.zeros((count, 1), np.float32),
        np.asarray(rewards, np.float32),
        np.isin(marks, terminals),
        np.isin(marks, timeouts),
    )


def test_the_expected_return_of_a_state_is_taken_off():
    rng = np.random.default_rng(0)
    place, luck = rng.uniform(-2, 2, 4_000), rng.choice([-1.0, 1.0], 4_000)
    episodes = recording(np.zeros(4_000), observations=place[:, None].astype(np.float32))
    returns = (100.0 + 50.0 * place + 3.0 * luck).astype(np.float32)
    found = advantages(episodes, returns, seed=0, steps=600)
    assert abs(np.corrcoef(found, place)[0, 1]) < 0.1 and np.corrcoef(found, luck)[0, 1] > 0.9
    assert abs(found[luck > 0].mean() - 3.0) < 0.5
    np.testing.assert_array_equal(found, advantages(episodes, returns, seed=0, steps=600))


def test_episodes_that_a_limit_ended_go_on_as_they_ended():
    # discount 0.5: the last two rewards count for the mean; terminal ends have no tail
    episodes = recording([9.0, 1.0, 3.0, 5.0, 7.0], terminals=[4], timeouts=[2])
    tail = 0.5 * 2.0 / 0.5
    third = 3.0 + tail
    second = 1.0 + 0.5 * third
    np.testing.assert_allclose(
        continued_returns(episodes, 0.5), [9.0 + 0.5 * second, second, third, 5.0 + 3.5, 7.0]
    )
    penalised = continued_returns(episodes, 0.5, -10.0)
    np.testing.assert_allclose(penalised[3:], [5.0 - 1.5, -3.0])
    np.testing.assert_allclose(penalised[:3], continued_returns(episodes, 0.5)[:3])
    with pytest.raises(ValueError, match=r"in \(0, 1\), got 1"):
        continued_returns(episodes, 1.0)


def test_constant_costs_are_worth_the_same_at_every_step():
    """Without the tail the last steps would look best."""
    np.testing.assert_allclose(continued_returns(recording([-2.0] * 300), 0.99), -200.0, rtol=1e-4)


@pytest.mark.parametrize("episodes", [1, 400])
def test_returns_need_memory_of_the_order_of_the_data(episodes):
    count = 40_000
    data = recording(np.ones(count), timeouts=np.arange(1, episodes) * (count // episodes) - 1)
    assert len(data.ends) == episodes
    tracemalloc.start()
    returns_to_go(data, 0.99)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * count  # bytes; Python's floats of one episode, and a few arrays
