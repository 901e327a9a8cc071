"""Windows of demonstrations against lists that are padded by hand, and the published numbers of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unveil.policy.data.chunks import Chunks, published_split


def by_hand(values, ends, n_obs, horizon, n_action):
    """Repeat the first row n_obs - 1 times and the last one n_action - 1 times, then take every run of
    `horizon` rows."""
    found, start = [], 0
    for end in ends:
        episode = list(values[start:end])
        padded = [episode[0]] * (n_obs - 1) + episode + [episode[-1]] * (n_action - 1)
        found += [padded[i : i + horizon] for i in range(len(padded) - horizon + 1)]
        start = end
    return np.array(found)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    n_obs=st.integers(1, 4),
    n_action=st.integers(1, 9),
    more=st.integers(0, 5),
)
def test_windows_are_those_cut_by_hand(lengths, n_obs, n_action, more):
    horizon = n_obs + n_action - 1 + more
    ends = np.cumsum(lengths)
    rows = np.arange(ends[-1], dtype=np.float32)[:, None]
    observations, actions = np.repeat(rows, 3, axis=1), rows + 0.5
    expected = by_hand(rows, ends, n_obs, horizon, n_action)
    if not len(expected):
        with pytest.raises(ValueError, match="long enough"):
            Chunks(observations, actions, ends, n_obs, horizon, n_action)
        return
    chunks = Chunks(observations, actions, ends, n_obs, horizon, n_action)
    seen, done = chunks.windows(torch.arange(len(chunks)))
    np.testing.assert_array_equal(done.numpy(), expected + 0.5)
    np.testing.assert_array_equal(seen.numpy()[..., :1], expected[:, :n_obs])


def test_the_drawn_table_holds():
    """n_obs 2, horizon 16, n_action 8: 24,208 windows of 206 episodes and 25,650 steps; row 1 is now, rows
    1..8 are executed."""
    ends = np.array([40, 100])
    rows = np.arange(100, dtype=np.float32)[:, None]
    chunks = Chunks(rows, rows, ends, 2, 16, 8)
    assert len(chunks) == 100 - 2 * 7  # as 25,650 - 206 * 7 = 24,208
    seen, done = chunks.windows(torch.tensor([0, 1, 32, 33]))
    assert seen[:, :, 0].tolist() == [[0, 0], [0, 1], [31, 32], [40, 40]]
    assert done[0, :4, 0].tolist() == [0, 0, 1, 2] and done[1, 1:9, 0].tolist() == list(range(1, 9))
    assert done[2, :, 0].tolist() == [*range(31, 40), *[39] * 7]


def test_every_window_is_drawn_and_the_generator_decides():
    chunks = Chunks(np.zeros((30, 1), np.float32), np.zeros((30, 1), np.float32), np.array([30]), 2, 16, 8)
    drawn = chunks.draw(2000, torch.Generator(device="cpu").manual_seed(0))
    assert set(drawn.tolist()) == set(range(len(chunks)))
    assert torch.equal(drawn, chunks.draw(2000, torch.Generator(device="cpu").manual_seed(0)))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((2, 8, 8), "at least n_obs"), ((0, 16, 8), "at least 1"), ((2, 16, 0), "at least 1")],
)
def test_impossible_windows_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        Chunks(np.zeros((30, 1), np.float32), np.zeros((30, 1), np.float32), np.array([30]), *numbers)


def test_split_as_published():
    """round(0.02 * 206) = 4 held out by default_rng(42).choice; the 90 that the published configuration
    trains on are of the others."""
    most, few = published_split(206, 0.02, 0, 42), published_split(206, 0.02, 90, 42)
    held = np.random.default_rng(42).choice(206, size=4, replace=False)
    assert sorted(np.flatnonzero(~most)) == sorted(held)
    assert few.sum() == 90 and not (few & ~most).any()
    assert published_split(3, 0.0, 0, 0).all() and published_split(2, 0.9, 0, 0).sum() == 1
    with pytest.raises(ValueError, match="share"):
        published_split(10, 1.0, 0, 0)


def test_episodes_without_a_window_are_said_and_not_counted(capsys):
    """H 16, n_obs 2, n_action 8: 8 steps are enough, padded with one before and seven after; 7 are not."""
    rows = np.arange(55, dtype=np.float32)[:, None]
    chunks = Chunks(rows, rows, np.array([7, 15, 55]), 2, 16, 8)
    assert (
        chunks.episodes == 2 and int(chunks.begins[0]) == 6
    )  # the second episode's only window begins before its first step
    err = capsys.readouterr().err
    assert "1 of 3 episodes have fewer than 8 steps" in err and "are left out; a shorter horizon" in err
    assert Chunks(rows, rows, np.array([7, 15, 55]), 2, 8, 4).episodes == 3 and not capsys.readouterr().err
    with pytest.raises(ValueError, match="of 16 steps: 8 are needed"):
        Chunks(rows[:7], rows[:7], np.array([7]), 2, 16, 8)
