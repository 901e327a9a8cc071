"""Where episodes begin and end, against a naive reading of the marks; and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.planning.data.episodes import Episodes

COUNT = 6


def make(**changes) -> Episodes:
    arrays = {
        "observations": np.zeros((COUNT, 3), np.float32),
        "actions": np.zeros((COUNT, 2), np.float32),
        "rewards": np.zeros(COUNT, np.float32),
        "terminals": np.zeros(COUNT, bool),
        "timeouts": np.zeros(COUNT, bool),
    }
    return Episodes(**arrays | changes)


def naive(terminals: list[bool], timeouts: list[bool]) -> list[list[int]]:
    """The transitions of each episode, one after another."""
    episodes: list[list[int]] = [[]]
    for t, marks in enumerate(zip(terminals, timeouts, strict=True)):
        episodes[-1].append(t)
        if any(marks):
            episodes.append([])
    return [episode for episode in episodes if episode]


@given(
    st.lists(
        st.tuples(st.sampled_from([False, False, True]), st.sampled_from([False, False, True])),
        min_size=1,
        max_size=30,
    )
)
def test_starts_and_ends_against_a_naive_reading(marks):
    terminals, timeouts = (list(column) for column in zip(*marks, strict=True))
    count = len(marks)
    episodes = Episodes(
        np.zeros((count, 1), np.float32),
        np.zeros((count, 1), np.float32),
        np.zeros(count),
        np.array(terminals),
        np.array(timeouts),
    )
    expected = naive(terminals, timeouts)
    assert [list(range(a, b)) for a, b in zip(episodes.starts, episodes.ends, strict=True)] == expected
    assert len(episodes) == count
    last = np.arange(len(expected), dtype=np.float32)[:, None]
    kept = Episodes(
        episodes.observations, episodes.actions, episodes.rewards, episodes.terminals, episodes.timeouts, last
    )
    assert kept.final_observations is last
    if len(expected) > 1:
        with pytest.raises(ValueError, match="final_observations must have shape"):
            Episodes(
                episodes.observations,
                episodes.actions,
                episodes.rewards,
                episodes.terminals,
                episodes.timeouts,
                last[1:],
            )


def test_both_marks_end_one_episode_and_the_last_piece_counts():
    both = np.array([False, True, False, False, True, False])
    episodes = make(terminals=both, timeouts=both)
    assert episodes.starts.tolist() == [0, 2, 5] and episodes.ends.tolist() == [2, 5, 6]
    assert make().starts.tolist() == [0] and make().ends.tolist() == [COUNT]


def with_one(value: float, shape: tuple[int, ...], place: tuple[int, ...]) -> np.ndarray:
    array = np.zeros(shape, np.float32)
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.zeros((0, 3), np.float32)}, "at least one transition is needed, got none"),
        ({"observations": np.float32(1.0)}, "at least one transition"),
        ({"observations": np.zeros(COUNT, np.float32)}, r"observations must have 2 axes, got shape \(6,\)"),
        (
            {"observations": np.zeros((COUNT, 3, 1), np.float32)},
            r"observations must have 2 axes, got shape \(6, 3, 1\)",
        ),
        ({"actions": np.zeros(COUNT, np.float32)}, "actions must have 2 axes"),
        ({"rewards": np.zeros((COUNT, 1), np.float32)}, r"rewards must have 1 axes, got shape \(6, 1\)"),
        ({"rewards": np.zeros(COUNT - 1, np.float32)}, "rewards has 5 rows, but observations have 6"),
        ({"actions": np.zeros((COUNT + 1, 2), np.float32)}, "actions has 7 rows"),
        ({"terminals": np.zeros(COUNT - 1, bool)}, "terminals has 5 rows"),
        ({"timeouts": np.zeros(COUNT + 1, bool)}, "timeouts has 7 rows"),
        ({"infos": {"goal": np.zeros((COUNT - 2, 2))}}, "infos/goal has 4 rows"),
        ({"infos": {"goal": np.array(1.0)}}, "infos/goal must have 1 axes"),
        (
            {"observations": with_one(np.nan, (COUNT, 3), (5, 2))},
            "observations holds numbers that are not finite",
        ),
        ({"actions": with_one(np.inf, (COUNT, 2), (0, 0))}, "actions holds"),
        ({"rewards": with_one(-np.inf, (COUNT,), (3,))}, "rewards holds"),
        ({"infos": {"qpos": with_one(np.nan, (COUNT, 2), (1, 1))}}, "infos/qpos holds"),
        (
            {"final_observations": np.zeros((2, 3), np.float32)},
            r"final_observations must have shape \(1, 3\), got \(2, 3\)",
        ),
        (
            {"final_observations": np.zeros((1, 2), np.float32)},
            r"final_observations must have shape \(1, 3\), got \(1, 2\)",
        ),
        ({"final_observations": with_one(np.nan, (1, 3), (0, 1))}, "final_observations holds"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_further_arrays_may_have_any_rank_and_kind():
    infos = {
        "goal": np.zeros((COUNT, 2)),
        "step": np.arange(COUNT),
        "image": np.zeros((COUNT, 2, 2, 3), np.uint8),
    }
    assert make(infos=infos).infos is infos
