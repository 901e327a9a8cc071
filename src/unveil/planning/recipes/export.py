"""Plans for `unveil export`: paths between two points, and trajectories from a state, as one module."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.planning.diffuser import ACTION, POSITION, STATE, Diffuser, ends_known
from unveil.planning.guided_planner import GuidedPlanner, chosen
from unveil.planning.networks.temporal_unet import TemporalUNet
from unveil.planning.networks.temporal_unet_inference import FastUNet
from unveil.planning.networks.trajectory_transformer import SequenceTransformer
from unveil.planning.path_model import endpoint_known
from unveil.planning.planner import Planner
from unveil.planning.trajectory_inputs import check_units
from unveil.planning.trajectory_model import TrajectoryModel, return_condition
from unveil.planning.value_guidance import ValueAt
from unveil.process.grid import uniform
from unveil.runs.exported import Exportable, Sampling
from unveil.sampling.gaussian import DDIM, Ancestral
from unveil.sampling.linear_steps import linear_steps, replay

if TYPE_CHECKING:
    from unveil.runs.exported import Inputs

FINE = "float32 in the data's units"


class Paths(nn.Module):
    """Start and goal (B, D), lengths (B,) and noise (B, H, D) to paths (B, H, D) and travel times (B, Q)."""

    def __init__(self, planner: Planner, steps: int) -> None:
        super().__init__()
        self.model = planner.model
        self.steps = linear_steps(DDIM(self.model.denoiser.schedule), uniform(steps))

    def forward(self, start: Tensor, goal: Tensor, lengths: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        model, horizon = self.model, noise.shape[1]
        begin, end = model.normalized(start), model.normalized(goal)
        known = endpoint_known(lengths, horizon, model.shape.dimensions)
        first = (torch.arange(horizon, device=noise.device) == 0)[None, :, None]
        value = torch.where(first, begin[:, None], end[:, None])
        cond = model.network.prefill(model.condition(begin, end, lengths, horizon, known))
        x = replay(
            self.steps,
            lambda x_t, time: model.denoiser.at(x_t, time, cond).mean,
            noise,
            edit=lambda x: torch.where(known, value, x),
        )
        return model.denormalized(x), model.travel_steps(start, goal)


class Trajectories(nn.Module):
    """Observations (B, D) and noise (B, K, H, F) to the first action (B, A) of the best plan (B, H, F).

    For a solver that draws noise in its steps the noise is (1 + S, B, K, H, F), the initial noise first.
    """

    def __init__(self, planner: GuidedPlanner, steps: int) -> None:
        super().__init__()
        self.model, self.settings, self.candidates = (
            planner.model,
            planner.settings,
            planner.settings.candidates,
        )
        self.steps = linear_steps(planner.form.solver, uniform(steps))
        score = planner.score
        self.value = score.value if isinstance(score, ValueAt) else None
        self.score = (
            None if score is None else ValueAt(self._valued, score.t) if isinstance(score, ValueAt) else None
        )

    def _valued(self, x: Tensor, t: Tensor) -> Tensor:
        assert self.value is not None
        return self.value(x, t)

    def forward(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        model, shape, settings = self.model, self.model.shape, self.settings
        draws = noise.flatten(-4, -3)  # (B K, H, F), perhaps with a first axis
        first, later = (draws[0], list(draws[1:])) if self.steps.draws else (draws, [])
        seen = model.normalization.normalized(observations, slice(shape.actions, None))
        known = seen.repeat_interleave(self.candidates, dim=0)[:, None]  # (B K, 1, D)

        def put_back(x: Tensor) -> Tensor:
            actions = x[:, :1, : shape.features - shape.observations]
            return torch.cat([torch.cat([actions, known], dim=2), x[:, 1:]], dim=1)

        x = replay(self.steps, self.mean, first, later, put_back)
        candidates = x.unflatten(0, (-1, self.candidates))
        if self.score is None:
            best = candidates[:, 0]
        else:
            scores = self.score(x).unflatten(0, (-1, self.candidates))
            best = chosen(candidates, scores, settings.sharpness)
        return model.first_action(best).clamp(-1.0, 1.0), model.in_units(best)

    def mean(self, x_t: Tensor, time: float) -> Tensor:
        """The mean of x_0 as the planner's settings want it, without guidance by a value."""
        model, settings = self.model, self.settings
        denoiser, count = model.denoiser, x_t.shape[0]

        def conditioned(rank: float) -> Tensor:
            cond = (
                return_condition(torch.full((count,), rank, device=x_t.device))
                if model.shape.returns
                else None
            )
            return denoiser.at(x_t, time, cond).mean

        if settings.ask is None:
            mean = conditioned(torch.nan)
        elif settings.ask_scale == 1.0:
            mean = conditioned(settings.ask)
        else:
            unconditional = conditioned(torch.nan)
            mean = unconditional + settings.ask_scale * (conditioned(settings.ask) - unconditional)
        if not settings.clip:
            return mean
        norm, planned = model.normalization, model.shape.planned
        return torch.minimum(torch.maximum(mean, norm.least[planned]), norm.most[planned])


