"""From requests to plans: candidates of all requests are sampled together, and the best of each is chosen."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.checks import whole
from unveil.planning.path_geometry import first_within, resampled, retimed, travel_time
from unveil.planning.path_model import LEVELS, PathModel, endpoint_known
from unveil.planning.plan import Plan
from unveil.planning.plan_request import Request, Waypoint, initial, padded
from unveil.planning.planner_settings import PlannerSettings
from unveil.planning.pursuit import SPACING, gates_among
from unveil.process.corrupt import corrupt
from unveil.process.grid import uniform
from unveil.sampling.edit import Inpaint
from unveil.sampling.gaussian import DDIM
from unveil.sampling.loop import sample

OnState = Callable[[np.ndarray, float], None]
"""Called with all candidates (K, H, D) in the data's units and the diffusion time t, after each step."""


class Candidates(NamedTuple):
    """Sampled paths of one or of several requests, in the data's units.

    Args:
        lengths: (K,), positions of each path; its goal fills the rest.
        unsupported: (K, H), positions where no data went.
        unsupported_between: (K, H - 1), likewise the midpoints between positions.
    """

    paths: Float[np.ndarray, "K H D"]
    lengths: Int[np.ndarray, " K"]
    unsupported: Bool[np.ndarray, "K H"]
    unsupported_between: Bool[np.ndarray, "K H1"]


