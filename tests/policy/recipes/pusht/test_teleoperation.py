"""One scene that a person and the policy push in turn: who acts, what is recorded, and the keep-out disc."""

import numpy as np
import pytest
import torch

pytest.importorskip("gym_pusht")

from unveil.policy.policy import Policy
from unveil.policy.recipes.load import load_policy
from unveil.policy.recipes.pusht.teleoperation import SHORTEST, Disc, Teleoperation, inside, npz_of
from unveil.policy.worlds.pusht.block import keypoint_observation
from unveil.policy.worlds.pusht.episodes import PushTEpisodes
from unveil.runs.checkpoints import find_checkpoint


@pytest.fixture
def scene():
    return Teleoperation(load_policy(find_checkpoint("pusht-keypoints"), "cpu"), "keypoints", 100_000)


def pushed(scene, steps, pointer=None):
    for _ in range(steps):
        scene.step(pointer)


def test_the_policy_acts_as_in_an_evaluation(scene):
    scene.hand_over("policy")
    policy: Policy = load_policy(find_checkpoint("pusht-keypoints"), "cpu")
    world = PushTEpisodes(1, 100_000)
    for _ in range(20):
        world.step(policy.act(keypoint_observation(world.states)))
        scene.step((0.0, 0.0))  # a person's pointer changes nothing
    assert np.array_equal(scene.world.states, world.states)
    assert policy.chunks is not None
    assert np.array_equal(scene.chunk, policy.chunks[0])


def test_a_person_points_and_the_agent_stays_where_it_was_sent(scene):
    before = scene.world.states[0, :2].copy()
    pushed(scene, 5)
    assert np.linalg.norm(scene.world.states[0, :2] - before) < 1
    scene.step((900.0, 100.0))
    assert scene.target.tolist() == [512.0, 100.0]
    assert scene.chunk is None


def test_only_a_persons_steps_are_recorded_in_episodes_that_end_at_each_hand_over(scene):
    scene.record(True)
    pushed(scene, SHORTEST + 1, (100.0, 100.0))
    scene.hand_over("policy")
    pushed(scene, 3)
    scene.hand_over("person")
    pushed(scene, SHORTEST - 1, (200.0, 100.0))  # too short
    scene.restart()
    states = scene.world.states[0].copy()
    pushed(scene, SHORTEST, (300.0, 100.0))
    scene.record(False)
    pushed(scene, 9, (0.0, 0.0))
    assert scene.recorded == (2, 2 * SHORTEST + 1)
    made = scene.demonstrations()
    assert made.episode_ends.tolist() == [SHORTEST + 1, 2 * SHORTEST + 1]
    assert np.unique(made.actions[:, 0]).tolist() == [100.0, 300.0]
    assert made.observations["state"][SHORTEST + 1] == pytest.approx(states, abs=1e-4)  # before the action
    scene.discard()
    assert scene.recorded == (1, SHORTEST + 1)
    assert npz_of(scene.demonstrations())[:2] == b"PK"
    scene.discard()
    assert scene.demonstrations() is None


def test_the_cost_of_the_disc_begins_at_its_margin():
    chunk = torch.tensor([[[130.0, 0.0], [60.0, 0.0]], [[75.1, 0.0], [0.0, 400.0]]])
    assert inside(chunk, Disc(0.0, 0.0, 60.0)).tolist() == pytest.approx([(15 / 60) ** 2, 0.0], abs=1e-5)


@pytest.mark.parametrize("delay", [0, 3])
def test_the_disc_moves_the_chunks_out_also_with_a_delay(scene, delay):
    scene.decide_with(delay, "soft")
    scene.hand_over("policy")
    pushed(scene, 12)
    x, y = (float(value) for value in scene.chunk[4])
    disc = Disc(x, y, 40.0)
    deep = lambda: float(inside(torch.tensor(scene.chunk[None]), disc)[0])  # noqa: E731
    before = deep()
    scene.keep_out(disc)
    pushed(scene, 1)
    assert deep() < 0.3 * before
    scene.keep_out(None)
    assert scene.policy.steer is None
    if delay:
        pushed(scene, 12)  # the next decisions continue the previous chunk
        assert scene.executed == slice(1 + delay, 9 + delay)


def test_delays_that_chunks_cannot_bridge_are_refused(scene):
    with pytest.raises(ValueError, match="delay"):
        scene.decide_with(8, "soft")
    with pytest.raises(ValueError, match="prefixes"):
        scene.decide_with(2, "prefix")
    with pytest.raises(ValueError, match="driver"):
        scene.hand_over("robot")
