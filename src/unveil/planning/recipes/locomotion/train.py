"""Train on recorded locomotion: `unveil train locomotion` and `unveil train value`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unveil.checks import whole
from unveil.planning.recipes.locomotion.config import check_logbase, folder_name
from unveil.runs.flags import flat

if TYPE_CHECKING:
    import torch

    from unveil.planning.data.episodes import Episodes
    from unveil.planning.recipes.locomotion.config import TrainLocomotion, TrainValue
    from unveil.planning.trajectory_model import TrajectoryModel, ValueModel
    from unveil.planning.trajectory_training import TrajectoryBatch
    from unveil.runs.progress import Progress
    from unveil.runs.training import Task


def run_folder(config: TrainLocomotion | TrainValue) -> Path:
    """The run folder, <logbase>/<dataset>/<prefix>_H<horizon>_T<steps>[_d<discount>], named as in
    jannerm/diffuser."""
    name = f"{config.prefix}_H{config.horizon}_T{config.n_diffusion_steps}"
    discount = getattr(config, "discount", None)
    return config.run.out or config.logbase / folder_name(config.dataset) / (
        name if discount is None else f"{name}_d{discount}"
    )


def train_locomotion(config: TrainLocomotion, progress: Progress) -> Path:
    """Train a `TrajectoryModel`; returns the run folder."""
    return _train(config, "locomotion", partial(diffusion_task, config), progress)


def train_value(config: TrainValue, progress: Progress) -> Path:
    """Train a `ValueModel`; returns the run folder."""
    return _train(config, "value", partial(value_task, config), progress)


def _train(
    config: TrainLocomotion | TrainValue,
    recipe: str,
    task_of: Callable[[Episodes, dict[str, Any]], Task],
    progress: Progress,
) -> Path:
    """Train the model of a task, from a data set to a run folder."""
    from unveil.runs.training import begin, run_task

    check(config)
    flags = (
        config.run
        if may_autocast(config) or config.run.bfloat16 is not None
        else replace(config.run, bfloat16=False)
    )
    device = begin(flags, run_folder(config))
    episodes = training_episodes(config)
    described = _described(config, episodes, recipe)
    task, run = task_of(episodes, described), run_folder(config)
    if config.start_from is not None:
        begin_with(task.model, config.start_from, described)
    run_task(task, flags, device, run, described, type(config)(), progress)
    return run


def begin_with(model: torch.nn.Module, place: Path, described: Mapping[str, Any]) -> None:
    """Copy the averaged weights of a run into a new model, and its normalisation if the run has one.

    Raises:
        UnveilError: no run of this recipe, or one with another network or diffusion.
    """
    from dataclasses import asdict, replace

    import torch

    from unveil.errors import UnveilError
    from unveil.planning.recipes.locomotion.models import read_locomotion_config, shape_of
    from unveil.runs.checkpoints import find_checkpoint, read_weights

    folder = find_checkpoint(str(place))
    theirs = read_locomotion_config(folder, "value" if described["recipe"] == "value" else "locomotion")
    shapes = [
        asdict(replace(shape_of(config), horizon=1)) | {"model": config.get("model", "unet")}
        for config in (theirs, described)
    ]
    if differing := [
        f"{name} {shapes[0][name]}, here {shapes[1][name]}"
        for name in shapes[0]
        if shapes[0][name] != shapes[1][name]
    ]:
        raise UnveilError(f"`start_from={place}` has {'; '.join(differing)}; train with the same")
    tensors = read_weights(folder, model.state_dict())
    own = theirs.get("normalized", True)
    taken = {name: value for name, value in tensors.items() if own or not name.startswith("normalization.")}
    floats = {
        name: value.to(torch.float32) if value.is_floating_point() else value for name, value in taken.items()
    }
    model.load_state_dict(model.state_dict() | floats)


def diffusion_task(config: TrainLocomotion, episodes: Episodes, described: dict[str, Any]) -> Task:
    """The task of training a denoiser of windows of actions and observations."""
    import torch

    from unveil.planning.data.trajectories import Trajectories, ranks, returns_to_go
    from unveil.planning.recipes.locomotion.models import shape_of, trajectory_model
    from unveil.planning.trajectory_training import trajectory_batches, trajectory_loss

    torch.manual_seed(config.run.seed)  # initial weights
    model = trajectory_model(described)
    learn_normalization(model, episodes, config.normalizer)
    targets = None
    if shape_of(described).returns:
        targets = torch.from_numpy(
            ranks(returns_to_go(episodes, config.returns_discount, config.termination_penalty))
        )
    windows, shape = Trajectories(episodes), shape_of(described)

    def draws(count: int) -> Callable[[torch.Generator], TrajectoryBatch]:
        return trajectory_batches(
            windows, shape, count, targets, horizons=lengths(config), untold=config.untold
        )

    loss = partial(trajectory_loss, action_weight=config.action_weight, discount=config.loss_discount)
    return _task(config, model, draws, loss)


def value_task(config: TrainValue, episodes: Episodes, described: dict[str, Any]) -> Task:
    """The task of training a value: the return that follows a window, from the noisy window."""
    import numpy as np
    import torch

    from unveil.files.notes import note
    from unveil.network.scales import constant_scale, is_constant
    from unveil.planning.data.trajectories import Trajectories, returns_to_go
    from unveil.planning.recipes.locomotion.models import shape_of, value_model
    from unveil.planning.trajectory_training import trajectory_batches, value_loss

    targets = returns_to_go(episodes, config.discount, config.termination_penalty)
    torch.manual_seed(config.run.seed)  # initial weights
    model = value_model(described)
    learn_normalization(model, episodes, config.normalizer)
    if config.normed:
        mean, deviation = float(targets.mean(dtype=np.float64)), float(targets.std(dtype=np.float64))
        flat = bool(is_constant(np.array([2.0 * deviation]), np.abs(targets).max(keepdims=True))[0])
        model.offset.fill_(mean)
        model.scale.fill_(float(constant_scale(np.array([mean]))[0]) if flat else deviation)
        if flat:
            note(f"all returns are {mean:.6g}, but for rounding: there is nothing to guide by")
    windows, shape, returns = Trajectories(episodes), shape_of(described), torch.from_numpy(targets)

    def draws(count: int) -> Callable[[torch.Generator], TrajectoryBatch]:
        return trajectory_batches(windows, shape, count, returns, config.clean, lengths(config))

    return _task(config, model, draws, value_loss)


def _task(
    config: TrainLocomotion | TrainValue,
    model: torch.nn.Module,
    draws: Callable[[int], Callable[[torch.Generator], TrajectoryBatch]],
    loss: Callable[[torch.nn.Module, TrajectoryBatch], tuple[torch.Tensor, Mapping[str, float]]],
) -> Task:
    from unveil.runs.training import Task

    task = Task(model, draws(config.run.batch_size), loss, {}, draws=draws, size=config.run.batch_size)
    return task._replace(lower="--horizon or --width")


def learn_normalization(
    model: TrajectoryModel | ValueModel, episodes: Episodes, kind: Literal["limits", "gaussian"]
) -> None:
    """Learn the normalisation from rows (actions, observations); note the numbers that are nearly
    constant."""
    import numpy as np

    from unveil.files.notes import left_out, note

    flat = model.normalization.learn(np.concatenate([episodes.actions, episodes.observations], axis=1), kind)
    if flat:
        actions = episodes.actions.shape[1]
        names = left_out([f"action {i}" if i < actions else f"observation {i - actions}" for i in flat])
        note(f"{names} (from 0) vary by less than 1e-4 of their size, so they count as constant")


def lengths(config: TrainLocomotion | TrainValue) -> tuple[int, ...]:
    """The lengths of training windows: the shortest and its multiples, and the longest."""
    if not config.shortest:
        return (config.horizon,)
    return tuple(sorted({*range(config.shortest, config.horizon, config.shortest), config.horizon}))


def training_episodes(config: TrainLocomotion | TrainValue) -> Episodes:
    """The data set without the held-out episodes.

    Raises:
        ValueError: it has one episode only.
    """
    from unveil.planning.data.episodes import held_out
    from unveil.planning.data.source import read_episodes

    episodes = read_episodes(config.dataset)
    if config.hold_out and len(episodes.ends) < 2:
        raise ValueError(f"{config.dataset} is one episode, so none can be held out; give `hold_out=0`")
    return held_out(episodes, config.hold_out, seed=0)[0] if config.hold_out else episodes


def _described(config: TrainLocomotion | TrainValue, episodes: Episodes, recipe: str) -> dict[str, Any]:
    """The config.json: all fields of the config, and the sizes of the model under the names of
    `TrajectoryShape`."""
    from unveil.runs.training import as_json

    sizes = {
        "diffusion_steps": config.n_diffusion_steps,
        "actions": episodes.actions.shape[1],
        "observations": episodes.observations.shape[1],
        "normalized": True,
        "origin": "unveil",
        "transitions": len(episodes),
        "episodes": len(episodes.ends),
        "recipe": recipe,
        "attention": getattr(config, "attention", False),
        "predicts": "eps" if getattr(config, "predict_epsilon", False) else "x0",
        "returns": recipe == "locomotion"
        and config.model == "transformer"
        and getattr(config, "returns", None) is not False,
    }
    return as_json(flat(config) | sizes)


def may_autocast(config: TrainLocomotion | TrainValue) -> bool:
    """Whether bfloat16 may be used: not by the published value network, since on CPUs PyTorch 2.13's bfloat16
    convolution over a single position has no finite gradient."""
    return config.model == "transformer" or not hasattr(config, "clean")


def check(config: TrainLocomotion | TrainValue) -> None:
    """Refuse fields that do not fit each other.

    Raises:
        ValueError: the field, what is needed and what was given.
    """
    check_logbase(config.logbase)
    whole("`batch_size`", config.run.batch_size)
    value = hasattr(config, "clean")
    if not config.multiples:
        raise ValueError("`multiples` must be at least one number, got none")
    if getattr(config, "returns", None) and config.model == "unet":
        raise ValueError("`returns` needs `model='transformer'`: the published U-Net has no condition")
    if config.model == "transformer":
        if config.width % (2 * config.heads):
            raise ValueError(f"`width` must be a multiple of twice `heads`, got {config.width}")
        return
    if config.width % 8 or (value and config.width * config.multiples[-1] % 32):
        raise ValueError(
            "`width` must be a multiple of 8, and for values width times the last of `multiples` of 32, "
            f"got {config.width}"
        )
    if value:
        return
    halvings = len(config.multiples) - 1
    if config.horizon % 2**halvings:
        raise ValueError(
            f"`horizon={config.horizon}` cannot be halved {halvings} times; give another, or fewer "
            "`multiples`"
        )
    if config.shortest % 2**halvings:
        raise ValueError(
            f"`shortest={config.shortest}` cannot be halved {halvings} times by the unet; give "
            f"`shortest={2**halvings}`, or "
            "`shortest=0` for windows of `horizon` alone"
        )
