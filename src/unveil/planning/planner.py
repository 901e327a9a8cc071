"""Planning by diffusion: paths between any two points, chosen among candidates, and a body driven along them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unveil.checks import kind, number, whole
from unveil.planning.path_geometry import first_within, resampled, retimed, travel_time
from unveil.planning.path_model import LEVELS, PathModel, endpoint_known
from unveil.planning.plan import Plan
from unveil.planning.plan_request import Request, Via, floats, in_legs, initial, padded, recorded, vias
from unveil.planning.planner_settings import LADDER, PlannerSettings
from unveil.planning.pursuit import SPACING, Pursuit
from unveil.process.corrupt import corrupt
from unveil.process.grid import uniform
from unveil.sampling.edit import Inpaint
from unveil.sampling.gaussian import DDIM
from unveil.sampling.loop import sample
from unveil.sampling.noise import generators


class Planner:
    """A path planner with a trained `PathModel`. It sees data, observation and goal; never a map or a simulator.

    >>> planner = unveil.load("maze-large")
    >>> planner.plan((1.0, 1.0), (7.0, 9.0)).path          # (H, 2) positions in cells
    >>> planner.reset(goal=(7.0, 9.0))
    >>> planner.act(observation)                           # (4,) -> (2,): position and velocity -> force in [-1, 1]

    Every body draws from its own generator: the n-th that this planner drives, counted over calls of `reset`, has seed + n, and its noise
    does not depend on the bodies beside it. Plans that are asked for draw apart: the n-th of `plan` and `plan_many` has seed + n.

    Args:
        seed: of the first body's noise.
    Raises:
        ValueError: no model of paths, settings of another type, or a seed below 0.
    """

    def __init__(self, model: PathModel, settings: PlannerSettings | None = None, *, seed: int = 0) -> None:
        kind("planner: model", model, PathModel)
        self.model = model.eval()
        self.settings = PlannerSettings() if settings is None else settings
        kind("planner: settings", self.settings, PlannerSettings)
        self.device = model.mean.device
        self._seed = whole("planner: seed", seed, 0, 2**62)
        self._plans = self._first = 0  # plans that were asked for; the number of body 0 since `reset`
        self._streams: list[torch.Generator] = []  # of each body
        self._pursuit: Pursuit | None = None
        self.plans: list[Plan | None] = []  # each body's first plan
        self._single = True
        self._via: tuple[Via, ...] = ()
        self._costs: dict[tuple[int, int], float] = {}
        self.replans = 0
        self._low = model.support_low.cpu().double().numpy()
        self._high = self._low + model.support_bin.cpu().double().numpy() * model.support.shape[0]
        self._speed = model.speed_limit.cpu().double().numpy()
        self._acceleration = model.acceleration_limit.cpu().double().numpy()

    @property
    def longest(self) -> int:
        """Positions of the longest plan."""
        return self.model.shape.longest

    def plan(
        self,
        start: Sequence[float] | np.ndarray,
        goal: Sequence[float] | np.ndarray,
        *,
        via: Sequence[Via] = (),
        horizon: int | None = None,
        budget_ms: float | None = None,
        on_state: Callable[[np.ndarray, float], None] | None = None,
        noise: np.ndarray | Tensor | None = None,
    ) -> Plan:
        """Plan from start to goal.

        Args:
            start, goal: positions (D,), or observations whose first D numbers are the position, in the data's units.
            via: waypoints (index, position): the path's position number `index` (0 is the start) has this position, NaN leaving a
                coordinate free, and one sample holds them all. Where every index is None each leg is sampled by itself and the
                legs are joined, so the whole may be longer than any path in the data.
            horizon: number of positions, `stride` steps apart at the pace of the data; by default several, from the learned travel time.
            budget_ms: wall time to spend; decides steps and candidates. The first call with a budget measures this machine.
            on_state: called with all candidates (K, H, D) in the data's units, and t, from noise to plan.
            noise: (K, L, D), recorded standard normal noise of K candidates, in place of drawn noise; `temperature` does not scale it. L
                positions, such as `longest`, are enough for the plan. Where every index of `via` is None: (legs, K, L, D).
        Raises:
            ValueError: a wrong shape, a number that is not finite, a point outside the data's range, or a horizon or index that the
                network cannot take.
        """
        settings = self.settings if budget_ms is None else self._within(budget_ms)
        source: torch.Generator | Tensor = (
            self._next()
            if noise is None
            else recorded(noise, 4 if in_legs(via, horizon) else 3, self.model.shape)
        )
        return self._plan(
            floats("start", start), floats("goal", goal), vias(via), horizon, settings, source, on_state
        )

    def plan_many(
        self,
        starts: Float[np.ndarray, "N S"],
        goals: Float[np.ndarray, "N G"],
        *,
        noise: np.ndarray | Tensor | None = None,
    ) -> list[Plan]:
        """One plan for each pair, all sampled together: the same as by calls of `plan` one after another.

        Args:
            noise: (N, K, L, D), recorded; see `plan`.
        Raises:
            ValueError: as `plan`, or starts and goals that do not pair.
        """
        begins, ends = floats("starts", starts), floats("goals", goals)
        if begins.ndim != 2 or ends.ndim != 2 or len(begins) != len(ends):
            raise ValueError(
                f"plan_many: starts (N, S) and goals (N, G) are needed, got shapes {begins.shape} and {ends.shape}"
            )
        given = None if noise is None else recorded(noise, 4, self.model.shape)
        if given is not None and len(given) != len(begins):
            raise ValueError(f"plan: noise is for {len(given)} plans, but there are {len(begins)}")
        sources = [self._next() for _ in begins] if given is None else list(given)
        pairs = zip(begins, ends, sources, strict=True)
        return self._solve(
            [self._request(s, g, (), None, self.settings, source) for s, g, source in pairs], self.settings
        )

    def _plan(
        self,
        start: np.ndarray,
        goal: np.ndarray,
        via: tuple[Via, ...],
        horizon: int | None,
        settings: PlannerSettings,
        source: torch.Generator | Tensor,
        on_state: Callable[[np.ndarray, float], None] | None = None,
    ) -> Plan:
        if in_legs(via, horizon):
            stops = [start, *(self._point(np.asarray(point, float), "via") for _, point in via), goal]
            if isinstance(source, Tensor) and len(source) != len(stops) - 1:
                raise ValueError(f"plan: noise is for {len(source)} legs, but there are {len(stops) - 1}")
            sources = source if isinstance(source, Tensor) else [source] * (len(stops) - 1)
            legs = [
                self._request(a, b, (), None, settings, own)
                for (a, b), own in zip(pairwise(stops), sources, strict=True)
            ]
            return self._joined(self._solve(legs, settings), legs[-1])
        return self._solve([self._request(start, goal, via, horizon, settings, source)], settings, on_state)[
            0
        ]

    def _next(self) -> torch.Generator:
        """The generator of the next plan that is asked for."""
        self._plans += 1
        return generators(self._seed, 1, first=self._plans - 1)[0]

    def reset(self, goal: Sequence[float] | np.ndarray, via: Sequence[Via] = ()) -> None:
        """Forget all plans; from now on go to `goal` (D,), or to one goal for each of B bodies (B, D).

        Args:
            via: waypoints on the way of a single body, as in `plan`; the body touches each before it goes on.
        Raises:
            ValueError: a wrong shape, a number that is not finite, a goal outside the data's range, or `via` for several bodies.
        """
        goals = floats("goal", goal)
        if goals.ndim not in (1, 2) or not len(goals):
            raise ValueError(
                f"planner.reset: a goal (D,), or one for each body (B, D), is needed, got shape {goals.shape}"
            )
        if via and goals.ndim != 1:
            raise ValueError("planner.reset: waypoints need a single goal")
        via = vias(via)
        for _, point in via:
            self._point(np.asarray(point, float), "via", free=True)
        self._single, self._via = goals.ndim == 1, via
        goals = np.array([self._point(g, "goal") for g in np.atleast_2d(goals)])
        self._pursuit = Pursuit(goals, self.settings.gains)
        self.plans = [None] * len(goals)
        self.replans = 0
        self._first += len(self._streams)
        self._streams = []

    def act(self, observation: Float[np.ndarray, "*B 4"]) -> Float[np.ndarray, "*B 2"]:
        """Force in [-1, 1] for an observation (x, y, vx, vy): follows the plan, makes one first, and again after straying or sticking.

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
                f"planner.act: the observation must be {shape} finite numbers (x, y, vx, vy), got {seen!r:.80}"
            )
        seen = np.atleast_2d(seen)
        if not self._streams:
            self._streams = generators(self._seed, count, first=self._first)
        if self._pursuit.lost.any():
            self._plan_lost(seen)
        force = self._pursuit.act(seen)
        return force[0] if self._single else force

    def _plan_lost(self, seen: np.ndarray) -> None:
        assert self._pursuit is not None
        if self._via:
            return self._plan_via(seen[0])
        fresh, again = [], []
        for i in np.flatnonzero(self._pursuit.lost):
            (fresh if self.plans[i] is None else again).append(int(i))
        for indices, warm in ((fresh, False), (again, True)):
            if not indices:
                continue
            requests = []
            for i in indices:
                request = self._request(
                    seen[i], self._pursuit.goals[i], (), None, self.settings, self._streams[i]
                )
                requests.append(request._replace(guess=self._pursuit.remaining(i)) if warm else request)
            for i, plan in zip(indices, self._solve(requests, self.settings, warm=warm), strict=True):
                if self.plans[i] is None:
                    self.plans[i] = plan
                self._pursuit.follow(i, plan.path)
            self.replans += len(indices) * warm

    def _plan_via(self, seen: np.ndarray) -> None:
        """The first plan of a body with waypoints, or one through those that are left."""
        assert self._pursuit is not None
        left, first = self._pursuit.gates[0], self.plans[0] is None
        via = self._via if first else tuple((None, tuple(self._pursuit.points[0, gate])) for gate in left)
        plan = self._plan(seen, self._pursuit.goals[0], via, None, self.settings, self._streams[0])
        if first:
            self.plans[0] = plan
        self._pursuit.follow(0, plan.path, plan.gates)
        self.replans += not first

    def _request(
        self,
        start: np.ndarray,
        goal: np.ndarray,
        via: tuple[Via, ...],
        horizon: int | None,
        settings: PlannerSettings,
        source: torch.Generator | Tensor,
    ) -> Request:
        start, goal = self._point(start, "start"), self._point(goal, "goal")
        legs = [start, *(self._point(np.asarray(p, float), "via", free=True) for _, p in via), goal]
        for k in range(1, len(legs) - 1):
            legs[k] = np.where(np.isnan(legs[k]), legs[k - 1], legs[k])
        ends = torch.tensor(np.array([legs[:-1], legs[1:]]), dtype=torch.float32, device=self.device)
        with torch.no_grad():
            quantiles = (
                self.model.travel_steps(ends[0], ends[1]).cpu().double().numpy() / self.model.shape.stride
            )
        k = settings.candidates
        factors = np.interp((np.arange(k) + 0.5) / k, (0.0, 1.0), settings.pace)
        pace = quantiles[:, LEVELS.index(0.5), None] * factors  # (legs, K) positions
        places: list[int] = []
        spent = 0
        for (index, _), leg in zip(via, pace, strict=False):
            spent = index if index is not None else max(1, round(spent + np.median(leg)))
            places.append(spent)
        if places != sorted(set(places)) or (places and places[0] < 1):
            raise ValueError(f"plan: the indices of via must be whole numbers that rise from 1, got {places}")
        first = places[-1] if places else 0
        lengths = first + np.ceil(pace[-1]).astype(int) + 1
        if horizon is not None:
            lengths = np.full(k, whole("plan: horizon", horizon, 0))
        if horizon is not None or places:
            least = max(2, first + 2 if places else 2)
            if lengths.min() < least or lengths.max() > self.longest:
                got = horizon if horizon is not None else int(lengths.max())
                raise ValueError(
                    f"plan: horizon {got} is impossible; this network takes {least} to {self.longest} positions here"
                )
        lengths = np.clip(lengths, 2, self.longest)
        points = tuple((i, np.asarray(p, float)) for i, (_, p) in zip(places, via, strict=True))
        return Request(
            start,
            goal,
            points,
            tuple(int(n) for n in lengths),
            initial(source, k, int(lengths.max()), self.model.shape, settings.temperature),
            None,
        )

    def _point(self, value: np.ndarray, name: str, free: bool = False) -> np.ndarray:
        d = self.model.shape.dimensions
        if value.ndim != 1 or len(value) < d or (name == "via" and len(value) != d):
            raise ValueError(
                f"plan: {name} must be {d} numbers (or an observation that begins with them), got shape {value.shape}"
            )
        value = value[:d]
        if not (np.isfinite(value) | (free & np.isnan(value))).all():
            raise ValueError(f"plan: {name} must be finite numbers, got {value.tolist()}")
        low, high = self._low, self._high
        if ((value < low - 0.5) | (value > high + 0.5)).any():
            raise ValueError(
                f"plan: {name} {value.tolist()} lies outside the data, which reach from {low.round(2)} to {high.round(2)}"
            )
        return value

    def _within(self, budget_ms: float) -> PlannerSettings:
        if number("plan: budget_ms", budget_ms) <= 0:
            raise ValueError(f"plan: budget_ms must be positive, got {budget_ms}")
        if not self._costs:
            for rung in LADDER:
                trial = replace(self.settings, steps=rung[0], candidates=rung[1])
                spent = []
                for _ in range(4):
                    began = time.perf_counter()
                    self._solve(
                        [self._request(self._low, self._high, (), None, trial, generators(0, 1)[0])], trial
                    )
                    spent.append(time.perf_counter() - began)
                self._costs[rung] = 1000.0 * sorted(spent[1:])[1]
        affordable = [rung for rung, cost in self._costs.items() if cost <= budget_ms] or [LADDER[0]]
        return replace(self.settings, steps=affordable[-1][0], candidates=affordable[-1][1])

    def _solve(
        self,
        requests: list[Request],
        settings: PlannerSettings,
        on_state: Callable[[np.ndarray, float], None] | None = None,
        warm: bool = False,
        rows: int = 256,
    ) -> list[Plan]:
        """Sample all candidates of all requests, similar horizons together, and choose."""
        order = sorted(range(len(requests)), key=lambda i: max(requests[i].horizons))
        plans: dict[int, Plan] = {}
        block = max(1, rows // settings.candidates)
        for first in range(0, len(order), block):
            part = [requests[i] for i in order[first : first + block]]
            paths, lengths = self._sample(part, settings, on_state, warm)
            k = settings.candidates
            for j, i in enumerate(order[first : first + block]):
                plans[i] = self._choose(requests[i], paths[j * k : (j + 1) * k], lengths[j * k : (j + 1) * k])
        return [plans[i] for i in range(len(requests))]

    @torch.inference_mode()
    def _sample(
        self,
        requests: list[Request],
        settings: PlannerSettings,
        on_state: Callable[[np.ndarray, float], None] | None,
        warm: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Candidates (N K, H, D) in the data's units, and their lengths (N K,)."""
        model, k = self.model, settings.candidates
        lengths = torch.tensor([n for r in requests for n in r.horizons], device=self.device)
        horizon = ceil(int(lengths.max()) / model.shape.patch) * model.shape.patch
        start = self._rows([r.start for r in requests], k)
        goal = self._rows([r.goal for r in requests], k)
        known = endpoint_known(lengths, horizon, model.shape.dimensions).clone()
        value = goal[:, None].expand(-1, horizon, -1).clone()
        value[:, 0] = start
        for j, request in enumerate(requests):
            for index, point in request.vias:
                given = torch.from_numpy(~np.isnan(point)).to(self.device)
                known[j * k : (j + 1) * k, index] |= given
                place = torch.from_numpy(np.nan_to_num(point)).to(value)
                value[j * k : (j + 1) * k, index] = torch.where(
                    given, model.normalized(place), value[j * k : (j + 1) * k, index]
                )
        cond = model.network.prefill(model.condition(start, goal, lengths, horizon, known))
        noise = torch.cat([request.noise[:, :horizon] for request in requests]).to(self.device)
        times = uniform(settings.steps, start=settings.warm_start if warm else 1.0)
        x = noise
        if warm:
            guesses = [
                padded(r.guess, n, horizon) for r in requests for n in r.horizons if r.guess is not None
            ]
            guess = model.normalized(torch.tensor(np.array(guesses), dtype=torch.float32, device=self.device))
            x = corrupt(model.denoiser.schedule, guess, times[0], noise)
        edit = Inpaint(known, value)

        def shown(state: Tensor, t: Tensor) -> None:
            assert on_state is not None
            on_state(model.denormalized(state).cpu().double().numpy(), float(t))

        if on_state is not None:
            shown(edit(x, times[0], None), times[0])
        denoise = partial(model.denoiser, cond=cond)
        solver = DDIM(model.denoiser.schedule)
        paths = sample(denoise, solver, x, times, edit=edit, on_step=shown if on_state else None)
        if not bool(torch.isfinite(paths).all()):
            raise ValueError("plan: paths are not finite; the weights are damaged")
        return model.denormalized(paths).cpu().double().numpy(), lengths.cpu().numpy()

    def _rows(self, points: list[np.ndarray], k: int) -> Tensor:
        stacked = torch.tensor(np.array(points), dtype=torch.float32, device=self.device)
        return self.model.normalized(stacked).repeat_interleave(k, dim=0)

    def _choose(self, request: Request, paths: np.ndarray, lengths: np.ndarray) -> Plan:
        """The fastest candidate at the data's speed limit, among those that run least where no data went: up to 2 % of a path counts as 0.

        A leap longer than the speed limit allows between two positions counts as unsupported too.
        """
        longest = int(lengths.max())
        paths = paths[:, :longest]
        middle = 0.5 * (paths[:, 1:] + paths[:, :-1])
        points = torch.from_numpy(np.concatenate([paths, middle], axis=1)).to(self.device)
        off = (~self.model.supported(points)).cpu().numpy()
        leap = (np.abs(np.diff(paths, axis=1)) > self._speed * self.model.shape.stride * 1.05).any(2)
        unsupported = (off.sum(1) + leap.sum(1)) / (2.0 * lengths)
        duration = travel_time(paths, self._speed)
        chosen = int((duration + 1e3 * np.maximum(unsupported, 0.02)).argmin())
        path = paths[chosen, : lengths[chosen]]
        return self._described(path, request, paths, lengths, unsupported, chosen)

    def _described(
        self,
        path: np.ndarray,
        request: Request,
        paths: np.ndarray,
        lengths: np.ndarray,
        unsupported: np.ndarray,
        chosen: int,
    ) -> Plan:
        followed = resampled(path, SPACING)
        times = retimed(followed, self._speed, self._acceleration)
        arrival = float(times[first_within(followed, request.goal, self.settings.gains.hold_radius)])
        gates = tuple(index for index, _ in request.vias)
        return Plan(path, followed, times, arrival, paths, lengths, unsupported, chosen, gates)

    def _joined(self, legs: list[Plan], last: Request) -> Plan:
        """One plan of several: the chosen path of each leg, one after the other."""
        path = np.concatenate([legs[0].path, *(leg.path[1:] for leg in legs[1:])])
        length, off = (
            np.array([len(path)]),
            np.array([max(float(leg.unsupported[leg.chosen]) for leg in legs)]),
        )
        gates = np.cumsum([len(leg.path) - 1 for leg in legs[:-1]]).tolist()
        return replace(self._described(path, last, path[None], length, off, 0), gates=tuple(gates))
