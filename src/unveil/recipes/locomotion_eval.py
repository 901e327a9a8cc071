"""Planning on locomotion: `unveil eval locomotion`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from unveil.apps.guidance_forms import Form
    from unveil.apps.guided import GuidedPlanner
    from unveil.apps.trajectory_model import TrajectoryModel, ValueModel
    from unveil.recipes.locomotion import EvalLocomotion
    from unveil.recipes.maze import Progress


def evaluate_locomotion(config: EvalLocomotion, progress: Progress) -> dict[str, Any]:
    """Roll the planner out over all episodes at once; returns metrics."""
    import mujoco
    import torch

    from unveil.evaluation.locomotion import decisions_per_second, locomotion_metrics, roll
    from unveil.worlds.locomotion.body import body_of
    from unveil.worlds.locomotion.episodes import LocomotionEpisodes

    for name in ("episodes", "batch_size", "sampling_steps", "threads", "max_episode_length"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(config, name)}")
    torch.set_num_threads(config.threads)
    body = body_of(config.dataset)
    planner = planner_of(config)
    world = LocomotionEpisodes(body, config.episodes, config.seed, config.version)
    planner.reset()
    roll(
        world,
        planner.act,
        config.max_episode_length,
        lambda t: progress("acting", t, config.max_episode_length, {"return": world.returns.mean()}),
    )
    metrics = locomotion_metrics(world)
    rate = decisions_per_second(body, planner.act, planner.reset, 20, config.seed, config.version)
    metrics |= {"decisions_per_second": rate, "candidates": config.batch_size, "sampling_steps": config.sampling_steps}
    protocol = f"gymnasium {body.title}-{config.version}, mujoco {mujoco.__version__}, D4RL's score, {config.max_episode_length} steps"
    return {"metrics": metrics, "returns": world.returns.tolist(), "protocol": protocol, "mujoco": mujoco.__version__}


def planner_of(config: EvalLocomotion) -> GuidedPlanner:
    """The planner that a config describes, with weights from its load paths."""
    from unveil.apps.guided import GuidedPlanner, GuidedSettings, value_at
    from unveil.recipes.locate import find_device

    device = find_device(config.device)
    model = load_trajectories(folder_of(config, config.diffusion_loadpath), config.diffusion_epoch, device)
    value = None
    if config.select != "none" or config.guidance != "none":
        value = load_value(folder_of(config, config.value_loadpath), config.value_epoch, device)
        check_pair(model, value)
    score = None
    if value is not None and config.select != "none":
        score = value_at(value, 0.0 if config.select == "critic" else 1.0 / value.shape.diffusion_steps)
    settings = GuidedSettings(
        candidates=config.batch_size,
        steps=config.sampling_steps,
        horizon=config.plan_horizon,
        temperature=config.temperature,
        warm_steps=config.warm_steps,
        clip=config.clip_denoised,
    )
    return GuidedPlanner(model, form_of(config, model, value), score, settings, seed=config.seed)


def form_of(config: EvalLocomotion, model: TrajectoryModel, value: ValueModel | None) -> Form:
    """How samples are guided, by name."""
    from unveil.apps import guidance_forms as forms
    from unveil.sampling.gaussian import DDIM, Ancestral, DPMpp2M

    schedule = model.denoiser.schedule
    solver: Any = {
        "ddim": DDIM(schedule),
        "ancestral": Ancestral(schedule, "small", config.temperature),
        "dpmpp": DPMpp2M(schedule),
    }[config.solver]
    if config.guidance == "none" or value is None:
        return forms.unguided(solver)
    scale = float(config.scale)
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


def folder_of(config: EvalLocomotion, path: str) -> Path:
    """<logbase>/<dataset>/<path>, with the fields that `f:` asks for."""
    from dataclasses import asdict

    from unveil.recipes.template import resolve

    return config.logbase / Path(config.dataset).stem / resolve(path, asdict(config))


def load_trajectories(folder: Path, epoch: str, device: torch.device) -> TrajectoryModel:
    """The averaged weights of a diffusion run."""
    from unveil.recipes.locate import read_config, weights_file
    from unveil.recipes.locomotion import trajectory_model, with_weights
    from unveil.training.checkpoint import read_tensors

    checkpoint = at_epoch(folder, epoch)
    model = trajectory_model(read_config(checkpoint, "locomotion"))
    with_weights(model, read_tensors(weights_file(checkpoint), model.state_dict()), device)
    return model


def load_value(folder: Path, epoch: str, device: torch.device) -> ValueModel:
    """The averaged weights of a value run."""
    from unveil.recipes.locate import read_config, weights_file
    from unveil.recipes.locomotion import value_model, with_weights
    from unveil.training.checkpoint import read_tensors

    checkpoint = at_epoch(folder, epoch)
    model = value_model(read_config(checkpoint, "value"))
    with_weights(model, read_tensors(weights_file(checkpoint), model.state_dict()), device)
    return model


def at_epoch(folder: Path, epoch: str) -> Path:
    """The checkpoint of a run: the newest good one, or that of a step."""
    from unveil.errors import UnveilError
    from unveil.recipes.locate import find_checkpoint

    if epoch == "latest":
        return find_checkpoint(str(folder))
    if not epoch.isdigit():
        raise UnveilError(f"an epoch is a step number or latest, got {epoch!r}")
    return find_checkpoint(str(folder / f"checkpoint-{int(epoch)}"))


def check_pair(model: TrajectoryModel, value: ValueModel) -> None:
    """Refuse a value that cannot guide this diffusion.

    Raises:
        UnveilError: other rows, another schedule, or another normalisation.
    """
    import torch

    from unveil.errors import UnveilError

    for name in ("actions", "observations", "inverse", "diffusion_steps"):
        mine, theirs = getattr(model.shape, name), getattr(value.shape, name)
        if mine != theirs:
            raise UnveilError(f"this value was trained with {name} {theirs}, the diffusion with {mine}; train both alike")
    for name in ("low", "high"):
        if not torch.allclose(getattr(model.normalization, name), getattr(value.normalization, name), rtol=1e-3, atol=1e-3):
            raise UnveilError("this value was trained on differently normalised data than the diffusion; use one data set and --normalizer")
