"""Any environment by name; which of its fields are a policy's observations, and which actions it takes."""

import gymnasium
import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.policy.worlds.environments.named import arguments_of, make
from unveil.policy.worlds.environments.spaces import check_actions, mapping_of, reader, within

FIELDS = {"agent_pos": np.arange(2.0), "pixels": {"top": np.zeros((4, 6, 3)), "wrist": np.ones((2, 2, 3))}}
CODE = """
import gymnasium

def made(render_mode=None, size=3):
    it = gymnasium.make("CartPole-v1")
    it.told = (render_mode, size)
    return it

def broken():
    raise RuntimeError("no motor\\nat all")

def number():
    return 3
"""


def named(names, mapping, observation=FIELDS):
    return reader("arm", names, mapping_of(mapping), observation)


def test_fields_are_found_by_name_in_groups_and_by_the_mapping():
    names = ["observation.agent_pos", "top", "front"]
    read = named(names, "front=wrist").read(FIELDS, gymnasium.Env())
    np.testing.assert_array_equal(read["observation.agent_pos"], [0.0, 1.0])
    assert read["top"].shape == (4, 6, 3) and read["front"].shape == (2, 2, 3)
    parts = named(["joints", "goal"], "joints=1:3,goal=0:1", np.arange(3.0)).read(
        np.arange(3.0), gymnasium.Env()
    )
    assert parts["joints"].tolist() == [1.0, 2.0] and parts["goal"].tolist() == [0.0]
    assert named(["state"], "", np.arange(3.0)).read(np.arange(3.0), gymnasium.Env())["state"].tolist() == [
        0.0,
        1.0,
        2.0,
    ]
    assert named([], "", np.arange(3.0)).read(np.arange(3.0), gymnasium.Env()).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("names", "mapping", "said"),
    [
        (["joints"], "", r"no observation 'joints'; it gives agent_pos \(2,\), pixels.top \(4, 6, 3\)"),
        (["joints"], "joints=hand", "no observation 'hand'"),
        (["agent_pos"], "hand=agent_pos", "`mapping` names 'hand', but the policy observes agent_pos"),
        ([], "", "the policy observes one array without names"),
    ],
)
def test_what_is_missing_is_said(names, mapping, said):
    with pytest.raises(UnveilError, match=said):
        named(names, mapping)


def test_two_fields_of_one_name_are_not_guessed():
    with pytest.raises(UnveilError, match=r"several fields \['left.joints', 'right.joints'\]"):
        named(["joints"], "", {"left": {"joints": np.zeros(1)}, "right": {"joints": np.zeros(1)}})
    with pytest.raises(ValueError, match="NAME=FIELD"):
        mapping_of("state")


def test_environments_are_made_by_id_and_by_function(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unveil_own_arm.py").write_text(CODE)
    assert make("unveil_own_arm:made", {"size": 5}, drawn=True).told == ("rgb_array", 5)
    assert make("unveil_own_arm:made", {}).told == (None, 3)
    assert make("CartPole-v1", {}).spec.id == "CartPole-v1"
    assert make("gymnasium:CartPole-v1", {}).spec.id == "CartPole-v1"
    for name, said in (
        ("unveil_own_arm:nothing", r"has no 'nothing'; it has \['broken', 'made', 'number'\]"),
        ("unveil_own_arm:broken", "cannot be made: no motor at all$"),
        ("unveil_own_arm:number", "must return an environment of gymnasium, got int"),
        ("unveil_no_such_arm:made", "no module 'unveil_no_such_arm', here or installed"),
        ("CartPoles-v1", "cannot be made: .*CartPole"),
    ):
        with pytest.raises(UnveilError, match=said):
            make(name, {})
    for text in ("[1]", "{", "3"):
        with pytest.raises(UnveilError, match="`env_args` must be JSON"):
            arguments_of(text)


def test_actions_fit_or_are_refused_and_stay_within_the_limits():
    box = gymnasium.spaces.Box(np.float32(-1.0), np.float32(2.0), (1, 2))
    assert check_actions("arm", box, 2) is box
    action, outside = within(box, np.array([-3.0, 1.5]))
    assert action.tolist() == [[-1.0, 1.5]] and action.dtype == np.float32 and outside
    assert not within(box, np.array([-1.0, 2.0]))[1]
    with pytest.raises(UnveilError, match=r"shape \(1, 2\), but the policy's have 3"):
        check_actions("arm", box, 3)
    with pytest.raises(UnveilError, match=r"Discrete\(2\)"):
        check_actions("arm", gymnasium.spaces.Discrete(2), 1)
