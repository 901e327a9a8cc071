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
    from unveil.recipes.progress import Progress


def evaluate_locomotion(config: EvalLocomotion, progress: Progress) -> dict[str, Any]:
    """Roll the planner out over all episodes at once; returns metrics."""
    import mujoco
    import torch

    from unveil.errors import UnveilError
    from unveil.evaluation.locomotion import decisions_per_second, locomotion_metrics, roll
    from unveil.worlds.locomotion.body import body_of
    from unveil.worlds.locomotion.episodes import LocomotionEpisodes

    for name in ("episodes", "batch_size", "sampling_steps", "threads", "max_episode_length"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(config, name)}")
    torch.set_num_threads(config.threads)
    body = body_of(config.dataset)
    models = models_of(config)
    shape = models[0].shape
    if (shape.actions, shape.observations) != (body.actions, body.observations):
        raise UnveilError(
            f"this diffusion is of {shape.observations} observations and {shape.actions} actions, but {body.name} has {body.observations} "
            f"and {body.actions}; give the --dataset it was trained on"
        )
    config, ratios = with_scale(config, *models)
    planner = planner_with(config, *models)
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
    if config.guidance != "none":
        metrics["guidance_scale"] = float(config.scale)
    result = {"metrics": metrics, "surprise": ratios, "returns": world.returns.tolist(), "protocol": protocol, "mujoco": mujoco.__version__}
    return result | {"dataset": config.dataset, "record": str(record_path(config))}


def planner_of(config: EvalLocomotion) -> GuidedPlanner:
    """The planner that a config describes, with weights from the zoo or from its load paths."""
    models = models_of(config)
    return planner_with(with_scale(config, *models)[0], *models)


def planner_with(config: EvalLocomotion, model: TrajectoryModel, value: ValueModel | None) -> GuidedPlanner:
    """The planner that a config describes, with these models."""
    from unveil.apps.guided import GuidedPlanner, GuidedSettings, value_at

    if value is None and (config.guidance != "none" or config.select != "none"):
        raise ValueError("guidance and selection need a value; give --guidance none --select none, or train one: unveil train value")
    score = None
    if value is not None and config.select != "none":
        score = value_at(value, 0.0 if config.select == "critic" else 1.0 / value.shape.diffusion_steps)
    settings = GuidedSettings(
        candidates=config.batch_size,
        steps=config.sampling_steps,
        horizon=config.plan_horizon,
        temperature=config.temperature,
        warm_steps=config.warm_steps,
        sharpness=config.sharpness,
        clip=config.clip_denoised,
    )
    return GuidedPlanner(model, form_of(config, model, value), score, settings, seed=config.seed)


def models_of(config: EvalLocomotion) -> tuple[TrajectoryModel, ValueModel | None]:
    """The diffusion and, if anything needs it, the value, checked to belong together."""
    from unveil.recipes.locate import find_checkpoint, find_device

    device = find_device(config.device)
    wanted = config.select != "none" or config.guidance != "none"
    if config.checkpoint is not None:
        folder = find_checkpoint(config.checkpoint)
        model = load_trajectories(folder, device)
        value = load_value(folder, device) if wanted and (folder / "value.safetensors").is_file() else None
    else:
        model = trajectories_of(config, device)
        value = value_of(config, device) if wanted else None
    if value is not None:
        check_pair(model, value)
    if config.fast != "off":
        model, value = _fast(config, model, value)
    return model, value


def _fast(config: EvalLocomotion, model: TrajectoryModel, value: ValueModel | None) -> tuple[TrajectoryModel, ValueModel | None]:
    import torch

    from unveil.apps.fast_models import fast_trajectories, fast_value
    from unveil.network.compiled import Measured

    dtype = torch.float32 if config.fast == "float32" else torch.bfloat16
    quicker = Measured if config.compile == "auto" else None
    return fast_trajectories(model, dtype, quicker), None if value is None else fast_value(value, dtype, quicker)


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


def given_scale(text: str) -> float:
    """The scale as a number.

    Raises:
        ValueError: it is none.
    """
    from math import isfinite

    try:
        scale = float(text)
    except ValueError:
        scale = float("nan")
    if not isfinite(scale):
        raise ValueError(f"--scale is a number or auto, got {text!r}")
    return scale


def with_scale(config: EvalLocomotion, model: TrajectoryModel, value: ValueModel | None) -> tuple[EvalLocomotion, dict[float, float]]:
    """`--scale auto` as a number: the largest of a geometric grid whose plans surprise the model no more than what was recorded.

    The plans start from 256 states of episodes that were not trained on. Also: every scale's surprise over that of the recording.

    Raises:
        UnveilError: the model was trained on all episodes.
    """
    from dataclasses import replace

    import torch

    from unveil.apps.auto_scale import largest_unsurprising
    from unveil.apps.guided import GuidedPlanner, GuidedSettings
    from unveil.data.sources import read_episodes
    from unveil.data.trajectories import Trajectories, held_out
    from unveil.errors import UnveilError
    from unveil.recipes.locate import read_config

    if config.scale != "auto" or config.guidance == "none" or value is None:
        return config, {}
    run = read_config(at_epoch(folder_of(config, config.diffusion_loadpath), config.diffusion_epoch), "locomotion")
    if not run.get("hold_out"):
        raise UnveilError("--scale auto needs episodes that were not trained on; train with --hold-out 0.05, or give a number")
    _, held = held_out(read_episodes(config.dataset), run["hold_out"], seed=0)
    windows = Trajectories(held)
    first = windows.draw(256, torch.Generator(device="cpu").manual_seed(config.seed))
    rows, _ = windows.windows(first, config.plan_horizon or model.shape.horizon)
    recorded = model.normalization.normalized(rows.to(model.device))[..., model.shape.planned]
    states = rows[:, 0, model.shape.actions :].numpy()
    settings = GuidedSettings(1, config.sampling_steps, config.plan_horizon, config.temperature, clip=config.clip_denoised)

    def plans(scale: float) -> torch.Tensor:
        form = form_of(replace(config, scale=str(scale)), model, value)
        return GuidedPlanner(model, form, None, settings, seed=config.seed).best(states)

    scale, ratios = largest_unsurprising(model, plans, recorded, [10.0 ** (k / 2) for k in range(-10, 3)])
    return replace(config, scale=str(scale)), ratios


