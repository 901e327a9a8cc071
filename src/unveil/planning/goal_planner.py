"""Plans from an observation to a goal: the first observation and the goal of the last row are known, and the
rest is sampled.

Janner et al. 2022, section 3.3 (goal-conditioned planning as inpainting). They plan once, with a fixed number
of steps; here each plan is as long as the data need from here to the goal, a quantile that a second network
learns.
"""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unveil.arrays import axes_of, numbers
from unveil.checks import kind, whole
from unveil.planning.data.interface import Interface, goals_of, returned, rows_of
from unveil.planning.goal_settings import GoalSettings
from unveil.planning.trajectory_inputs import check_units
from unveil.planning.trajectory_model import TrajectoryModel, unconditional
from unveil.process.grid import uniform
from unveil.sampling.edit import Inpaint
from unveil.sampling.gaussian import DDIM
from unveil.sampling.guidance import clipped
from unveil.sampling.loop import sample
from unveil.sampling.noise import generators, normal_like


class GoalPlanner:
    """Map observations (B, D), and a goal for each, to actions (B, A); or single ones (D,) to (A,).

    >>> planner = unveil.load("runs/planner-own")
    >>> planner.act({"observation": seen, "desired_goal": goal})   # what a goal environment gives
    >>> planner.reset(goal); planner.act(seen)                     # of flat observations

    The n-th episode of this planner, counted over calls of `reset`, has a random generator with seed + n, as
    in `GuidedPlanner`.

    Args:
        model: the diffusion of trajectories, whose shape names a goal.
        settings: how plans are sampled and followed.
        interface: what observations and actions are.
        seed: seed of the noise of the first episode, at least 0.
    Raises:
        ValueError: a model without goals, or a seed below 0.
    """

    def __init__(
        self,
        model: TrajectoryModel,
        settings: GoalSettings | None = None,
        *,
        interface: Interface | None = None,
        seed: int = 0,
    ) -> None:
        kind("goal planner: model", model, TrajectoryModel)
        self.settings = GoalSettings() if settings is None else settings
        kind("goal planner: settings", self.settings, GoalSettings)
        if not model.shape.goal:
            raise ValueError("goal planner: this model knows no goal; it plans for returns (GuidedPlanner)")
        self.model = model.eval()
        self.interface = Interface(goal=model.shape.goal) if interface is None else interface
        self._seed = whole("goal planner: seed", seed, 0, 2**62)
        self._plans = self._first = 0  # calls of `plan`; the number of episode 0 since `reset`
        self._goals: np.ndarray | None = None
        self._streams: dict[int, torch.Generator] = {}
        self._ahead: dict[int, list[np.ndarray]] = {}  # the actions of each episode's plan that are left

    def reset(self, goal: Sequence[float] | np.ndarray | None = None) -> None:
        """Forget all plans. The next decision is the first of new episodes, with new generators.

        Args:
            goal: (G,), or (B, G) with one for each episode; None where observations hold it.
        Raises:
            ValueError: a wrong shape, or numbers that are not finite.
        """
        self._first += 1 + max(self._streams, default=-1)
        self._streams, self._ahead, self._goals = {}, {}, None
        if goal is not None:
            self._goals = self._goal_rows(goal)

    @torch.no_grad()
    def act(
        self,
        observations: Float[np.ndarray, "*B D"] | Mapping[str, object],
        *,
        goals: Float[np.ndarray, "B G"] | None = None,
        episodes: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """The next action of a plan from each observation to its goal, clipped to its limits: (*B, A), or the
        numbers (*B,) of discrete actions.

        Args:
            observations: in the data's units; a dictionary where the interface names fields, whose
                `desired_goal` is the goal.
            goals: a goal for each row, in place of that of `reset` and of the observations.
            episodes: the number of each row's episode, from 0; by default the rows are all episodes.
        Raises:
            ValueError: no goal, observations of another size or not finite, or plans or actions that are not
                finite.
        """
        seen, single = rows_of(self.interface, observations, self.model.shape.observations)
        which = list(range(len(seen))) if episodes is None else [int(i) for i in np.asarray(episodes)]
        if len(which) != len(seen) or len(set(which)) != len(which):
            raise ValueError(f"goal planner: episodes must be {len(seen)} different numbers, got {which[:8]}")
        ends = self._goals_for(observations, which) if goals is None else self._goal_rows(goals)
        if len(ends) != len(seen):
            raise ValueError(f"goal planner: {len(seen)} goals are needed, one for each row, got {len(ends)}")
        wanting = [row for row, i in enumerate(which) if not self._ahead.get(i)]
        if wanting:
            for i in which:
                if i not in self._streams:
                    self._streams[i] = generators(self._seed + self._first, 1, first=i)[0]
            own = [self._streams[which[row]] for row in wanting]
            plans = self._sampled(seen[wanting], ends[wanting], own)
            for row, plan in zip(wanting, plans, strict=True):
                self._ahead[which[row]] = self._actions(plan)
        chosen = returned(self.interface, np.stack([self._ahead[i].pop(0) for i in which]))
        return chosen[0] if single else chosen

    @torch.no_grad()
    def plan(
        self, observation: Float[np.ndarray, " D"], goal: Float[np.ndarray, " G"], horizon: int | None = None
    ) -> Float[np.ndarray, "H F"]:
        """One plan from an observation to a goal, in the data's units; its rows are (actions, observations).

        Args:
            horizon: number of rows; by default as many as the data need to the goal.
        Raises:
            ValueError: as `act`.
        """
        size = self.model.shape.observations
        seen = numbers("goal planner: plan's observation", observation, (size,), f"({size},)")
        own = generators(self._seed + self._plans, 1)
        self._plans += 1
        rows = None if horizon is None else [whole("goal planner: horizon", horizon, 2)]
        plan = self._sampled(seen[None].astype(np.float64), self._goal_rows(goal), own, rows)[0]
        return self.model.in_units(plan).cpu().double().numpy()

    @torch.no_grad()
    def lengths(self, seen: Float[np.ndarray, "B D"], goals: Float[np.ndarray, "B G"]) -> list[int]:
        """The number of rows of plans: the steps that the data need, at the pace of the settings, as a
        multiple of `shortest`, at most as trained."""
        known, ends = self._normalized(seen, goals)
        level = ("hurried", "brisk", "usual").index(self.settings.pace)
        steps = self.model.travel(torch.cat([known, ends], dim=1))[:, level].exp().clamp(1.0, 1e6).tolist()
        unit, longest = self.settings.shortest, self.model.shape.horizon
        return [min(longest, unit * max(1, ceil((count + 1.0) / unit))) for count in steps]

    def _goal_rows(self, goal: object) -> np.ndarray:
        size = len(self.model.shape.goal)
        one = axes_of(goal) == 1
        rows = numbers(
            "goal planner: goal", goal, (size,) if one else (None, size), f"({size},) or (B, {size})"
        )
        return (rows[None] if one else rows).astype(np.float64)

    def _goals_for(self, observations: object, which: list[int]) -> np.ndarray:
        """The goals (B, G) of a call."""
        goals = goals_of(self.interface, observations, len(which))
        if goals is not None:
            return goals
        if self._goals is None:
            raise ValueError(
                "goal planner: no goal yet; call reset(goal) first, or give observations with desired_goal"
            )
        if len(self._goals) == 1:
            return np.repeat(self._goals, len(which), axis=0)
        if max(which) >= len(self._goals):
            raise ValueError(f"goal planner: {len(self._goals)} goals, but episode {max(which)} has none")
        return self._goals[which]

    def _normalized(self, seen: np.ndarray, goals: np.ndarray) -> tuple[Tensor, Tensor]:
        """Observations (B, D) and goals (B, G) in normalised units."""
        check_units(self.model, normalized=False)
        model, shape = self.model, self.model.shape
        own, places = slice(shape.actions, None), list(shape.goal)
        whole_row = torch.zeros((len(goals), shape.observations), dtype=torch.float64, device="cpu")
        whole_row[:, places] = torch.from_numpy(goals)
        rows = torch.stack([torch.from_numpy(seen), whole_row]).to(model.device, torch.float32)
        known, ends = model.normalization.normalized(rows, own)
        return known, ends[:, places]

    def _actions(self, plan: Tensor) -> list[np.ndarray]:
        """The first `act_steps` actions (A,) of a normalised plan (H, F), in the data's units."""
        shape, count = self.model.shape, min(self.settings.act_steps, len(plan) - 1)
        windows = torch.stack([plan[k : k + 2] for k in range(max(1, count))])
        actions = self.model.first_action(windows).cpu().double().numpy()
        if not np.isfinite(actions).all() or actions.shape[1] != shape.actions:
            raise ValueError(f"goal planner: actions are not finite; {CAUSE}")
        return list(actions)

    def _sampled(
        self,
        seen: np.ndarray,
        goals: np.ndarray,
        own: Sequence[torch.Generator],
        rows: list[int] | None = None,
    ) -> list[Tensor]:
        """Normalised plans, one for each observation; those of one length are sampled together."""
        model, shape, settings = self.model, self.model.shape, self.settings
        known, ends = self._normalized(seen, goals)
        sizes = self.lengths(seen, goals) if rows is None else rows
        plans: dict[int, Tensor] = {}
        denoise = unconditional(model)
        if settings.clip:
            norm = model.normalization
            denoise = clipped(denoise, norm.least[shape.planned], norm.most[shape.planned])
        places = [shape.features - shape.observations + i for i in shape.goal]
        for size in sorted(set(sizes)):
            all_of = [i for i, rows_of_plan in enumerate(sizes) if rows_of_plan == size]
            for start in range(0, len(all_of), settings.rows):
                some = all_of[start : start + settings.rows]
                value = torch.zeros((len(some), size, shape.features), device=model.device)
                value[:, 0, -shape.observations :] = known[some]
                value[:, -1, places] = ends[some]
                streams = [own[i] for i in some]
                noise = settings.temperature * normal_like(value, streams)
                x = sample(
                    denoise,
                    DDIM(model.denoiser.schedule),
                    noise,
                    uniform(settings.steps),
                    edit=Inpaint(shape.first_known(size).to(model.device), value),
                    generator=streams,
                )
                if not bool(torch.isfinite(x).all()):
                    raise ValueError(f"goal planner: plans are not finite; {CAUSE}")
                plans |= dict(zip(some, x, strict=True))
        return [plans[i] for i in range(len(sizes))]


CAUSE = "the weights are damaged, or observation and goal lie far outside their data"
