"""PushT: recorded actions reach recorded states, the published starts, the published reward, rows that do not
touch each other."""

from pathlib import Path

import numpy as np
import pytest

from pusht_recorded import recorded
from unveil.policy.worlds.pusht.block import (
    GOAL,
    initial_state,
    keypoint_observation,
    keypoints,
    states_of,
    vertices,
)
from unveil.policy.worlds.pusht.episodes import PushTEpisodes


@pytest.mark.parametrize("episode", [0, 1])
def test_recorded_actions_reach_the_recorded_states(episode):
    """Fails with the block's position set before its angle (up to 90 px off), with other gains, or with
    actions one row late."""
    two = recorded()
    rows = slice(two.starts[episode], two.episode_ends[episode])
    states, actions = two.observations["state"][rows].astype(float), two.actions[rows].astype(float)
    world = PushTEpisodes(1, 0)
    reached = [world.reset_to(states[:1])[0]]
    for action in actions[:-1]:
        reached.append(world.step(action[None])[0])
    error = np.abs(np.stack(reached) - states)[:, :4].max(axis=1)
    assert np.median(error) < 0.5 and error[0] < 1e-4
    assert 0.8 < world.best[0] <= 1.0


def test_starts_are_the_published_ones():
    """The five draws of numpy's RandomState in their order, once; gym-pusht's own generator draws others."""
    state = initial_state(100_000)
    random = np.random.RandomState(100_000)
    assert state[:4].tolist() == [
        random.randint(50, 450),
        random.randint(50, 450),
        random.randint(100, 400),
        random.randint(100, 400),
    ]
    assert state[4] == random.randn() * 2 * np.pi - np.pi
    np.testing.assert_allclose(state[:4], [235, 124, 364, 187], atol=130)
    world = PushTEpisodes(2, 100_000)
    np.testing.assert_array_equal(
        world.states[:, :2], [initial_state(100_000)[:2], initial_state(100_001)[:2]]
    )
    np.testing.assert_allclose(
        world.states[0], [235.0, 124.0, 299.61288531, 145.20158073, 5.37825788], atol=1e-6
    )


