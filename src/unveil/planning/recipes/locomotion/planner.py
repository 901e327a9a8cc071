"""From a locomotion config and its models to a planner, with the settings of its guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unveil.planning.recipes.locomotion.checks import given_scale
from unveil.planning.recipes.locomotion.pair import models_of

if TYPE_CHECKING:
    import torch

    from unveil.planning.guided_planner import GuidedPlanner, GuidedSettings
    from unveil.planning.recipes.locomotion.config import EvalLocomotion
    from unveil.planning.trajectory_model import TrajectoryModel, ValueModel
    from unveil.planning.value_guidance import Form


PLANNED = 16  # rows of a plan by default, where as many were trained with


def planner_of(config: EvalLocomotion) -> GuidedPlanner:
    """The planner that a config describes, with weights from the zoo or from its load paths."""
    models = models_of(config)
    return planner_with(with_scale(config, *models)[0], *models)


def planner_with(config: EvalLocomotion, model: TrajectoryModel, value: ValueModel | None) -> GuidedPlanner:
    """The planner that a config describes, with these models."""
    from unveil.planning.guided_planner import GuidedPlanner, value_at

    if value is None and (config.guidance != "none" or config.select != "none"):
        asks = "--preset ask, which needs none" if model.shape.returns else "--guidance none --select none"
        raise ValueError(
            f"guidance and selection need a value; give {asks}, name one (--value-loadpath), or train one: unveil train value"
        )
    score = None
    if value is not None and config.select != "none":
        score = value_at(value, 0.0 if config.select == "critic" else 1.0 / value.shape.diffusion_steps)
    return GuidedPlanner(
        model, form_of(config, model, value), score, settings_of(config, model), seed=config.seed
    )


def settings_of(config: EvalLocomotion, model: TrajectoryModel) -> GuidedSettings:
    """How the planner of a config samples and chooses; of a model that is told returns, the best unless the config says another."""
    from unveil.planning.guided_planner import GuidedSettings

    return GuidedSettings(
        candidates=config.batch_size,
        steps=config.sampling_steps,
        horizon=planned_rows(config, model),
        temperature=config.temperature,
        warm_steps=config.warm_steps,
        sharpness=config.sharpness,
        anchored=config.anchored,
        ask=1.0 if config.ask is None and model.shape.returns else config.ask,
        ask_scale=config.ask_scale,
        clip=config.clip_denoised,
    )


def planned_rows(config: EvalLocomotion, model: TrajectoryModel) -> int:
    """Rows of a plan; by default few, and never more than were trained with."""
    if config.plan_horizon == "auto":
        return min(PLANNED, model.shape.horizon)
    return model.shape.horizon if config.plan_horizon is None else config.plan_horizon


def form_of(config: EvalLocomotion, model: TrajectoryModel, value: ValueModel | None) -> Form:
    """How samples are guided, by name."""
    from unveil.planning import value_guidance as forms
    from unveil.sampling.gaussian import DDIM, Ancestral, DPMpp2M

    schedule = model.denoiser.schedule
    solver: Any = {
        "ddim": DDIM(schedule),
        "ancestral": Ancestral(schedule, "small", config.temperature),
        "dpmpp": DPMpp2M(schedule),
    }[config.solver]
    if config.guidance == "none" or value is None:
        return forms.unguided(solver)
    scale = given_scale(config.scale)
    made: dict[str, Callable[[], Form]] = {
        "tilted": lambda: forms.belief_shift(value, schedule, solver, scale),
        "mean": lambda: forms.mean_shift(value, schedule, scale, config.temperature),
        "ascend": lambda: forms.ascent(
            value,
            schedule,
            model.shape.diffusion_steps,
            scale,
            config.n_guide_steps,
            config.t_stopgrad,
            config.scale_grad_by_std,
            config.temperature,
        ),
    }
    return made[config.guidance]()


def with_scale(
    config: EvalLocomotion, model: TrajectoryModel, value: ValueModel | None
) -> tuple[EvalLocomotion, dict[float, float]]:
    """`--scale auto` as a number: the largest of a geometric grid whose plans surprise the model no more than what was recorded.

    The plans are single candidates, from 256 states of episodes that were not trained on. Also: every scale's surprise over that of
    the recording.

    Raises:
        UnveilError: the model was trained on all episodes.
    """
    import sys
    from dataclasses import replace

    import torch

    from unveil.planning.data.episodes import held_out
    from unveil.planning.data.source import read_episodes
    from unveil.planning.data.trajectories import Trajectories
    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.value_guidance import largest_unsurprising

    if config.scale != "auto" or config.guidance == "none" or value is None:
        return config, {}
    share = held_out_share(config)
    _, held = held_out(read_episodes(config.dataset), share, seed=0)
    windows = Trajectories(held)
    first = windows.draw(256, torch.Generator(device="cpu").manual_seed(config.seed))
    rows, _ = windows.windows(first, planned_rows(config, model))
    recorded = model.normalization.normalized(rows.to(model.device))[..., model.shape.planned]
    states = rows[:, 0, model.shape.actions :].numpy()
    single = replace(
        config,
        batch_size=1,
        warm_steps=None,
        sharpness=None,
        anchored=False,
        plan_horizon=planned_rows(config, model),
    )
    settings = settings_of(single, model)

    def plans(scale: float) -> torch.Tensor:
        form = form_of(replace(config, scale=str(scale)), model, value)
        return GuidedPlanner(model, form, None, settings, seed=config.seed).best(states)

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
            f"unveil: --scale auto chose {scale:g}: {what} ({tried}); judge it by returns, or give a number\n"
        )
    return replace(config, scale=str(scale)), ratios


def held_out_share(config: EvalLocomotion) -> float:
    """The share of episodes that the diffusion of this config was not trained on.

    Raises:
        UnveilError: it was trained on all, as the original's are.
    """
    from unveil.errors import UnveilError
    from unveil.planning.recipes.locomotion.models import read_locomotion_config
    from unveil.planning.recipes.locomotion.pair import diffusion_place
    from unveil.planning.weights.diffuser_folder import is_original
    from unveil.planning.weights.diffuser_models import ORIGIN

    place = diffusion_place(config)
    described = {"origin": ORIGIN} if is_original(place) else read_locomotion_config(place)
    if described.get("origin") == ORIGIN:
        raise UnveilError(
            "--scale auto needs episodes that were not trained on, but the original trains on all of its data; give a number"
        )
    if not described.get("hold_out"):
        raise UnveilError(
            "--scale auto needs episodes that were not trained on; train with --hold-out 0.05, or give a number"
        )
    return float(described["hold_out"])