class PathSampler:
    """Sample paths with a trained `PathModel`, and choose among them."""

    def __init__(self, model: PathModel) -> None:
        self.model = model
        self.device = model.mean.device
        self.low = model.support_low.cpu().double().numpy()
        self.high = self.low + model.support_bin.cpu().double().numpy() * model.support.shape[0]
        self._speed = model.speed_limit.cpu().double().numpy()
        self._acceleration = model.acceleration_limit.cpu().double().numpy()

    def point(self, value: np.ndarray, name: str, free: bool = False) -> Float[np.ndarray, " D"]:
        """The position that an array is, or begins with.

        Args:
            free: whether NaN may leave a coordinate free.
        Raises:
            ValueError: another shape, a number that is not finite, or a position outside the data's range.
        """
        d = self.model.shape.dimensions
        if value.ndim != 1 or len(value) < d or (name == "via" and len(value) != d):
            raise ValueError(
                f"plan: {name} must be {d} numbers (or an observation that begins with them), got shape "
                f"{value.shape}"
            )
        value = value[:d]
        if not (np.isfinite(value) | (free & np.isnan(value))).all():
            raise ValueError(f"plan: {name} must be finite numbers, got {value.tolist()}")
        if ((value < self.low - 0.5) | (value > self.high + 0.5)).any():
            raise ValueError(
                f"plan: {name} {value.tolist()} lies outside the data, which reach from {self.low.round(2)} "
                "to "
                f"{self.high.round(2)}"
            )
        return value

    def request(
        self,
        start: np.ndarray,
        goal: np.ndarray,
        via: Sequence[Waypoint],
        horizon: int | None,
        settings: PlannerSettings,
        source: torch.Generator | Tensor,
    ) -> Request:
        """The request of a plan.

        Args:
            start, goal: positions, or observations that begin with them.
            source: the generator of the noise, or recorded noise (K, L, D).
        Raises:
            ValueError: a position, a horizon or an index that cannot be.
        """
        end = self.point(goal, "goal")
        stops = [self.point(start, "start"), *(self.point(p, "via", free=True) for _, p in via), end]
        points = torch.tensor(np.array(stops), dtype=torch.float32, device=self.device)  # (2 + V, D)
        filled = points.clone()
        for i in range(1, len(filled) - 1):
            filled[i] = torch.where(filled[i].isnan(), filled[i - 1], filled[i])
        with torch.no_grad():
            quantiles = (
                self.model.travel_steps(filled[:-1], filled[1:]).cpu().double().numpy()
                / self.model.shape.stride
            )
        k = settings.candidates
        factors = np.interp((np.arange(k) + 0.5) / k, (0.0, 1.0), settings.pace)
        pace = quantiles[:, LEVELS.index(0.5), None] * factors  # (1 + V, K), positions of each leg
        gates: list[int] = []
        position = 0
        for (index, _), leg in zip(via, pace, strict=False):
            position = index if index is not None else max(1, round(position + np.median(leg)))
            gates.append(position)
        if gates != sorted(set(gates)) or (gates and gates[0] < 1):
            raise ValueError(f"plan: the indices of via must be whole numbers that rise from 1, got {gates}")
        lengths = position + np.ceil(pace[-1]).astype(int) + 1
        if horizon is not None:
            lengths = np.full(k, whole("plan: horizon", horizon, 0))
        longest = self.model.shape.longest
        if horizon is not None or gates:
            least = max(2, position + 2 if gates else 2)
            if lengths.min() < least or lengths.max() > longest:
                got = horizon if horizon is not None else int(lengths.max())
                raise ValueError(
                    f"plan: horizon {got} is impossible; this network takes {least} to {longest} positions "
                    "here"
                )
        lengths = np.clip(lengths, 2, longest)
        noise = initial(source, k, int(lengths.max()), self.model.shape, settings.temperature)
        return Request(points, end, tuple(gates), tuple(lengths.tolist()), noise)

    def leg_requests(
        self,
        start: np.ndarray,
        goal: np.ndarray,
        via: Sequence[Waypoint],
        settings: PlannerSettings,
        source: torch.Generator | Tensor,
    ) -> list[Request]:
        """The requests of the legs from waypoint to waypoint.

        Raises:
            ValueError: as `request`, or recorded noise for another number of legs.
        """
        stops = [start, *(self.point(point, "via") for _, point in via), goal]
        if isinstance(source, Tensor) and len(source) != len(stops) - 1:
            raise ValueError(f"plan: noise is for {len(source)} legs, but there are {len(stops) - 1}")
        sources = source if isinstance(source, Tensor) else [source] * (len(stops) - 1)
        return [
            self.request(a, b, (), None, settings, own)
            for (a, b), own in zip(pairwise(stops), sources, strict=True)
        ]

    def solve(
        self,
        requests: list[Request],
        settings: PlannerSettings,
        on_state: OnState | None = None,
        warm: bool = False,
        rows: int = 256,
    ) -> list[Plan]:
        """The plan of each request. Requests of similar horizons are sampled together, at most `rows`
        candidates at a time.

        Args:
            warm: begin from the requests' guesses, at `settings.warm_start`, instead of from noise.
        Raises:
            ValueError: a sampled number that is not finite.
        """
        order = sorted(range(len(requests)), key=lambda i: max(requests[i].lengths))
        plans: dict[int, Plan] = {}
        k = settings.candidates
        block = max(1, rows // k)
        for first in range(0, len(order), block):
            some = order[first : first + block]
            sampled = self._sample([requests[i] for i in some], settings, on_state, warm)
            for j, i in enumerate(some):
                own = Candidates(*(part[j * k : (j + 1) * k] for part in sampled))
                plans[i] = self._choose(requests[i], own, settings)
        return [plans[i] for i in range(len(requests))]

    @torch.inference_mode()
    def _sample(
        self, requests: list[Request], settings: PlannerSettings, on_state: OnState | None, warm: bool
    ) -> Candidates:
        """The candidates (N K, H, D) of N requests."""
        model, k = self.model, settings.candidates
        lengths = torch.tensor([n for request in requests for n in request.lengths], device=self.device)
        horizon = ceil(int(lengths.max()) / model.shape.patch) * model.shape.patch
        start, goal = (
            model.normalized(torch.stack([request.points[i] for request in requests])).repeat_interleave(k, 0)
            for i in (0, -1)
        )  # (N K, D)
        known = endpoint_known(lengths, horizon, model.shape.dimensions).clone()
        value = goal[:, None].expand(-1, horizon, -1).clone()
        value[:, 0] = start
        for j, request in enumerate(requests):
            rows = slice(j * k, (j + 1) * k)
            for gate, point in zip(request.gates, request.points[1:-1], strict=True):
                fixed = ~point.isnan()
                known[rows, gate] |= fixed
                value[rows, gate] = torch.where(fixed, model.normalized(point), value[rows, gate])
        cond = model.network.prefill(model.condition(start, goal, lengths, horizon, known))
        noise = torch.cat([request.noise[:, :horizon] for request in requests]).to(self.device)
        times = uniform(settings.steps, start=settings.warm_start if warm else 1.0)
        x = noise
        if warm:
            guesses = [
                padded(request.guess, n, horizon)
                for request in requests
                for n in request.lengths
                if request.guess is not None
            ]
            guess = model.normalized(torch.tensor(np.array(guesses), dtype=torch.float32, device=self.device))
            x = corrupt(model.denoiser.schedule, guess, times[0], noise)
        edit = Inpaint(known, value)

        def show(state: Tensor, t: Tensor) -> None:
            assert on_state is not None
            on_state(model.denormalized(state).cpu().double().numpy(), float(t))

        if on_state is not None:
            show(edit(x, times[0], None), times[0])
        denoise = partial(model.denoiser, cond=cond)
        solver = DDIM(model.denoiser.schedule)
        x = sample(denoise, solver, x, times, edit=edit, on_step=show if on_state else None)
        if not bool(torch.isfinite(x).all()):
            raise ValueError("plan: paths are not finite; the weights are damaged")
        paths = model.denormalized(x).double()
        between = 0.5 * (paths[:, 1:] + paths[:, :-1])
        parts = (paths, lengths, ~model.supported(paths), ~model.supported(between))
        return Candidates(*(part.cpu().numpy() for part in parts))

    def _choose(self, request: Request, sampled: Candidates, settings: PlannerSettings) -> Plan:
        """The fastest candidate at the data's speed limit, among those that run least where no data went.

        A share of up to 2 % of a path counts as 0. A leap between two positions that is longer than the speed
        limit allows counts as unsupported too.
        """
        lengths, longest = sampled.lengths, int(sampled.lengths.max())
        paths = sampled.paths[:, :longest]
        off = sampled.unsupported[:, :longest].sum(1) + sampled.unsupported_between[:, : longest - 1].sum(1)
        leap = (np.abs(np.diff(paths, axis=1)) > self._speed * self.model.shape.stride * 1.05).any(2)
        unsupported = (off + leap.sum(1)) / (2.0 * lengths)
        duration = travel_time(paths, self._speed)
        chosen = int((duration + 1e3 * np.maximum(unsupported, 0.02)).argmin())
        path = paths[chosen, : lengths[chosen]]
        return self._described(path, request, settings, (paths, lengths, unsupported, chosen), request.gates)

    def joined(self, legs: list[Plan], last: Request, settings: PlannerSettings) -> Plan:
        """One plan of several legs: their chosen paths, one after the other."""
        path = np.concatenate([legs[0].path, *(leg.path[1:] for leg in legs[1:])])
        length = np.array([len(path)])
        unsupported = np.array([max(float(leg.unsupported[leg.chosen]) for leg in legs)])
        gates = tuple(np.cumsum([len(leg.path) - 1 for leg in legs[:-1]]).tolist())
        return self._described(path, last, settings, (path[None], length, unsupported, 0), gates)

    def _described(
        self,
        path: np.ndarray,
        request: Request,
        settings: PlannerSettings,
        candidates: tuple[np.ndarray, np.ndarray, np.ndarray, int],
        gates: tuple[int, ...],
    ) -> Plan:
        """A plan with what follows from its path: the points to follow, their times, and the arrival."""
        followed = resampled(path, SPACING)
        times = retimed(followed, self._speed, self._acceleration)
        arrival = float(times[first_within(followed, request.goal, settings.gains.hold_radius)])
        return Plan(path, followed, times, arrival, *candidates, gates, gates_among(followed, path, gates))