class MazePlan(nn.Module):
    """Start (B, 4), goal (B, 2) and noise (1 + S, B, H, 6) to positions (B, H, 2), as `Diffuser` plans."""

    def __init__(self, diffuser: Diffuser) -> None:
        super().__init__()
        self.model = diffuser.model
        schedule = self.model.denoiser.schedule
        self.steps = linear_steps(Ancestral(schedule), uniform(self.model.shape.diffusion_steps))

    def forward(self, start: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        model, horizon = self.model, self.model.shape.horizon
        rest = torch.zeros_like(start[:, POSITION:])
        ends = torch.stack([start, torch.cat([goal, rest], dim=1)], dim=1)  # (B, 2, 4)
        rows = torch.cat([ends[:, :1], ends[:, 1:].expand(-1, horizon - 1, -1)], dim=1)
        value = torch.cat([torch.zeros_like(rows[..., :ACTION]), rows], dim=2)
        value, known = model.normalization.normalized(value), ends_known(horizon)
        x = replay(
            self.steps,
            lambda x_t, time: model.denoiser.at(x_t, time).mean.clamp(-1.0, 1.0),
            noise[0],
            list(noise[1:]),
            lambda x: torch.where(known, value, x),
        )
        return model.normalization.denormalized(x)[..., ACTION : ACTION + POSITION]


def exportable(planner: object, sampling: Sampling) -> Exportable | None:
    """The plan of a planner that `unveil.load` returned; None for anything else.

    Raises:
        UnveilError: a planner whose plans take gradients, or without the statistics of its data.
        ValueError: a solver, which planners take from their settings, or `steps` of a Diffuser of mazes.
    """
    if not isinstance(planner, Planner | GuidedPlanner | Diffuser):
        return None
    if sampling.solver is not None:
        raise ValueError("`solver` is for policies; a planner has the solver of its settings")
    if isinstance(planner, Planner):
        return _paths(planner, sampling)
    if isinstance(planner, GuidedPlanner):
        return _trajectories(planner, sampling)
    if sampling.steps is not None:
        raise ValueError("`steps`: Diffuser as published takes all steps of its training; leave it out")
    return _maze_plan(planner)


def _paths(planner: Planner, sampling: Sampling) -> Exportable:
    model, steps = planner.model, sampling.steps or planner.settings.steps
    shape, patch = model.shape, model.shape.patch
    horizon = shape.longest // patch * patch
    single = Planner(model, replace(planner.settings, candidates=1, steps=steps))
    visited = model.support.nonzero()

    def draw(count: int) -> dict[str, Tensor]:
        generator = torch.Generator(device="cpu").manual_seed(count)
        cells = visited[torch.randint(len(visited), (2 * count,), generator=generator)]
        points = (model.support_low + (cells + 0.5) * model.support_bin).float()
        return {
            "start": points[:count],
            "goal": points[count:],
            "lengths": torch.randint(2, horizon + 1, (count,), generator=generator),
            "noise": torch.randn((count, horizon, shape.dimensions), generator=generator),
        }

    def library(inputs: Inputs) -> tuple[Tensor, ...]:
        paths: list[Tensor] = []
        rows = zip(*(inputs[name] for name in ("start", "goal", "lengths", "noise")), strict=True)
        for start, goal, length, noise in rows:
            plan = single.plan(start.numpy(), goal.numpy(), horizon=int(length), noise=noise[None])
            rest = np.repeat(plan.path[-1:], horizon - len(plan.path), axis=0)
            paths.append(torch.from_numpy(np.concatenate([plan.path, rest])).float())
        with torch.no_grad():
            return torch.stack(paths), model.travel_steps(inputs["start"], inputs["goal"])

    return Exportable(
        Paths(planner, steps).eval(),
        draw,
        ("paths", "travel"),
        {
            **{name: {0: "batch"} for name in ("start", "goal", "lengths")},
            "noise": {0: "batch", 1: (patch, "horizon")},
        },
        library,
        {
            "kind": "path planner",
            "inputs": {
                "start": f"(batch, {shape.dimensions}) {FINE}",
                "goal": f"(batch, {shape.dimensions}) {FINE}",
                "lengths": f"(batch,) int64, positions of each path, 2 .. horizon, {shape.stride} steps of "
                "the environment apart",
                "noise": f"(batch, horizon, {shape.dimensions}) float32, standard normal times "
                f"{planner.settings.temperature:g}; the horizon is a multiple of {patch}",
            },
            "outputs": {
                "paths": f"(batch, horizon, {shape.dimensions}) {FINE}; the goal fills the rest of a path",
                "travel": "(batch, 5), the quantiles 0.1, 0.25, 0.5, 0.75 and 0.9 of steps to the goal",
            },
            "steps": steps,
        },
        ("choosing among candidates and following the path are not in the graph",),
    )


def _trajectories(planner: GuidedPlanner, sampling: Sampling) -> Exportable:
    check_units(planner.model, False)
    if planner.form.scale != 0.0 or planner.steer is not None:
        raise UnveilError(
            "export: this planner is guided by the gradient of a value or a cost, which a graph does not "
            "hold; load it with guidance='none' and without `steer`, and choose by select='critic'"
        )
    if planner.score is not None and not isinstance(planner.score, ValueAt):
        raise UnveilError(
            "export: the score of this planner is a function of your own; give one of `value_at`"
        )
    settings = replace(planner.settings, steps=sampling.steps or planner.settings.steps, warm_steps=None)
    if settings.anchored:
        raise UnveilError("export: `anchored` plans are not supported; load the planner without it")
    cold = GuidedPlanner(planner.model, planner.form, planner.score, settings)
    model, shape = planner.model, planner.model.shape
    module = Trajectories(cold, settings.steps).eval()
    k, horizon, features, draws = settings.candidates, cold.horizon, shape.features, module.steps.draws
    multiple = rows_multiple(model)

    def draw(count: int) -> dict[str, Tensor]:
        generator = torch.Generator(device="cpu").manual_seed(count)
        uniform_rows = 2.0 * torch.rand((count, shape.observations), generator=generator) - 1.0
        own = slice(shape.actions, None)
        size = (count, k, horizon, features)
        noise = torch.randn((1 + draws, *size) if draws else size, generator=generator)
        return {"observations": model.normalization.denormalized(uniform_rows, own).float(), "noise": noise}

    def library(inputs: Inputs) -> tuple[Tensor, ...]:
        fresh = GuidedPlanner(model, cold.form, cold.score, settings)
        best = fresh.best(inputs["observations"].numpy(), noise=inputs["noise"])
        with torch.no_grad():
            return model.first_action(best).clamp(-1.0, 1.0), model.in_units(best)

    axis = 1 if draws else 0
    axes: dict[str, dict[int, str | tuple[int, str]]] = {
        "observations": {0: "batch"},
        "noise": {axis: "batch"},
    }
    if horizon % multiple == 0 and horizon > multiple:
        axes["noise"][axis + 2] = (multiple, "horizon")
    notes = ["the last plan is not used (warm_steps)"] if planner.settings.warm_steps is not None else []
    several = (
        f", (1 + {draws}, batch, {k}, horizon, {features}): initial noise, then each step's" if draws else ""
    )
    return Exportable(
        module,
        draw,
        ("actions", "plan"),
        axes,
        library,
        {
            "kind": "trajectory planner",
            "inputs": {
                "observations": f"(batch, {shape.observations}) {FINE}",
                "noise": f"(batch, {k}, horizon, {features}) float32, standard normal times "
                f"{settings.temperature:g}, of {k} candidates{several}",
            },
            "outputs": {
                "actions": f"(batch, {shape.actions}), the first action, {FINE}, clipped to -1 .. 1",
                "plan": f"(batch, horizon, {features}) {FINE}, the best candidate",
            },
            "steps": settings.steps,
            "solver": type(cold.form.solver).__name__,
        },
        tuple(notes),
    )


def rows_multiple(model: TrajectoryModel) -> int:
    """The number of which the horizons of a network's plans are multiples."""
    network = model.denoiser.network
    if isinstance(network, TemporalUNet | FastUNet):
        return 2 ** (len(model.shape.multiples) - 1)
    return network.trunk.patch if isinstance(network, SequenceTransformer) else model.shape.horizon


def _maze_plan(diffuser: Diffuser) -> Exportable:
    check_units(diffuser.model, False)
    module = MazePlan(diffuser).eval()
    shape, draws, norm = diffuser.model.shape, module.steps.draws, diffuser.model.normalization

    def draw(count: int) -> dict[str, Tensor]:
        generator = torch.Generator(device="cpu").manual_seed(count)
        own = slice(ACTION, None)
        rows = norm.denormalized(2.0 * torch.rand((2, count, STATE), generator=generator) - 1.0, own).float()
        noise = torch.randn((1 + draws, count, shape.horizon, shape.features), generator=generator)
        return {"start": rows[0], "goal": rows[1, :, :POSITION].clone(), "noise": noise}

    def library(inputs: Inputs) -> tuple[Tensor, ...]:
        own = Diffuser(diffuser.model)
        paths = [
            own.plan(start.numpy(), goal.numpy(), noise=noise).path
            for start, goal, noise in zip(
                inputs["start"], inputs["goal"], inputs["noise"].unbind(1), strict=True
            )
        ]
        return (torch.from_numpy(np.stack(paths)).float(),)

    return Exportable(
        module,
        draw,
        ("path",),
        {"start": {0: "batch"}, "goal": {0: "batch"}, "noise": {1: "batch"}},
        library,
        {
            "kind": "Diffuser of mazes",
            "inputs": {
                "start": f"(batch, {STATE}) {FINE}: x, y and their velocities",
                "goal": f"(batch, {POSITION}) {FINE}",
                "noise": f"(1 + {draws}, batch, {shape.horizon}, {shape.features}) float32, standard normal: "
                "initial noise, then each step's",
            },
            "outputs": {"path": f"(batch, {shape.horizon}, {POSITION}) positions, {FINE}"},
            "steps": shape.diffusion_steps,
        },
    )