def record_path(config: EvalLocomotion) -> Path:
    """Where a result goes by default: beside the original's, <logbase>/<dataset>/plans/<what>/<seed>/rollout.json."""
    plan = f"{config.preset}_H{config.plan_horizon or config.horizon}_T{config.n_diffusion_steps}_d{config.discount}"
    how = f"_K{config.batch_size}_{config.guidance}_{config.select}_S{config.sampling_steps}"
    return config.logbase / Path(config.dataset).stem / "plans" / (plan + how) / str(config.seed) / "rollout.json"


def folder_of(config: EvalLocomotion, path: str) -> Path:
    """<logbase>/<dataset>/<path>, with the fields that `f:` asks for."""
    from dataclasses import asdict

    from unveil.recipes.template import resolve

    return config.logbase / Path(config.dataset).stem / resolve(path, asdict(config))


def trajectories_of(config: EvalLocomotion, device: torch.device) -> TrajectoryModel:
    """The diffusion at the config's load path, of either program."""
    from unveil.apps.trajectory_model import TrajectoryModel
    from unveil.errors import UnveilError

    folder = folder_of(config, config.diffusion_loadpath)
    model = _original(config, folder, config.diffusion_epoch) or load_trajectories(at_epoch(folder, config.diffusion_epoch), device)
    if not isinstance(model, TrajectoryModel):
        raise UnveilError(f"{folder} holds a value, but a diffusion is needed; see --diffusion-loadpath")
    return model.to(device)


def value_of(config: EvalLocomotion, device: torch.device) -> ValueModel:
    """The value at the config's load path, of either program."""
    from unveil.apps.trajectory_model import ValueModel
    from unveil.errors import UnveilError

    folder = folder_of(config, config.value_loadpath)
    model = _original(config, folder, config.value_epoch) or load_value(at_epoch(folder, config.value_epoch), device)
    if not isinstance(model, ValueModel):
        raise UnveilError(f"{folder} holds a diffusion, but a value is needed; see --value-loadpath")
    return model.to(device)


def _original(config: EvalLocomotion, folder: Path, epoch: str) -> TrajectoryModel | ValueModel | None:
    from unveil.recipes.original import is_original, load_original

    return load_original(folder, epoch, dataset=config.dataset) if is_original(folder) else None


def load_trajectories(checkpoint: Path, device: torch.device) -> TrajectoryModel:
    """The averaged weights of a diffusion checkpoint, or the packaged ones."""
    from unveil.recipes.locate import read_config, weights_file
    from unveil.recipes.locomotion import trajectory_model, with_weights
    from unveil.training.checkpoint import read_tensors

    model = trajectory_model(read_config(checkpoint, "locomotion"))
    with_weights(model, read_tensors(weights_file(checkpoint), model.state_dict()), device)
    return model


def load_value(checkpoint: Path, device: torch.device) -> ValueModel:
    """The averaged weights of a value checkpoint, or those packaged beside a diffusion."""
    from unveil.recipes.locate import read_config, weights_file
    from unveil.recipes.locomotion import value_model, with_weights
    from unveil.training.checkpoint import read_tensors

    packaged = checkpoint / "value.safetensors"
    config = read_config(checkpoint, "locomotion")["value"] if packaged.is_file() else read_config(checkpoint, "value")
    model = value_model(config)
    with_weights(model, read_tensors(packaged if packaged.is_file() else weights_file(checkpoint), model.state_dict()), device)
    return model


def at_epoch(folder: Path, epoch: str) -> Path:
    """The checkpoint of a run: the newest good one, or that of a step."""
    from unveil.errors import UnveilError
    from unveil.recipes.locate import find_checkpoint

    if not folder.is_dir():
        runs = sorted(str(p.parent) for p in folder.parent.parent.glob("*/*/config.json")) if folder.parent.parent.is_dir() else []
        verb = "value" if folder.parent.name == "values" else "locomotion"
        hint = (
            f"there: {', '.join(runs[:4])}"
            if runs
            else f"train one: unveil train {verb} --dataset D --logbase {folder.parent.parent.parent}"
        )
        raise UnveilError(f"{folder}: no such run; {hint}")
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

    for name in ("actions", "observations", "inverse", "diffusion_steps", "horizon"):
        mine, theirs = getattr(model.shape, name), getattr(value.shape, name)
        if mine != theirs:
            raise UnveilError(f"this value was trained with {name} {theirs}, the diffusion with {mine}; train both alike")
    for name in ("low", "high"):
        if not torch.allclose(getattr(model.normalization, name), getattr(value.normalization, name), rtol=1e-3, atol=1e-3):
            raise UnveilError("this value was trained on differently normalised data than the diffusion; use one data set and --normalizer")
