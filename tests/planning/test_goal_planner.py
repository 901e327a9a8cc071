"""Plans to goals: what is known, how long they are, and whose noise is whose."""

import numpy as np
import pytest
import torch

from unveil.planning.data.episodes import Episodes
from unveil.planning.data.interface import Interface
from unveil.planning.data.trajectories import Trajectories
from unveil.planning.goal_planner import GoalPlanner
from unveil.planning.goal_settings import GoalSettings
from unveil.planning.networks.trajectory_transformer import SequenceTransformer
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape
from unveil.planning.trajectory_training import trajectory_batches, trajectory_loss, travel_loss

SHAPE = TrajectoryShape(16, 10, actions=2, observations=3, width=16, goal=(2, 0))


@pytest.fixture(scope="module")
def model() -> TrajectoryModel:
    torch.manual_seed(0)
    made = TrajectoryModel(SHAPE, SequenceTransformer(SHAPE.features, 16, 1, 2, 4))
    rows = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    made.normalization.learn(rows * [1.0, 1.0, 3.0, 1.0, 0.5] + [0.0, 0.0, 1.0, 0.0, 2.0], "gaussian")
    return made.eval()


class Fixed(torch.nn.Module):
    """Says the same number of steps for all quantiles."""

    def __init__(self, steps: float) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x):
        return torch.full((*x.shape[:-1], 3), float(np.log(self.steps)))


def test_first_observation_and_last_goal_are_as_given(model):
    planner = GoalPlanner(model)
    plan = planner.plan(np.array([0.3, -0.2, 2.1]), np.array([1.9, 0.4]), horizon=8)
    assert plan.shape == (8, 5)
    np.testing.assert_allclose(plan[0, 2:], [0.3, -0.2, 2.1], atol=1e-5)
    np.testing.assert_allclose(plan[-1, [4, 2]], [1.9, 0.4], atol=1e-5)
    assert abs(plan[-1, 3]) != 0.2  # what no goal names is planned


def test_plans_are_as_long_as_the_data_need_in_whole_units(model, monkeypatch):
    planner = GoalPlanner(model, GoalSettings(shortest=4))
    for steps, rows in ((1.0, 4), (3.0, 4), (3.1, 8), (9.0, 12), (500.0, 16)):
        monkeypatch.setitem(model._modules, "travel", Fixed(steps))
        assert planner.lengths(np.zeros((2, 3)), np.zeros((2, 2))) == [rows, rows]


def test_pace_chooses_the_quantile(model, monkeypatch):
    class Rising(torch.nn.Module):
        def forward(self, x):
            return torch.log(torch.tensor([2.0, 6.0, 10.0])).expand(*x.shape[:-1], 3)

    monkeypatch.setitem(model._modules, "travel", Rising())
    for pace, rows in (("hurried", 4), ("brisk", 8), ("usual", 12)):
        planner = GoalPlanner(model, GoalSettings(pace=pace))
        assert planner.lengths(np.zeros((1, 3)), np.zeros((1, 2))) == [rows]


def test_one_observation_gives_one_action_and_episodes_have_their_own_noise(model):
    seen, goals = np.random.default_rng(1).normal(size=(3, 3)), np.ones((3, 2))
    planner = GoalPlanner(model, seed=5)
    together = planner.act(seen, goals=goals)
    assert together.shape == (3, 2)
    planner = GoalPlanner(model, seed=5)
    for i in (2, 0, 1):
        one = planner.act(seen[[i]], goals=goals[[i]], episodes=[i])
        np.testing.assert_allclose(one[0], together[i], atol=1e-5)
    planner = GoalPlanner(model, seed=5)
    planner.reset(goals[0])
    assert planner.act(seen[0]).shape == (2,)
    planner = GoalPlanner(model, interface=Interface(("s",), SHAPE.goal), seed=5)
    single = planner.act({"s": seen[0], "desired_goal": goals[0]})
    np.testing.assert_allclose(single, together[0], atol=1e-5)


