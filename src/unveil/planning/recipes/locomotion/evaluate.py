"""Score a locomotion planner: `unveil eval locomotion`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.locomotion.config import check_logbase, folder_name
from unveil.planning.recipes.locomotion.pair import models_of
from unveil.planning.recipes.locomotion.planner import planner_with, with_scale
from unveil.runs.flags import changed

if TYPE_CHECKING:
    from unveil.planning.recipes.locomotion.config import EvalLocomotion
    from unveil.runs.progress import Progress


def evaluate_locomotion(config: EvalLocomotion, progress: Progress) -> dict[str, object]:
    """Act in all episodes at once; returns metrics."""
    import mujoco
    import torch

    from unveil.errors import UnveilError
    from unveil.planning.evaluation.locomotion import decisions_per_second, locomotion_metrics, roll
    from unveil.planning.worlds.locomotion.body import SCORE_SOURCE, body_of
    from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes

    check_logbase(config.logbase)
    if config.job.threads:
        torch.set_num_threads(config.job.threads)
    try:
        body = body_of(config.dataset)
    except ValueError as error:
        place = config.checkpoint or str(config.logbase / folder_name(config.dataset))
        raise ValueError(
            f"{error}; runs of other bodies plan in Python: unveil.load({place!r}).act(observation)"
        ) from error
    pair = models_of(config)
    shape, trained = pair.model.shape, str(pair.described.get("dataset") or "")
    if (shape.actions, shape.observations) != (body.actions, body.observations):
        raise UnveilError(
            f"this diffusion is of {shape.observations} observations and {shape.actions} actions, but "
            f"{body.name} has {body.observations} and {body.actions}; give the `dataset` it was trained on"
            + (f", {trained}" if trained else "")
        )
    try:
        own = body_of(trained).name
    except ValueError:  # the training data name no body
        own = body.name
    if own != body.name:
        raise UnveilError(
            f"these weights were trained on {trained}, but `dataset={config.dataset}` is of another body; "
            f"give a {own} set"
        )
    config = changed(config, plan_horizon=config.settings.planned(shape.horizon))
    config, ratios = with_scale(config, pair)
    settings, planner = config.settings, planner_with(config, pair)
    world = LocomotionEpisodes(body, config.episodes, config.job.seed, config.version)
    planner.reset()
    roll(
        world,
        planner.act,
        config.max_episode_length,
        lambda t: progress("acting", t, config.max_episode_length, {"return": world.returns.mean()}),
    )
    metrics = locomotion_metrics(world)
    rate = decisions_per_second(body, planner.act, planner.reset, 20, config.job.seed, config.version)
    metrics |= {
        "decisions_per_second": rate,
        "candidates": settings.candidates,
        "sampling_steps": settings.steps,
    }
    world_name = f"gymnasium {body.title}-{config.version}, mujoco {mujoco.__version__}"
    protocol = f"{world_name}, D4RL's score, {config.max_episode_length} steps"
    if settings.guidance != "none":
        metrics["guidance_scale"] = float(settings.scale)
    result = {
        "metrics": metrics,
        "surprise": ratios,
        "returns": world.returns.tolist(),
        "protocol": protocol,
        "mujoco": mujoco.__version__,
    }
    result["score"] = {"min": body.score_min, "max": body.score_max, "source": SCORE_SOURCE}
    return {**result, "dataset": config.dataset, "record": str(record_path(config))}


def record_path(config: EvalLocomotion) -> Path:
    """The default file of a result, as in jannerm/diffuser:
    <logbase>/<dataset>/plans/<settings>/<seed>/rollout.json."""
    paths, it = config.loadpaths, config.settings
    plan = f"{config.preset}_H{it.planned(paths.horizon)}_T{paths.n_diffusion_steps}_d{paths.discount}"
    how = f"_K{it.candidates}_{it.guidance}_{it.select}_S{it.steps}"
    plans = config.logbase / folder_name(config.dataset) / "plans"
    return plans / (plan + how) / str(config.job.seed) / "rollout.json"
