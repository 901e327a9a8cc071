"""Build the planner of a locomotion config and its models, with guidance and ranking."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.planning.recipes.locomotion.pair import Pair, models_of
from unveil.runs.flags import changed

if TYPE_CHECKING:
    import torch

    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.guided_planner_settings import GuidedSettings
    from unveil.planning.recipes.locomotion.config import EvalLocomotion
    from unveil.planning.trajectory_model import TrajectoryModel, ValueModel
    from unveil.planning.value_guidance import Form


def planner_of(config: EvalLocomotion) -> GuidedPlanner:
    """The planner of a config, with packaged weights or those of its load paths."""
    pair = models_of(config)
    return planner_with(with_scale(config, pair)[0], pair)


def planner_with(config: EvalLocomotion, pair: Pair) -> GuidedPlanner:
    """The planner of a config, with these models.

    Raises:
        ValueError: guidance or selection without a value.
    """
    from unveil.planning.data.interface import interface_of
    from unveil.planning.guided_planner import GuidedPlanner, value_at

    model, value, described = pair
    settings = settings_of(config.settings, model)
    if value is None and (settings.guidance != "none" or settings.select != "none"):
        instead = (
            "`preset='ask'`, which needs none" if model.shape.returns else "`guidance='none'` `select='none'`"
        )
        raise ValueError(
            f"guidance and selection need a value; give {instead}, name one (`value_loadpath`), or train "
            "one: unveil train value"
        )
    score = None
    if value is not None and settings.select != "none":
        score = value_at(value, 0.0 if settings.select == "critic" else 1.0 / value.shape.diffusion_steps)
    return GuidedPlanner(
        model,
        form_of(settings, model, value),
        score,
        settings,
        interface=interface_of(described),
        seed=config.job.seed,
    )


def settings_of(settings: GuidedSettings, model: TrajectoryModel) -> GuidedSettings:
    """The settings; for a model conditional on returns with plans of the best return, unless they name
    another rank."""
    return replace(settings, ask=1.0) if settings.ask is None and model.shape.returns else settings


def form_of(settings: GuidedSettings, model: TrajectoryModel, value: ValueModel | None) -> Form:
    """The form of guidance that the settings name."""
    from unveil.planning import value_guidance as forms
    from unveil.sampling.gaussian import DDIM, Ancestral, DPMpp2M

    schedule, steps, it = model.denoiser.schedule, model.shape.diffusion_steps, settings
    solver = {
        "ddim": lambda: DDIM(schedule),
        "ancestral": lambda: Ancestral(schedule, "small", it.temperature),
        "dpmpp": lambda: DPMpp2M(schedule),
    }[it.solver]()
    if it.guidance == "none" or value is None:
        return forms.unguided(solver)
    if isinstance(it.scale, str):
        raise ValueError("`scale='auto'` must be chosen before a planner is built; see `with_scale`")
    if it.guidance == "tilted":
        return forms.belief_shift(value, schedule, solver, it.scale)
    if it.guidance == "mean":
        return forms.mean_shift(value, schedule, it.scale, it.temperature)
    stop, by_variance = it.t_stopgrad, it.scale_grad_by_std
    return forms.ascent(value, schedule, steps, it.scale, it.n_guide_steps, stop, by_variance, it.temperature)


def with_scale(config: EvalLocomotion, pair: Pair) -> tuple[EvalLocomotion, dict[float, float]]:
    """The config with a number for `scale="auto"`: the largest scale of a geometric grid whose plans surprise
    the model no more than the recording does. The plans are single candidates from 256 states of episodes
    that were not trained on.

    Returns:
        The config, and each scale's surprise relative to that of the recording; no such ratios where the
        scale is a number.
    Raises:
        UnveilError: the model was trained on all episodes.
    """
    import torch

    from unveil.planning.data.episodes import held_out
    from unveil.planning.data.interface import interface_of
    from unveil.planning.data.recorded import read_for
    from unveil.planning.data.trajectories import Trajectories
    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.value_guidance import largest_unsurprising

    model, value, described = pair
    settings = settings_of(config.settings, model)
    if settings.scale != "auto" or settings.guidance == "none" or value is None:
        return config, {}
    horizon = settings.planned(model.shape.horizon)
    share = held_out_share(described)
    _, held = held_out(read_for(interface_of(described), config.dataset), share, seed=0)
    windows = Trajectories(held)
    first = windows.draw(256, torch.Generator(device="cpu").manual_seed(config.job.seed))
    rows, _ = windows.windows(first, horizon)
    recorded = model.normalization.normalized(rows.to(model.device))[..., model.shape.planned]
    states = rows[:, 0, model.shape.actions :].numpy()
    single = replace(
        settings, candidates=1, warm_steps=None, sharpness=None, anchored=False, plan_horizon=horizon
    )

    def plans(scale: float) -> torch.Tensor:
        form = form_of(replace(single, scale=scale), model, value)
        return GuidedPlanner(model, form, None, single, seed=config.job.seed).best(states)

    grid = [10.0 ** (k / 2) for k in range(-10, 3)]
    scale, ratios = largest_unsurprising(model, plans, recorded, grid)
    if not min(grid) < scale < max(grid):
        what = (
            "plans at every scale of the grid surprise the model more than the recording"
            if scale == 0.0
            else "the end of the grid"
        )
        tried = f"{min(grid):g} .. {max(grid):g}"
        sys.stderr.write(
            f"unveil: --scale auto chose {scale:g}: {what} ({tried}); compare returns, or give a number\n"
        )
    return changed(config, scale=scale), ratios


def held_out_share(described: JsonObject) -> float:
    """The fraction of episodes that the diffusion of this config.json was not trained on.

    Raises:
        UnveilError: it was trained on all episodes, as Diffuser's models are.
    """
    from unveil.errors import UnveilError
    from unveil.planning.weights.diffuser_models import ORIGIN

    if share := described.get("hold_out"):
        return float(share)
    raise UnveilError(
        "`scale='auto'` needs episodes that were not trained on, "
        + (
            "but the original trains on all of its data; give a number"
            if described.get("origin") == ORIGIN
            else "train with `hold_out=0.05`, or give a number"
        )
    )
