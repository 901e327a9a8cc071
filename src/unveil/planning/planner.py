"""Planning by diffusion: paths between any two points, chosen among candidates, and a body driven along
them."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unveil.checks import kind, number, whole
from unveil.planning.path_model import PathModel
from unveil.planning.path_sampler import OnState, PathSampler
from unveil.planning.plan import Plan
from unveil.planning.plan_request import Via, Waypoint, floats, in_legs, recorded, waypoints
from unveil.planning.planner_settings import LADDER
from unveil.planning.planner_settings import PlannerSettings as PlannerSettings
from unveil.planning.pursuit import Pursuit
from unveil.sampling.noise import generators


class Planner:
    """A path planner with a trained `PathModel`. It knows data, observation and goal, but neither a map nor a
    simulator.

    >>> planner = unveil.load("maze-large")
    >>> planner.plan((1.0, 1.0), (7.0, 9.0)).path          # (H, 2) positions in cells
    >>> planner.reset(goal=(7.0, 9.0))
    >>> planner.act(observation)                           # (4,) -> (2,): position and velocity -> force in
    [-1, 1]

    Every body has its own random generator: the n-th body that this planner drives, counted over calls of
    `reset`, has seed + n, so its noise does not depend on the bodies beside it. The n-th plan of `plan` and
    `plan_many` has a generator of its own, with seed + n.

    Args:
        model: the trained model.
        settings: how paths are planned and followed.
        seed: seed of the noise of the first body and of the first plan, at least 0.
    Attributes:
        costs: milliseconds of a plan on this machine by (steps, candidates), measured by the first call with
            a budget; planners of one model may share it.
    Raises:
        ValueError: a model or settings of another type, or a seed below 0.
    """

    def __init__(self, model: PathModel, settings: PlannerSettings | None = None, *, seed: int = 0) -> None:
        kind("planner: model", model, PathModel)
        self.model = model.eval()
        self.settings = PlannerSettings() if settings is None else settings
        kind("planner: settings", self.settings, PlannerSettings)
        self._seed = whole("planner: seed", seed, 0, 2**62)
        self._sampler = PathSampler(self.model)
        self._plans = self._first = 0  # calls of `plan`; the number of body 0 since `reset`
        self._generators: list[torch.Generator] = []  # of each body
        self._pursuit: Pursuit | None = None
        self.plans: list[Plan | None] = []  # the first plan of each body
        self.replans = 0
        self._single = True
        self._via: tuple[Waypoint, ...] = ()
        self.costs: dict[tuple[int, int], float] = {}

    @property
    def longest(self) -> int:
        """Number of positions of the longest plan."""
        return self.model.shape.longest

    def plan(
        self,
        start: Sequence[float] | np.ndarray,
        goal: Sequence[float] | np.ndarray,
        *,
        via: Sequence[Via] = (),
        horizon: int | None = None,
        budget_ms: float | None = None,
        on_state: OnState | None = None,
        noise: np.ndarray | Tensor | None = None,
    ) -> Plan:
        """Plan from start to goal.

        Args:
            start, goal: positions (D,), or observations whose first D numbers are the position, in the data's
                units.
            via: waypoints (index, position): the position number `index` of the path (0 is the start) is this
                one; NaN leaves a coordinate free. One sample contains all waypoints. Where every index is
                None, each leg is sampled separately and the legs are joined, so the path may be longer than
                any path in the data.
            horizon: number of positions, `stride` environment steps apart at the pace of the data; by default
                each candidate has another, from the learned travel time.
            budget_ms: wall time to spend, in milliseconds; it decides steps and candidates. The first call
                with a budget measures this machine.
            on_state: called with all candidates (K, H, D) in the data's units, and the diffusion time t, from
                noise to plan; with those of all legs (legs K, H, D) where each leg is sampled separately.
            noise: (K, L, D), recorded standard normal noise of K candidates, used instead of drawn noise;
                `temperature` does not scale it. L must be at least the length of the plan; `longest` always
                suffices. Where every index of `via` is None: (legs, K, L, D).
        Returns:
            The chosen path and its candidates.
        Raises:
            ValueError: a wrong shape, a number that is not finite, a position outside the data's range, or a
                horizon or index that the network cannot take.
        """
        settings = self.settings if budget_ms is None else self.within(budget_ms)
        stops = waypoints(via)
        source = (
            self._next()
            if noise is None
            else recorded(noise, 4 if in_legs(stops, horizon) else 3, self.model.shape)
        )
        return self._plan(
            floats("start", start), floats("goal", goal), stops, horizon, settings, source, on_state
        )

    def plan_many(
        self,
        starts: Float[np.ndarray, "N S"],
        goals: Float[np.ndarray, "N G"],
        *,
        noise: np.ndarray | Tensor | None = None,
    ) -> list[Plan]:
        """Plan from each start to its goal, all sampled together. The plans are those of single calls of
        `plan`.

        Args:
            starts, goals: (N, S) and (N, G), positions or observations.
            noise: (N, K, L, D), recorded noise; see `plan`.
        Raises:
            ValueError: as `plan`, or another number of starts than of goals.
        """
        begins, ends = floats("starts", starts), floats("goals", goals)
        if begins.ndim != 2 or ends.ndim != 2 or len(begins) != len(ends):
            raise ValueError(
                f"plan_many: starts (N, S) and goals (N, G) are needed, got shapes {begins.shape} and "
                f"{ends.shape}"
            )
        draws = None if noise is None else recorded(noise, 4, self.model.shape)
        if draws is not None and len(draws) != len(begins):
            raise ValueError(f"plan: noise is for {len(draws)} plans, but there are {len(begins)}")
        sources = [self._next() for _ in begins] if draws is None else list(draws)
        pairs = zip(begins, ends, sources, strict=True)
        requests = [self._sampler.request(s, g, (), None, self.settings, source) for s, g, source in pairs]
        return self._sampler.solve(requests, self.settings)

    def _plan(
        self,
        start: np.ndarray,
        goal: np.ndarray,
        via: tuple[Waypoint, ...],
        horizon: int | None,
        settings: PlannerSettings,
        source: torch.Generator | Tensor,
        on_state: OnState | None = None,
    ) -> Plan:
        sampler = self._sampler
        if in_legs(via, horizon):
            legs = sampler.leg_requests(start, goal, via, settings, source)
            return sampler.joined(sampler.solve(legs, settings, on_state), legs[-1], settings)
        request = sampler.request(start, goal, via, horizon, settings, source)
        return sampler.solve([request], settings, on_state)[0]

    def _next(self) -> torch.Generator:
        """The generator of the next plan of `plan` and `plan_many`."""
        self._plans += 1
        return generators(self._seed, 1, first=self._plans - 1)[0]

    def reset(self, goal: Sequence[float] | np.ndarray, via: Sequence[Via] = ()) -> None:
        """Forget all plans. From now on go to `goal`.

        Args:
            goal: (D,), or (B, D) with one goal for each of B bodies.
            via: waypoints of a single body, as in `plan`; the body passes each before it goes on.
        Raises:
            ValueError: a wrong shape, a number that is not finite, a goal outside the data's range, or `via`
                for several bodies.
        """
        goals = floats("goal", goal)
        if goals.ndim not in (1, 2) or not len(goals):
            raise ValueError(
                f"planner.reset: a goal (D,), or one for each body (B, D), is needed, got shape {goals.shape}"
            )
        if via and goals.ndim != 1:
            raise ValueError("planner.reset: waypoints need a single goal")
        stops = waypoints(via)
        for _, point in stops:
            self._sampler.point(point, "via", free=True)
        self._single, self._via = goals.ndim == 1, stops
        goals = np.array([self._sampler.point(g, "goal") for g in np.atleast_2d(goals)])
        self._pursuit = Pursuit(goals, self.settings.gains)
        self.plans = [None] * len(goals)
        self.replans = 0
        self._first += len(self._generators)
        self._generators = []

    def act(self, observation: Float[np.ndarray, "*B 4"]) -> Float[np.ndarray, "*B 2"]:
        """Force in [-1, 1] for an observation (x, y, vx, vy).

        The first call plans; later calls follow the plan, and plan again when the body strayed from the path
        or is stuck.

        Raises:
            ValueError: no goal yet (call `reset`), a wrong shape, or numbers that are not finite.
        """
        if self._pursuit is None:
            raise ValueError("planner.act: no goal yet; call planner.reset(goal) first")
        seen = floats("observation", observation)
        count = len(self._pursuit.goals)
        if seen.shape != ((4,) if self._single else (count, 4)) or not np.isfinite(seen).all():
            shape = "(4,)" if self._single else f"({count}, 4)"
            raise ValueError(
                f"planner.act: the observation must be {shape} finite numbers (x, y, vx, vy), got "
                f"{seen!r:.80}"
            )
        seen = np.atleast_2d(seen)
        if not self._generators:
            self._generators = generators(self._seed, count, first=self._first)
        if self._pursuit.lost.any():
            self._plan_lost(seen)
        force = self._pursuit.act(seen)
        return force[0] if self._single else force

    def _plan_lost(self, seen: np.ndarray) -> None:
        """Plan for the bodies that have no plan, or have lost theirs."""
        assert self._pursuit is not None
        if self._via:
            return self._plan_via(seen[0])
        lost = np.flatnonzero(self._pursuit.lost).tolist()
        fresh = [i for i in lost if self.plans[i] is None]
        again = [i for i in lost if self.plans[i] is not None]
        for bodies, warm in ((fresh, False), (again, True)):
            requests = [
                self._sampler.request(
                    seen[i], self._pursuit.goals[i], (), None, self.settings, self._generators[i]
                )._replace(guess=self._pursuit.remaining(i) if warm else None)
                for i in bodies
            ]
            for i, plan in zip(bodies, self._sampler.solve(requests, self.settings, warm=warm), strict=True):
                self.plans[i] = self.plans[i] or plan
                self._pursuit.follow_points(i, plan.followed)
            self.replans += len(bodies) * warm

    def _plan_via(self, seen: np.ndarray) -> None:
        """Plan the path of a body through its waypoints, or through those that are left."""
        assert self._pursuit is not None
        left, first = self._pursuit.gates[0], self.plans[0] is None
        via = self._via if first else tuple((None, self._pursuit.points[0, gate].copy()) for gate in left)
        plan = self._plan(seen, self._pursuit.goals[0], via, None, self.settings, self._generators[0])
        self.plans[0] = self.plans[0] or plan
        self._pursuit.follow_points(0, plan.followed, plan.followed_gates)
        self.replans += not first

    def within(self, budget_ms: float) -> PlannerSettings:
        """The settings with the most steps and candidates that a plan within the budget can have on this
        machine. The first call measures it.

        Args:
            budget_ms: wall time of one plan, in milliseconds.
        Raises:
            ValueError: not a positive number.
        """
        if number("plan: budget_ms", budget_ms) <= 0:
            raise ValueError(f"plan: budget_ms must be positive, got {budget_ms}")
        sampler = self._sampler
        if not self.costs:
            for steps, candidates in LADDER:
                trial = replace(self.settings, steps=steps, candidates=candidates)
                seconds: list[float] = []
                for _ in range(4):
                    began = time.perf_counter()
                    request = sampler.request(sampler.low, sampler.high, (), None, trial, generators(0, 1)[0])
                    sampler.solve([request], trial)
                    seconds.append(time.perf_counter() - began)
                self.costs[steps, candidates] = 1000.0 * sorted(seconds[1:])[1]
        affordable = [rung for rung, cost in self.costs.items() if cost <= budget_ms] or [LADDER[0]]
        return replace(self.settings, steps=affordable[-1][0], candidates=affordable[-1][1])