def test_all_published_starts_are_those_of_gym_pusht():
    """golden/pusht_starts.npz: of seeds 100000 .. 100049 what gym-pusht 0.1.8 (pymunk 6.11.1) itself says
    after `reset(options={"reset_to_state": drawn})`, of the published environment's draws (randint, randint,
    randint, randint, randn of numpy's RandomState(seed)), which is that environment's `reset`, step of 0.01 s
    included."""
    golden = np.load(Path(__file__).resolve().parents[3] / "golden" / "pusht_starts.npz")["states"]
    np.testing.assert_allclose(PushTEpisodes(50, 100_000).states, golden, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(
        golden[:, :2], [initial_state(seed)[:2] for seed in range(100_000, 100_050)]
    )


def test_the_position_set_first_is_moved_about_the_centre_of_mass():
    """p' = p + c - R(angle) c for the block's centre of mass c: what the published order of assignments does
    to every start."""
    world = PushTEpisodes(1, 100_007)
    state = initial_state(100_007)
    centre = np.array(world._worlds[0].block.center_of_gravity)
    cos, sin = np.cos(state[4]), np.sin(state[4])
    moved = (
        state[2:4] + centre - np.array([cos * centre[0] - sin * centre[1], sin * centre[0] + cos * centre[1]])
    )
    np.testing.assert_allclose(world.states[0, 2:4], moved, atol=1e-6)
    assert np.linalg.norm(centre) > 40


def test_the_mark_itself_is_solved_and_ends_the_episode():
    world = PushTEpisodes(2, 0)
    away = np.array([[50.0, 50.0, *GOAL], [50.0, 50.0, 256.0, 256.0, np.pi / 4 + np.pi]])
    world.reset_to(away)
    assert world.coverage[0] == pytest.approx(1.0, abs=1e-6) and world.coverage[1] < 0.5
    world.step(np.full((2, 2), 50.0))
    assert world.rewards[0] == 1.0 and world.rewards[1] == pytest.approx(world.coverage[1] / 0.95)
    assert world.solved.tolist() == [True, False] == (~world.running).tolist()
    kept = world.states[0].copy()
    world.step(np.full((2, 2), 300.0))
    np.testing.assert_array_equal(world.states[0], kept)
    assert world.lengths.tolist() == [1, 2] and world.rewards[0] == 0.0 and world.best[0] == 1.0


def test_an_episode_does_not_depend_on_its_neighbours_and_ends_in_time():
    actions = np.random.default_rng(0).uniform(100, 400, (6, 3, 2))
    three, last = PushTEpisodes(3, 5, steps=6), PushTEpisodes(1, 7, steps=6)
    for action in actions:
        three.step(action)
        last.step(action[2:])
    np.testing.assert_array_equal(three.states[2], last.states[0])
    assert not three.running.any()


def test_keypoints_are_the_recorded_ones():
    """A rotation the other way round, or x and y exchanged, is off by tens of pixels."""
    two = recorded()
    states = two.observations["state"].astype(float)
    assert np.abs(keypoints(states) - two.observations["keypoint"]).mean() < 0.02
    seen = keypoint_observation(states)
    assert seen.shape == (len(two), 20)
    np.testing.assert_array_equal(seen[:, 18:], states[:, :2])
    np.testing.assert_array_equal(seen[:, :4], keypoints(states)[:, :2].reshape(-1, 4))


def test_vertices_are_gym_pushts_environment_state():
    """In its order of corners, which LeRobot's policies of states know: pymunk's, not that of the drawing in
    its documentation."""
    world = PushTEpisodes(3, 100_000)
    for _ in range(15):
        world.step(world.states[:, 2:4])  # push the block
    for inner, state in zip(world._worlds, world.states, strict=True):
        inner.obs_type = "environment_state_agent_pos"
        there = inner.get_obs()
        np.testing.assert_allclose(vertices(state).reshape(-1), there["environment_state"], atol=1e-9)
        np.testing.assert_allclose(state[:2], there["agent_pos"], atol=1e-9)


def test_the_corners_alone_tell_the_state():
    """A turn the other way, or a mean subtracted with the wrong sign, is refused or off by tens of pixels."""
    random = np.random.default_rng(0)
    states = np.concatenate([random.uniform(0, 512, (50, 4)), random.uniform(0, 2 * np.pi, (50, 1))], axis=1)
    corners = vertices(states).reshape(50, 16)
    np.testing.assert_allclose(
        states_of(states[:, :2], corners + random.uniform(-0.01, 0.01, corners.shape)), states, atol=0.03
    )
    mirrored = corners.copy()
    mirrored[7, ::2] *= -1.0
    with pytest.raises(ValueError, match=r"row 7 is not the T's eight corners"):
        states_of(states[:, :2], mirrored)


def test_pixels_show_the_agent_where_it_is():
    world = PushTEpisodes(1, 0)
    world.reset_to(np.array([[400.0, 100.0, 200.0, 350.0, 0.0]]))
    (picture,) = world.pictures()
    assert picture.shape == (96, 96, 3)
    x, y = (np.array([400.0, 100.0]) * 96 / 512).astype(int)
    assert picture[y, x, 2].astype(int) > picture[y, x, 0] + 100  # blue
    assert picture[x, y].min() > 250  # white


def test_wrong_input_is_refused():
    world = PushTEpisodes(1, 0)
    with pytest.raises(ValueError, match="shape"):
        world.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="finite"):
        world.step(np.full((1, 2), np.nan))
    with pytest.raises(ValueError, match="finite states"):
        world.reset_to(np.full((1, 5), np.nan))
    with pytest.raises(ValueError, match="seed"):
        world.reset(-1)
    with pytest.raises(ValueError, match="count"):
        PushTEpisodes(0, 0)