def test_actions_of_one_plan_are_done_one_after_another(model, monkeypatch):
    planner, calls = GoalPlanner(model, GoalSettings(act_steps=3)), []

    def sampled(seen, goals, own, rows=None):
        calls.append(len(seen))
        row = torch.arange(8.0)[:, None].repeat(1, 5) + 100.0 * len(calls)
        return [row] * len(seen)

    monkeypatch.setattr(planner, "_sampled", sampled)
    monkeypatch.setattr(model, "first_action", lambda x: x[:, 0, :2] / 1000.0)
    planner.reset(np.zeros(2))
    done = [1000.0 * planner.act(np.zeros(3))[0] for _ in range(5)]
    np.testing.assert_allclose(done, [100.0, 101.0, 102.0, 200.0, 201.0], rtol=1e-5)
    planner.reset(np.zeros(2))
    planner.act(np.zeros(3))
    assert calls == [1, 1, 1]  # a new episode has a new plan


def test_what_is_missing_or_not_finite_is_one_error(model, monkeypatch):
    with pytest.raises(ValueError, match="no goal yet"):
        GoalPlanner(model).act(np.zeros(3))
    with pytest.raises(ValueError, match=r"goal must be|goal must have shape \(2,\)"):
        GoalPlanner(model).reset(np.zeros(3))
    with pytest.raises(ValueError, match="3 goals are needed, one for each row, got 1"):
        GoalPlanner(model).act(np.zeros((3, 3)), goals=np.zeros((1, 2)))
    with pytest.raises(ValueError, match="knows no goal"):
        GoalPlanner(TrajectoryModel(TrajectoryShape(8, 4, 1, 2, width=8, multiples=(1,))))
    monkeypatch.setattr(model, "first_action", lambda x: torch.full((len(x), 2), torch.nan))
    planner = GoalPlanner(model)
    planner.reset(np.zeros(2))
    with pytest.raises(ValueError, match="actions are not finite; the weights are damaged"):
        planner.act(np.zeros(3))


def walk() -> Episodes:
    """Two episodes of 20 and 6 steps; the third number of an observation counts steps."""
    place = np.concatenate([np.arange(20.0), np.arange(6.0)])
    ends = np.isin(np.arange(26), [19, 25])
    seen = np.stack([0 * place, 0 * place, place], axis=1).astype(np.float32)
    return Episodes(seen, np.zeros((26, 2), np.float32), np.zeros(26, np.float32), np.zeros(26, bool), ends)


def test_windows_to_goals_are_whole_and_uniform():
    windows = Trajectories(walk())
    generator = torch.Generator(device="cpu").manual_seed(0)
    first = windows.draw_whole(4_000, 6, generator)
    assert set(first.tolist()) == {*range(15), 20}
    counts = np.bincount(first.numpy(), minlength=21)[[0, 7, 14, 20]]
    assert (abs(counts - 250) < 80).all()
    with pytest.raises(ValueError, match="no episode of 21 steps"):
        windows.draw_whole(1, 21, generator)
    batch = trajectory_batches(windows, SHAPE, 32, horizons=(4, 8))(generator)
    assert bool(batch.valid.all()) and batch.ahead is not None
    assert int(batch.ahead.min()) >= 1 and int(batch.ahead.max()) < batch.rows.shape[1]


def test_the_number_of_steps_to_a_goal_is_learned(model, monkeypatch):
    """The loss is 0 where the prediction is log k, for the goal's numbers of row k."""
    seen = torch.arange(16.0)[None, :, None].repeat(3, 1, 3)
    ahead = torch.tensor([1, 4, 15])

    class Difference(torch.nn.Module):
        def forward(self, x):  # (first observation, goal)
            return (x[:, 3:4] - x[:, 2:3]).log().repeat(1, 3)

    monkeypatch.setitem(model._modules, "travel", Difference())
    assert float(travel_loss(model, seen, ahead)) == 0.0
    assert float(travel_loss(model, 2.0 * seen, ahead)) > 0.1


def test_the_goal_stays_clean_in_training_and_the_loss_is_of_both(model):
    batch = trajectory_batches(Trajectories(walk()), SHAPE, 16, horizons=(8,))(
        torch.Generator(device="cpu").manual_seed(1)
    )
    met = []
    model.denoiser.network.register_forward_pre_hook(lambda _, given: met.append(given[0].detach()))
    loss, parts = trajectory_loss(model, batch)
    clean = model.normalization.normalized(batch.rows)
    torch.testing.assert_close(met[0][:, -1, [4, 2]], clean[:, -1, [4, 2]])
    assert not torch.allclose(met[0][:, -1, 3], clean[:, -1, 3])
    assert float(loss.detach()) > parts["travel_loss"] > 0.0
