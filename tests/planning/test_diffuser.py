"""Diffuser as published: known ends, the reference controller's rule, and what it is trained on."""

import numpy as np
import pytest
import torch

from unveil.planning.data.episodes import Episodes
from unveil.planning.data.trajectories import Trajectories
from unveil.planning.diffuser import Diffuser, ends_known
from unveil.planning.recipes.maze.paper import between_goals, ends_of, published_shape
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape
from unveil.planning.trajectory_training import TrajectoryBatch, trajectory_batches, trajectory_loss
from unveil.planning.worlds.maze.layout import named_layout
from unveil.sampling.noise import generators


def model() -> TrajectoryModel:
    torch.manual_seed(0)
    made = TrajectoryModel(TrajectoryShape(16, 8, actions=2, observations=4, width=8, multiples=(1, 2)))
    made.normalization.low.copy_(torch.tensor([-1.0, -1.0, 0.0, 0.0, -5.0, -5.0]))
    made.normalization.high.copy_(torch.tensor([1.0, 1.0, 8.0, 10.0, 5.0, 5.0]))
    made.normalization.least.fill_(-1.0)
    made.normalization.most.fill_(1.0)
    return made


def test_normalisation_reaches_both_ends_and_back():
    made = model()
    rows = torch.stack(
        [made.normalization.low, made.normalization.high, torch.tensor([0.5, -0.5, 2.0, 7.0, 1.0, -2.0])]
    )
    scaled = made.normalization.normalized(rows)
    torch.testing.assert_close(scaled[:2], torch.stack([-torch.ones(6), torch.ones(6)]))
    torch.testing.assert_close(made.normalization.denormalized(scaled), rows)


def test_plans_begin_at_the_state_end_at_rest_at_the_goal_and_stay_within_the_data():
    planner = Diffuser(model(), seed=3)
    start, goal = np.array([1.0, 2.0, 0.5, -0.5]), np.array([7.0, 9.0])
    planner.reset(goal[None])
    planner.act(start[None])
    states = planner._states[0]
    np.testing.assert_allclose(states[0], start, atol=1e-5)
    np.testing.assert_allclose(states[-1], [*goal, 0.0, 0.0], atol=1e-5)
    low, high = planner.model.normalization.low.numpy()[2:], planner.model.normalization.high.numpy()[2:]
    assert (states >= low - 1e-4).all() and (states <= high + 1e-4).all()  # x_0 is clipped in every step


def test_the_force_is_the_released_rule_and_the_end_is_held_at_rest():
    planner = Diffuser(model(), seed=3)
    planner.reset(np.array([[7.0, 9.0], [2.0, 2.0]]))
    seen = np.array([[1.0, 2.0, 0.5, -0.5], [3.0, 3.0, 0.0, 0.0]])
    first = planner.act(seen)
    plan = planner._states
    np.testing.assert_allclose(
        first, np.clip((plan[:, 1, :2] - seen[:, :2]) + (plan[:, 1, 2:] - seen[:, 2:]), -1, 1)
    )
    for _ in range(20):
        last = planner.act(seen)
    np.testing.assert_allclose(last, np.clip((plan[:, -1, :2] - seen[:, :2]) - seen[:, 2:], -1, 1))
    assert len(planner.plans) == 2 and planner.replans == 0
    with pytest.raises(ValueError, match="no goal yet"):
        Diffuser(model()).act(np.zeros(4))


def test_the_network_is_told_the_released_step_numbers():
    """t = i / T is step i - 1 of the released code, 0 .. T - 1."""
    made = model()
    t = torch.arange(1, 9, dtype=torch.float64) / 8
    assert made.denoiser.time_input(t).tolist() == pytest.approx(list(range(8)))


def test_published_lengths():
    assert [published_shape(named_layout(name)) for name in ("umaze", "medium", "large")] == [
        (128, 64),
        (256, 256),
        (384, 256),
    ]


def test_segments_end_where_the_goal_is_left_and_marks_are_ignored():
    observations = np.zeros((11, 4), np.float32)
    observations[:, 0] = [3.0, 2.0, 1.0, 0.4, 0.1, 0.4, 1.0, 2.0, 0.2, 0.2, 5.0]  # at the goal 0 twice
    marks = np.zeros(11, bool)
    marks[2] = True  # the generator's
    episodes = Episodes(
        observations, np.zeros((11, 2), np.float32), np.zeros(11, np.float32), np.zeros(11, bool), marks
    )
    cut = between_goals(episodes, np.zeros(2))
    assert (cut.starts.tolist(), cut.ends.tolist()) == ([0, 6, 10], [6, 10, 11])


def test_windows_have_the_horizon_and_lie_in_one_segment():
    layout = named_layout("umaze")
    rng = np.random.default_rng(0)
    x = layout.goal[0] + 3 * np.sin(np.arange(400) / 15)  # passes the goal again and again
    observations = np.stack(
        [x, np.full(400, layout.goal[1]), np.arange(400), rng.normal(size=400)], axis=1
    ).astype(np.float32)
    zeros = np.zeros(400, bool)
    episodes = Episodes(
        observations, rng.normal(size=(400, 2)).astype(np.float32), np.zeros(400, np.float32), zeros, zeros
    )
    cut = between_goals(episodes, layout.goal)
    draw = trajectory_batches(Trajectories(cut, unpadded=16), TrajectoryShape(16, 8, 2, 4), 64)
    batch = draw(torch.Generator(device="cpu").manual_seed(0))
    steps = batch.rows[:, :, 4].long()
    assert (steps.diff(dim=1) == 1).all()
    assert batch.valid.all()
    number = np.searchsorted(cut.starts, steps.numpy(), side="right")
    assert (number == number[:, :1]).all()
    assert set((8 * batch.t).round().long().tolist()) == set(range(1, 9))
    np.testing.assert_allclose(batch.rows[:, :, :2], episodes.actions[steps])


