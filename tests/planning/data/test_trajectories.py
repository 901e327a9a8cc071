"""Windows against a naive reading, returns against their sum, and a split of whole episodes."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unveil.planning.data.episodes import Episodes, held_out
from unveil.planning.data.trajectories import Trajectories, returns_to_go
from unveil.planning.data.windows import PathWindows


def recording(lengths: list[int], terminal: list[bool]) -> Episodes:
    """Rows that say where they are: observation (step of all, episode), action (-step)."""
    count = sum(lengths)
    step = np.arange(count, dtype=np.float32)
    number = np.repeat(np.arange(len(lengths)), lengths).astype(np.float32)
    ends = np.cumsum(lengths) - 1
    terminals, timeouts = np.zeros(count, bool), np.zeros(count, bool)
    terminals[ends] = terminal
    timeouts[ends] = ~np.array(terminal)
    rewards = np.random.default_rng(count).normal(size=count).astype(np.float32)
    return Episodes(np.stack([step, number], axis=1), -step[:, None], rewards, terminals, timeouts)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 6))
def test_windows_are_the_next_rows_then_the_last_one_again(lengths, horizon):
    episodes = recording(lengths, [False] * len(lengths))
    windows = Trajectories(episodes)
    assert len(windows) == sum(lengths)  # every step begins one, the last of an episode too
    rows, valid = windows.windows(torch.arange(len(windows)), horizon)
    for first in range(len(windows)):
        end = int(episodes.ends[np.searchsorted(episodes.ends, first, side="right")])
        for h in range(horizon):
            step = min(first + h, end - 1)
            assert rows[first, h].tolist() == [-float(step), float(step), episodes.observations[first, 1]]
            assert bool(valid[first, h]) == (first + h < end)


def test_unpadded_windows_begin_where_enough_rows_follow():
    windows = Trajectories(recording([3, 5, 2], [True] * 3), unpadded=3)
    drawn = windows.draw(200, torch.Generator(device="cpu").manual_seed(0))
    assert set(drawn.tolist()) == {0, 3, 4, 5}
    with pytest.raises(ValueError, match="no episode of 6 steps"):
        Trajectories(recording([3, 5, 2], [True] * 3), unpadded=6)


@given(st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=4), st.floats(0.1, 1.0))
def test_returns_are_discounted_sums_with_the_penalty_on_terminal_steps(pieces, discount):
    episodes = recording([n for n, _ in pieces], [e for _, e in pieces])
    found = returns_to_go(episodes, discount, termination_penalty=-100.0)
    for start, end in zip(episodes.starts, episodes.ends, strict=True):
        for t in range(start, end):
            expected = sum(
                discount ** (k - t) * (float(episodes.rewards[k]) - (100.0 if episodes.terminals[k] else 0.0))
                for k in range(t, end)
            )
            assert found[t] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_returns_of_very_unequal_episodes_take_memory_of_order_n():
    """One episode of 5,000 steps beside 1,000 of one: a table of episodes by steps would take 40 MB."""
    episodes = recording([5_000, *[1] * 1_000], [False] * 1_001)
    tracemalloc.start()
    try:
        found = returns_to_go(episodes, 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * len(episodes)
    np.testing.assert_array_equal(found[5_000:], episodes.rewards[5_000:])
    rewards = episodes.rewards[:5_000].astype(np.float64)
    assert found[0] == pytest.approx(float((0.5 ** np.arange(60) * rewards[:60]).sum()), rel=1e-6)
    assert found[4_998] == pytest.approx(rewards[-2] + 0.5 * rewards[-1], rel=1e-6)


def test_windows_say_how_many_episodes_they_come_from():
    episodes = recording([3, 5, 2], [True] * 3)
    assert Trajectories(episodes).episodes == 3 and Trajectories(episodes, unpadded=3).episodes == 2
    assert PathWindows(episodes, 2, 2).episodes == 2 and PathWindows(episodes, 2, 4).episodes == 1


def test_a_split_keeps_episodes_whole_and_apart():
    episodes = recording([3, 5, 2, 4, 6, 1, 2, 3, 4, 5], [True, False] * 5)
    train, held = held_out(episodes, 0.2, seed=1)
    assert len(held.ends) == 2 and len(train.ends) == 8
    numbers = set(train.observations[:, 1]), set(held.observations[:, 1])
    assert not numbers[0] & numbers[1] and len(numbers[0] | numbers[1]) == 10
    for part in (train, held):
        for start, end in zip(part.starts, part.ends, strict=True):
            assert len(set(part.observations[start:end, 1])) == 1
    with pytest.raises(ValueError, match="share"):
        held_out(episodes, 1.0, seed=1)
    with pytest.raises(ValueError, match="discount"):
        returns_to_go(episodes, 0.0)
