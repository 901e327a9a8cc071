"""Windows of moves: which steps, what is commanded, and where they end."""

import numpy as np
import pytest
import torch

from unveil.planning.data.episodes import Episodes
from unveil.planning.data.stacking_states import CONTACTS, JOINTS, PLACES, SIZE
from unveil.planning.data.stacking_windows import StackingWindows, commanded, moves_of


def recording(rewards=(1.0, 0.0, 1.0), lengths=(6, 4, 10)):
    """An episode of two moves and one of a single move; every number of a row names its step."""
    count = sum(lengths)
    steps = np.arange(count, dtype=np.float32)
    states = np.tile(steps[:, None], (1, SIZE))
    states[:, CONTACTS] = 0.0
    actions = np.tile(100.0 + steps[:, None], (1, JOINTS + 1))
    actions[:, JOINTS] = steps % 2
    move = np.repeat([0, 1, 0], lengths)
    ends = np.zeros(count, bool)
    ends[[sum(lengths[:2]) - 1, count - 1]] = True
    earned = np.zeros(count, np.float32)
    earned[np.cumsum(lengths) - 1] = rewards
    infos = {"move": move, "cube": np.repeat([2, 0, 1], lengths)}
    return Episodes(states, actions, earned, np.zeros(count, bool), ends, infos=infos)


def test_only_moves_that_have_succeeded_are_learned():
    begins, ends = moves_of(recording())
    assert begins.tolist() == [0, 10] and ends.tolist() == [6, 20]


def test_rows_have_the_commands_and_the_suction_at_the_moved_cube():
    rows = commanded(recording())
    np.testing.assert_array_equal(rows[3, :JOINTS], np.full(7, 103.0))
    np.testing.assert_array_equal(rows[3, PLACES], np.full((4, 3), 3.0))
    assert rows[3, CONTACTS].tolist() == [0, 0, 1, 0] and rows[2, CONTACTS].tolist() == [0] * 4
    assert rows[15, CONTACTS].tolist() == [0, 1, 0, 0]


def test_a_window_begins_with_the_measured_state_and_rests_after_its_move():
    windows = StackingWindows(recording(), horizon=5, stride=2)
    found = windows.at(torch.tensor([1, 10]), torch.tensor([5, 19]))
    assert found.rows[:, 0, 0].tolist() == [1.0, 10.0]  # measured
    assert found.rows[0, 1:, 0].tolist() == [103.0, 105.0, 105.0, 105.0]
    assert found.rows[1, 1:, 0].tolist() == [112.0, 114.0, 116.0, 118.0]
    assert found.goals[:, 0, 0].tolist() == [5.0, 19.0]


def test_drawn_windows_reach_the_ends_of_their_moves():
    windows = StackingWindows(recording(), horizon=4, stride=2)
    generator = torch.Generator().manual_seed(0)
    rows, goals = windows.draw(400, generator)
    starts = rows[:, 0, 0]
    long = goals[:, 0, 0] == 19
    assert set(starts[~long].tolist()) <= set(range(5)) and starts[long].min() == 13  # 19 - 3 * 2
    assert 0.5 < float(long.float().mean()) < 0.75  # 10 of 16 steps
    begun = float((starts[long] == 13).float().mean())
    assert begun == pytest.approx(0.3 + 0.7 / 6, abs=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda it: Episodes(it.observations[:, :31], it.actions, it.rewards, it.terminals, it.timeouts),
            "39 numbers",
        ),
        (
            lambda it: Episodes(it.observations, it.actions, it.rewards, it.terminals, it.timeouts),
            "unveil data stacking",
        ),
        (lambda it: recording((0.0, 0.0, 0.0)), "no move"),
    ],
)
def test_other_data_are_refused_in_one_line(change, said):
    with pytest.raises(ValueError, match=said):
        StackingWindows(change(recording()), 4, 2)
