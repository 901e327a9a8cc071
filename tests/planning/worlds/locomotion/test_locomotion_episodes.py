"""The three bodies against gymnasium itself, and D4RL's score."""

import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from unveil.planning.worlds.locomotion.body import BODIES, body_of, named_body, normalized_score
from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes

HOPPER, CHEETAH = BODIES["hopper"], BODIES["halfcheetah"]


def foreign(body, version):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # v4 is out of date, says gymnasium
        return gymnasium.make(f"{body.title}-{version}")


@pytest.mark.parametrize("version", ["v4", "v5"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bit_for_bit_gymnasiums(body, version):
    """Starts, observations, rewards and ends of three episodes after another, until they are over, or 300
    steps."""
    world = foreign(body, version)
    ours, generator, ended = LocomotionEpisodes(body, 3, 40, version), np.random.default_rng(1), 0
    scale = np.array([0.0, 0.3, 1.5])[:, None]  # 1.5 leaves the box
    actions = generator.uniform(-1, 1, (300, 3, body.actions)) * scale
    seen, alive = [ours.observations.copy()], []
    for action in actions:
        alive.append(ours.running.copy())
        seen.append(ours.step(action))
    for i in range(3):
        again = LocomotionEpisodes(body, 1, 40 + i, version)
        assert again.observations.tobytes() == seen[0][i].tobytes()
        observation, _ = world.reset(seed=40 + i)
        assert observation.tobytes() == seen[0][i].tobytes()
        total = 0.0
        for t in range(300):
            if not alive[t][i]:
                assert (seen[t + 1][i] == seen[t][i]).all()
                continue
            observation, reward, terminated, _, _ = world.step(np.clip(actions[t, i], -1, 1))
            again.step(actions[t, i : i + 1])
            assert observation.tobytes() == seen[t + 1][i].tobytes() == again.observations[0].tobytes()
            assert reward == again.rewards[0] and terminated == (not again.running[0]) == again.terminated[0]
            total += float(reward)
            ended += terminated
        assert total == ours.returns[i] == again.returns[0]
        assert ours.lengths[i] == again.lengths[0] == sum(row[i] for row in alive)
    assert ended == (0 if body.name == "halfcheetah" else 3)
    world.close()


def test_states_out_of_range_end_an_episode_where_gymnasium_says():
    """A range of 1 instead of 100, which the height of 1.25 is not held against."""
    theirs = gymnasium.make("Hopper-v5", healthy_state_range=(-1.0, 1.0))
    world = LocomotionEpisodes(replace(HOPPER, state=(-1.0, 1.0)), 1, 0)
    theirs.reset(seed=0)
    ended = False
    for _ in range(20):
        _, reward, ended, _, _ = theirs.step(np.full(3, 0.3))
        world.step(np.full((1, 3), 0.3))
        assert world.terminated[0] == ended and world.rewards[0] == reward
        if ended:
            break
    assert ended and 1 < world.lengths[0] < 20
    theirs.close()


@pytest.mark.parametrize("version", ["v4", "v5"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_limits_are_gymnasiums(body, version):
    """Also those that a few falls do not reach: the numbers themselves, and observations at velocities up to
    30."""
    theirs, ours = foreign(body, version).unwrapped, LocomotionEpisodes(body, 1, 0, version)
    names = {"height": "_healthy_z_range", "angle": "_healthy_angle_range", "state": "_healthy_state_range"}
    for name, private in (names | {"control_cost": "_ctrl_cost_weight", "alive": "_healthy_reward"}).items():
        nothing = 0.0 if name == "alive" else (-np.inf, np.inf)
        assert getattr(body, name) == getattr(theirs, private, nothing)
    position, velocity = theirs.init_qpos + 0.1, np.linspace(-30, 30, theirs.model.nv)
    theirs.set_state(position, velocity)
    assert ours._observed(position[None], velocity[None])[0].tobytes() == theirs._get_obs().tobytes()
    theirs.close()


def test_v4_rewards_the_fall_and_v5_does_not():
    last = []
    for version in ("v4", "v5"):
        world = LocomotionEpisodes(HOPPER, 1, 0, version)
        while world.running.any():
            world.step(np.ones((1, 3)))
        last.append((world.rewards[0], world.returns[0], world.terminated[0]))
    assert (
        last[0][0] - last[1][0] == pytest.approx(1.0) == last[0][1] - last[1][1] and last[0][2] and last[1][2]
    )


def test_an_episode_that_is_over_rests_while_others_run():
    world = LocomotionEpisodes(replace(HOPPER, steps=40), 2, 0)
    actions = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    while world.running.all():
        world.step(actions)
    assert world.running.tolist() == [False, True] and world.terminated.tolist() == [True, False]
    still, total = world.observations[0].copy(), world.returns.copy()
    world.step(np.array([[np.nan] * 3, [0.0] * 3]))  # no action is needed for what is over
    assert (world.observations[0] == still).all() and world.rewards[0] == 0 and world.returns[0] == total[0]
    assert world.returns[1] == total[1] + world.rewards[1] and world.rewards[1] > 0
    while world.running.any():
        world.step(actions)
    assert world.lengths[1] == 40 and not world.terminated[1]  # the time is up
    start = world.observations
    assert (
        world.reset(0).tobytes() == LocomotionEpisodes(HOPPER, 2, 0).observations.tobytes() != start.tobytes()
    )
    assert (
        world.running.all()
        and not world.lengths.any()
        and not world.returns.any()
        and not world.terminated.any()
    )


def test_observations_handed_out_do_not_change_later():
    world = LocomotionEpisodes(CHEETAH, 1, 0)
    first = world.step(np.ones((1, 6)))
    kept = first.copy()
    world.step(np.ones((1, 6)))
    assert (first == kept).all() and (world.observations != kept).any()


def test_what_is_refused():
    world = LocomotionEpisodes(HOPPER, 2, 0)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="actions must be finite"):
            world.step(np.array([[0.0] * 3, [0.0, bad, 0.0]]))
    with pytest.raises(ValueError, match=r"shape \(2, 3\) are needed"):
        world.step(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="count >= 1 and version v4 or v5"):
        LocomotionEpisodes(HOPPER, 0, 0)
    with pytest.raises(ValueError, match="seed >= 0 is needed"):
        LocomotionEpisodes(HOPPER, 1, -1)


def test_scores_are_d4rls():
    assert normalized_score(HOPPER, np.array([-20.272305, 3234.3])).tolist() == pytest.approx([0.0, 100.0])
    assert normalized_score(BODIES["walker2d"], np.array([4592.3 / 2]))[0] == pytest.approx(
        49.98226, abs=1e-4
    )
    assert normalized_score(CHEETAH, np.array([0.0]))[0] == pytest.approx(2.25673, abs=1e-4)


def test_names():
    for name, body in (
        ("hopper-medium-v2", "hopper"),
        ("mujoco/walker2d/medium-v0", "walker2d"),
        ("runs/Hopper/HalfCheetah-v5.hdf5", "halfcheetah"),
        ("walker2d_full_replay-v2.hdf5", "walker2d"),
    ):
        assert body_of(name).name == body
    for name in ("ant-medium-v2", "", "grasshopper"):
        with pytest.raises(ValueError, match="no body is named"):
            body_of(name)
    assert named_body("hopper") is HOPPER
    with pytest.raises(ValueError, match="did you mean halfcheetah"):
        named_body("half-cheetah")
    for body in BODIES.values():
        world = foreign(body, "v5")
        assert world.observation_space.shape == (body.observations,) and world.action_space.shape == (
            body.actions,
        )
        assert world.spec is not None and world.spec.max_episode_steps == body.steps
        world.close()