def test_noise_on_the_known_ends_is_not_seen():
    made = model()
    rows = torch.rand(4, 16, 6)
    t, noise = torch.tensor([0.25, 0.5, 0.75, 1.0]), torch.randn(4, 16, 6)
    known = ends_known(16)
    valid = torch.ones(4, 16, dtype=torch.bool)
    loss, _ = trajectory_loss(made, TrajectoryBatch(rows, valid, t, noise), known=ends_of)
    other = torch.where(known, torch.randn(4, 16, 6), noise)
    torch.testing.assert_close(
        trajectory_loss(made, TrajectoryBatch(rows, valid, t, other), known=ends_of)[0], loss
    )
    assert known[0, 0].tolist() == [False, False, True, True, True, True]
    assert known.sum() == 8


STARTS, GOALS = (
    np.array([[1.0, 2.0, 0.5, -0.5], [3.0, 3.0, 0.0, 0.0], [2.0, 5.0, 0.0, 1.0]]),
    np.array([[7.0, 9.0], [2.0, 2.0], [5.0, 1.0]]),
)


def test_a_bodys_plan_does_not_depend_on_those_beside_it():
    together, alone = Diffuser(model(), seed=3), Diffuser(model(), seed=3)
    together.reset(GOALS)
    forces = together.act(STARTS)
    for i in range(3):
        alone.reset(GOALS[i])
        alone.reset(GOALS[i])
        np.testing.assert_allclose(alone.act(STARTS[i]), forces[i], atol=1e-4)
        np.testing.assert_allclose(alone._states[0], together._states[i], atol=1e-4)
    for i in range(3):  # plans that are asked for count by themselves
        np.testing.assert_allclose(
            alone.plan(STARTS[i], GOALS[i]).path, together._states[i, :, :2], atol=1e-4
        )
    np.testing.assert_allclose(
        together._sample(STARTS, GOALS, generators(3, 3), rows=2), together._states, atol=1e-4
    )


def test_recorded_noise_takes_the_place_of_what_is_drawn():
    own = torch.Generator().manual_seed(3)
    drawn = torch.stack(
        [torch.randn((16, 6), generator=own) for _ in range(9)]
    )  # to begin with, and for each of 8 steps
    expected = Diffuser(model(), seed=3).plan(STARTS[0], GOALS[0]).path
    for noise in (drawn, drawn[:-1], drawn.numpy()):
        np.testing.assert_allclose(
            Diffuser(model(), seed=7).plan(STARTS[0], GOALS[0], noise=noise).path, expected, atol=1e-4
        )
    begun = (
        Diffuser(model(), seed=3).plan(STARTS[0], GOALS[0], noise=drawn[0]).path
    )  # the steps draw by themselves
    assert np.isfinite(begun).all() and np.abs(begun - expected).max() > 1e-3
    for wrong in (drawn[:, :8], drawn[0, 0], drawn[0] * torch.nan):
        with pytest.raises(ValueError, match="diffuser: noise must"):
            Diffuser(model()).plan(STARTS[0], GOALS[0], noise=wrong)
    with pytest.raises(ValueError, match="2 draws were given"):
        Diffuser(model()).plan(STARTS[0], GOALS[0], noise=drawn[:3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.plan(STARTS, GOALS), r"start must have shape \(4,\), got \(3, 4\)"),
        (lambda p: p.plan(STARTS[0, :2], GOALS[0]), r"start must have shape \(4,\)"),
        (lambda p: p.plan(STARTS[0], STARTS[0]), r"goal must have shape \(2,\)"),
        (lambda p: p.plan(STARTS[0] * np.nan, GOALS[0]), "finite"),
        (lambda p: p.reset(STARTS[0]), r"goal must have shape \(2,\) or \(B, 2\)"),
        (lambda p: p.reset("home"), "goal must be"),
        (lambda p: (p.reset(GOALS), p.act(STARTS[:2])), r"must have shape \(3, 4\)"),
        (lambda p: (p.reset(GOALS), p.act(STARTS[0])), r"must have shape \(3, 4\)"),
        (lambda p: (p.reset(GOALS[0]), p.act(STARTS[:1])), r"must have shape \(4,\)"),
        (lambda p: (p.reset(GOALS[0]), p.act(STARTS[0] * np.inf)), "finite"),
        (lambda p: Diffuser(p.model, seed=1.5), "seed must be"),
        (
            lambda p: Diffuser(TrajectoryModel(TrajectoryShape(8, 5, 3, 11))),
            "rows of 2 actions and 4 observations",
        ),
    ],
)
def test_bad_input_says_what_is_needed(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call(Diffuser(model()))
