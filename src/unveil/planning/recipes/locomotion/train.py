"""Train on recorded locomotion: `unveil train locomotion` and `unveil train value`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unveil.checks import whole
from unveil.files.json_objects import JsonObject
from unveil.planning.recipes.locomotion.config import TrainValue, check_logbase, folder_name
from unveil.runs.flags import flat

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float

    from unveil.planning.data.episodes import Episodes
    from unveil.planning.recipes.locomotion.config import SharedFlags, TrainLocomotion
    from unveil.planning.trajectory_model import TrajectoryModel, ValueModel
    from unveil.planning.trajectory_training import TrajectoryBatch
    from unveil.runs.progress import Progress
    from unveil.runs.training import Task

LOWER = "--horizon or --width"
INHERITED = (
    *("model", "horizon", "shortest", "n_diffusion_steps", "inverse", "width", "multiples", "depth", "heads"),
    *("patch", "normalizer", "returns", "predict_epsilon", "attention"),
)  # settings of a checkpoint that a training with its weights keeps
STATISTICS = ("normalization.", "offset", "scale")  # tensors that normalise the data, and a value's returns


def run_folder(config: TrainLocomotion | TrainValue) -> Path:
    """The run folder, <logbase>/<dataset>/<prefix>_H<horizon>_T<steps>[_d<discount>], named as in
    jannerm/diffuser."""
    shared = config.shared
    name = f"{config.prefix}_H{shared.horizon}_T{shared.n_diffusion_steps}"
    name += f"_d{config.discount}" if isinstance(config, TrainValue) else ""
    return config.run.out or shared.logbase / folder_name(shared.dataset) / name


def train_locomotion(config: TrainLocomotion, progress: Progress) -> Path:
    """Train a `TrajectoryModel`; returns the run folder."""
    return _train(config, progress)


def train_value(config: TrainValue, progress: Progress) -> Path:
    """Train a `ValueModel`; returns the run folder."""
    return _train(config, progress)


def _train(config: TrainLocomotion | TrainValue, progress: Progress) -> Path:
    """Train a model, from a data set to a run folder."""
    from unveil.runs.training import begin

    run = run_folder(config)
    config, begun = begun_with(config)
    check(config)
    device = begin(config.run, run)
    train_on(config, training_episodes(config.shared), {}, device, progress, begun=begun)
    return run


def begun_with(config: TrainLocomotion | TrainValue) -> tuple[TrainLocomotion | TrainValue, Path | None]:
    """The config with the sizes of the checkpoint that `from` names, and its folder; None without `from`."""
    from unveil.planning.recipes.locomotion.models import read_locomotion_config
    from unveil.runs.finetuning import beginning, inherited

    folder = beginning(config.run, run_folder(config), config.shared.start_from)
    if folder is None or not config.run.source:
        return config, None
    has = read_locomotion_config(folder, "value" if isinstance(config, TrainValue) else "locomotion")
    return inherited(config, renamed_sizes(has), INHERITED), folder


def train_on(
    config: TrainLocomotion | TrainValue,
    episodes: Episodes,
    more: Mapping[str, object],
    device: torch.device,
    progress: Progress,
    returns: Float[np.ndarray, " N"] | None = None,
    begun: Path | None = None,
) -> None:
    """Train a diffusion or a value on episodes, and write its run folder.

    Args:
        more: further contents of config.json, such as the interface.
        device: what `begin` returned.
        returns: what the return condition or the value learns; by default the return that follows a step.
        begun: the checkpoint that `from` names.
    """
    from unveil.planning.recipes.locomotion.models import read_locomotion_config
    from unveil.runs.finetuning import check_sizes, freeze, take_over
    from unveil.runs.training import run_task

    flags, shared = config.run, config.shared
    value = isinstance(config, TrainValue)
    if value and shared.model == "unet" and flags.bfloat16 is None:
        # on CPUs PyTorch 2.13's bfloat16 convolution over a single position has no finite gradient
        flags = replace(flags, bfloat16=False)
    kind = "value" if value else "locomotion"
    described = _described(config, episodes, kind) | dict(more)
    if begun is not None:
        names = {"observations": "observed numbers", "actions": "numbers of an action"}
        check_sizes(described, read_locomotion_config(begun, kind), flags.source, **names)
    if isinstance(config, TrainValue):
        task = value_task(config, episodes, described, returns)
    else:
        task = diffusion_task(config, episodes, described, returns)
    if begun is not None:
        take_over(task.model, begun, flags, STATISTICS)
        freeze(flags, None, "a planner of trajectories")
    if shared.start_from is not None:
        begin_with(task.model, shared.start_from, described)
    run_task(task, flags, device, run_folder(config), described, type(config)(), progress)


def renamed_sizes(has: JsonObject) -> JsonObject:
    """A config.json with the fields of a training, which converted checkpoints have by other names."""
    own = {"n_diffusion_steps": has["diffusion_steps"], "predict_epsilon": has["predicts"] == "eps"}
    return {"model": "unet"} | has | own


def begin_with(model: torch.nn.Module, place: Path, described: JsonObject) -> None:
    """Copy the averaged weights of a run into a new model, and its normalisation if the run has one.

    Raises:
        UnveilError: no run of this recipe, or one with another network or diffusion.
    """
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


def diffusion_task(
    config: TrainLocomotion,
    episodes: Episodes,
    described: dict[str, object],
    returns: Float[np.ndarray, " N"] | None = None,
) -> Task:
    """The task of training a denoiser of windows of actions and observations."""
    import torch

    from unveil.planning.data.trajectories import Trajectories, ranks, returns_to_go
    from unveil.planning.recipes.locomotion.models import trajectory_model
    from unveil.planning.trajectory_training import trajectory_batches, trajectory_loss
    from unveil.runs.training import Task

    shared, size = config.shared, config.run.batch_size
    torch.manual_seed(config.run.seed)  # initial weights
    model = trajectory_model(described)
    learn_normalization(model, episodes, shared.normalizer)
    targets = None
    if model.shape.returns:
        if returns is None:
            returns = returns_to_go(episodes, config.returns_discount, shared.termination_penalty)
        targets = torch.from_numpy(ranks(returns))
    windows, horizons = Trajectories(episodes), lengths(shared)
    if model.shape.goal:
        longest = int((episodes.ends - episodes.starts).max())
        horizons = tuple(h for h in horizons if h <= longest) or (longest,)

    def draws(count: int) -> Callable[[torch.Generator], TrajectoryBatch]:
        return trajectory_batches(windows, model.shape, count, targets, horizons=horizons, drop=config.untold)

    loss = partial(trajectory_loss, action_weight=config.action_weight, discount=config.loss_discount)
    return Task(model, draws(size), loss, {}, draws=draws, size=size, lower=LOWER)


def value_task(
    config: TrainValue,
    episodes: Episodes,
    described: dict[str, object],
    returns: Float[np.ndarray, " N"] | None = None,
) -> Task:
    """The task of training a value: the return that follows a window, from the noisy window."""
    import numpy as np
    import torch

    from unveil.files.notes import note
    from unveil.network.scales import constant_scale, is_constant
    from unveil.planning.data.trajectories import Trajectories, returns_to_go
    from unveil.planning.recipes.locomotion.models import value_model
    from unveil.planning.trajectory_training import trajectory_batches, value_loss
    from unveil.runs.training import Task

    shared, size = config.shared, config.run.batch_size
    targets = returns
    if targets is None:
        targets = returns_to_go(episodes, config.discount, shared.termination_penalty)
    torch.manual_seed(config.run.seed)  # initial weights
    model = value_model(described)
    learn_normalization(model, episodes, shared.normalizer)
    if config.normed:
        mean, deviation = float(targets.mean(dtype=np.float64)), float(targets.std(dtype=np.float64))
        constant = bool(is_constant(np.array([2.0 * deviation]), np.abs(targets).max(keepdims=True))[0])
        model.offset.fill_(mean)
        model.scale.fill_(float(constant_scale(np.array([mean]))[0]) if constant else deviation)
        if constant:
            note(f"all returns are {mean:.6g}, apart from rounding: no value can guide plans")
    windows, known, horizons = Trajectories(episodes), torch.from_numpy(targets), lengths(shared)

    def draws(count: int) -> Callable[[torch.Generator], TrajectoryBatch]:
        return trajectory_batches(windows, model.shape, count, known, config.clean, horizons)

    return Task(model, draws(size), value_loss, {}, draws=draws, size=size, lower=LOWER)


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


def lengths(shared: SharedFlags) -> tuple[int, ...]:
    """The lengths of training windows: the shortest and its multiples, and the longest."""
    if not shared.shortest:
        return (shared.horizon,)
    return tuple(sorted({*range(shared.shortest, shared.horizon, shared.shortest), shared.horizon}))


def training_episodes(shared: SharedFlags) -> Episodes:
    """The data set without the held-out episodes.

    Raises:
        ValueError: it has one episode only.
    """
    from unveil.planning.data.source import read_episodes

    return trained_on(read_episodes(shared.dataset), shared)


def trained_on(episodes: Episodes, shared: SharedFlags) -> Episodes:
    """The episodes without the held-out ones.

    Raises:
        ValueError: there is one episode only.
    """
    from unveil.planning.data.episodes import held_out

    if not shared.hold_out:
        return episodes
    if len(episodes.ends) < 2:
        raise ValueError(f"{shared.dataset} is one episode, so none can be held out; give `hold_out=0`")
    return held_out(episodes, shared.hold_out, seed=0)[0]


def _described(config: TrainLocomotion | TrainValue, episodes: Episodes, recipe: str) -> dict[str, object]:
    """The config.json: all fields of the config, and the sizes of the model under the names of
    `TrajectoryShape`."""
    from unveil.runs.training import as_json

    fields = flat(config)
    sizes = {
        "diffusion_steps": config.shared.n_diffusion_steps,
        "actions": episodes.actions.shape[1],
        "observations": episodes.observations.shape[1],
        "normalized": True,
        "origin": "unveil",
        "transitions": len(episodes),
        "episodes": len(episodes.ends),
        "recipe": recipe,
        "attention": fields.get("attention", False),
        "predicts": "eps" if fields.get("predict_epsilon") else "x0",
        "returns": fields.get("returns", False) is not False and config.shared.model == "transformer",
    }
    return as_json(fields | sizes)


def check(config: TrainLocomotion | TrainValue) -> None:
    """Refuse fields that do not fit each other.

    Raises:
        ValueError: the field, what is needed and what was given.
    """
    shared, value = config.shared, isinstance(config, TrainValue)
    check_logbase(shared.logbase)
    whole("`batch_size`", config.run.batch_size)
    if not shared.multiples:
        raise ValueError("`multiples` must be at least one number, got none")
    if shared.model == "transformer":
        if shared.width % (2 * shared.heads):
            raise ValueError(f"`width` must be a multiple of twice `heads`, got {shared.width}")
        return
    if not isinstance(config, TrainValue) and config.returns:
        raise ValueError("`returns` needs `model='transformer'`: the published U-Net has no condition")
    if shared.width % 8 or (value and shared.width * shared.multiples[-1] % 32):
        raise ValueError(
            "`width` must be a multiple of 8, and for values width times the last of `multiples` of 32, "
            f"got {shared.width}"
        )
    halvings = 0 if value else len(shared.multiples) - 1
    if shared.horizon % 2**halvings:
        raise ValueError(
            f"`horizon={shared.horizon}` cannot be halved {halvings} times; give another, or fewer "
            "`multiples`"
        )
    if shared.shortest % 2**halvings:
        raise ValueError(
            f"`shortest={shared.shortest}` cannot be halved {halvings} times by the unet; give "
            f"`shortest={2**halvings}`, or `shortest=0` for windows of `horizon` alone"
        )
