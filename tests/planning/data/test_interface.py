"""What makes a row of an environment's observations, and what its actions mean there."""

import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.interface import (
    Interface,
    goals_of,
    interface_of,
    returned,
    rows_of,
    with_choices,
    with_goal,
)
from unveil.planning.data.recorded import columns, with_limits


def recording(observations, actions, infos=None) -> Episodes:
    count = len(observations)
    ends = np.arange(count) == count - 1
    return Episodes(
        np.asarray(observations, np.float32),
        np.asarray(actions, np.float32),
        np.zeros(count, np.float32),
        np.zeros(count, bool),
        ends,
        infos=infos or {},
    )


def test_config_json_holds_an_interface_whole():
    whole = Interface(("a", "b/c"), (0, 2), 3, (-2.0,), (2.0,), "Own-v0")
    assert interface_of({"interface": whole.described()}) == whole
    assert interface_of({}) == Interface()
    with pytest.raises(ValueError, match="does not fit"):
        interface_of({"interface": {"low": [1.0], "high": []}})


def test_rows_are_fields_in_their_order_single_or_many():
    own = Interface(fields=("b", "a", "in/c"))
    seen = {"a": np.array([1.0, 2.0]), "b": np.array([3.0]), "in": {"c": 4.0}, "other": "text"}
    rows, single = rows_of(own, seen, 4)
    assert single
    np.testing.assert_array_equal(rows, [[3.0, 1.0, 2.0, 4.0]])
    many = {"a": np.array([[1.0, 2.0], [5.0, 6.0]]), "b": np.array([[3.0], [7.0]]), "in": {"c": np.ones(2)}}
    rows, single = rows_of(own, many, 4)
    assert not single
    np.testing.assert_array_equal(rows, [[3.0, 1.0, 2.0, 1.0], [7.0, 5.0, 6.0, 1.0]])
    with pytest.raises(ValueError, match=r"lack the field in/c; they have a, b"):
        rows_of(own, {"a": np.ones(2), "b": np.ones(1)}, 4)
    with pytest.raises(ValueError, match=r"must have shape \(4,\) of one episode or \(B, 4\)"):
        rows_of(Interface(), np.ones(3), 4)


def test_goals_are_desired_goals():
    own = Interface(fields=("observation",), goal=(0, 1))
    np.testing.assert_array_equal(goals_of(own, {"desired_goal": np.array([1.0, 2.0])}, 1), [[1.0, 2.0]])
    assert goals_of(own, {"observation": np.ones(2)}, 1) is None
    assert goals_of(own, np.ones((1, 2)), 1) is None


def test_actions_are_clipped_to_their_limits_or_chosen():
    actions = np.array([[-3.0, 0.5], [0.2, 5.0]])
    np.testing.assert_array_equal(returned(Interface(), actions), [[-1.0, 0.5], [0.2, 1.0]])
    limited = Interface(low=(-2.0, 0.0), high=(2.0, 4.0))
    np.testing.assert_array_equal(returned(limited, actions), [[-2.0, 0.5], [0.2, 4.0]])
    np.testing.assert_array_equal(returned(Interface(choices=2), actions), [1, 1])


def test_discrete_actions_are_one_hot_and_limited():
    episodes, count = with_choices(recording(np.zeros((3, 1)), [[0], [2], [1]]))
    assert count == 3
    np.testing.assert_array_equal(episodes.actions, [[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert with_choices(recording(np.zeros((1, 1)), [[1]]), 4)[0].actions.shape == (1, 4)
    for actions, said in (([[-1]], r"0 \.\. 0, got -1"), ([[5_000]], "too many")):
        with pytest.raises(UnveilError, match=said):
            with_choices(recording(np.zeros((1, 1)), actions))
    with pytest.raises(UnveilError, match=r"0 \.\. 1, got 2"):
        with_choices(recording(np.zeros((1, 1)), [[2]]), 2)


def test_goals_are_found_among_the_numbers_of_a_row_or_added_to_it():
    seen = np.arange(12.0).reshape(4, 3)
    inside = recording(seen, np.zeros((4, 1)), {"achieved_goal": seen[:, [2, 0]].astype(np.float32)})
    same, places = with_goal(inside)
    assert places == (2, 0) and same.observations.shape == (4, 3)
    apart = recording(seen, np.zeros((4, 1)), {"achieved_goal": np.full((4, 1), 9.0, np.float32)})
    wider, places = with_goal(apart)
    assert places == (3,) and wider.origin.fields == ("achieved_goal",)
    np.testing.assert_array_equal(wider.observations[:, 3], 9.0)
    with pytest.raises(UnveilError, match="no achieved_goal"):
        with_goal(recording(seen, np.zeros((4, 1)), {"goal": np.zeros((4, 1))}))


def test_goals_by_number():
    assert columns("0,1", 4) == columns("0:2", 4) == (0, 1)
    assert columns("3", 4) == (3,)
    for text in ("x", "0:", "4", "0,0", "2:1", ""):
        with pytest.raises(UnveilError, match=r"`goal"):
            columns(text, 4)


def test_limits_are_those_of_the_data_where_actions_leave_the_unit_box(capsys):
    assert with_limits(Interface(), recording(np.zeros((2, 1)), [[-1.0], [0.5]])) == Interface()
    own = with_limits(Interface(), recording(np.zeros((2, 1)), [[-2.0], [0.5]]))
    assert (own.low, own.high) == ((-2.0,), (0.5,)) and "leave [-1, 1]" in capsys.readouterr().err
