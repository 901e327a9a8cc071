"""Training on demonstrations of PushT: `unveil train pusht`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from unveil.files.json_objects import JsonObject
from unveil.files.notes import left_out, note
from unveil.network.normalization import Normalization
from unveil.policy.data.chunks import Chunks, check_window, published_split
from unveil.policy.distillation import STATES, student_batches, student_loss
from unveil.policy.model import PolicyModel
from unveil.policy.recipes.load import PICTURE, load_policy_model, parts_of, policy_model, read_policy_config
from unveil.policy.recipes.pusht.config import TrainPushT
from unveil.policy.recipes.pusht.data import observations_of, pusht_demonstrations
from unveil.policy.training import PolicyBatch, policy_batches, policy_loss
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.finetuning import beginning, freeze, inherited, take_over
from unveil.runs.flags import flat
from unveil.runs.progress import Progress
from unveil.runs.training import Task, as_json, begin, run_task

INHERITED = (  # by students, and by runs that begin with the weights of another
    *("observation", "network", "condition", "n_obs", "horizon", "n_action", "prefix", "diffusion_steps"),
    *("predicts", "widths", "kernel", "step_width", "width", "depth", "heads"),
    *("crop", "image_width", "image_keypoints"),
)
CARRIED = ("groups", "scale", "dropout_inputs", "causal", "clip")  # fields that no flag sets
STATISTICS = ("observed.", "acted.", "pictured.")  # tensors that normalise observations and actions


def train_pusht(config: TrainPushT, progress: Progress) -> Path:
    """Train a `PolicyModel`, or a student of one; returns the run folder."""
    check(config)
    device = begin(config.run, config.run.folder)
    teacher: PolicyModel | None = None
    if config.distill:
        folder = find_checkpoint(config.distill)
        config, teacher = as_student(config, folder), load_policy_model(folder, device)
    begun = beginning(config.run, config.run.folder, config.start_from)
    config, carried = (config, {}) if begun is None else begun_with(config, begun)
    demonstrations = pusht_demonstrations(config.data, config.observation)
    demonstrations = demonstrations.chosen(
        published_split(len(demonstrations.episode_ends), config.hold_out, config.episodes, config.split_seed)
    )
    observations = observations_of(demonstrations, config.observation)
    pictures = demonstrations.observations.get("picture")
    chunks = Chunks(
        observations,
        demonstrations.actions,
        demonstrations.episode_ends,
        config.n_obs,
        config.horizon,
        config.n_action,
        pictures,
        config.condition == "inpainting",
    )
    numbers = {
        "observations": observations.shape[1] + (0 if pictures is None else pictures[0].size),
        "actions": 2,
        "demonstrations": chunks.episodes,
        "windows": len(chunks),
    }
    described = as_json(flat(config) | numbers | carried | {"recipe": "pusht"})
    torch.manual_seed(config.run.seed)  # initial weights
    model = policy_model(described)
    for name, normalization, rows in (
        ("observation", model.observed, observations),
        ("action", model.acted, demonstrations.actions),
    ):
        if constant := normalization.learn(rows, "limits"):
            indices = left_out([str(i) for i in constant])
            note(f"{name} {indices} (from 0) vary by less than 1e-4 of their size, so they count as constant")
    for limits in model.pictured or ():
        assert isinstance(limits, Normalization)
        limits.learn(np.repeat([[0.0], [255.0]], len(limits.low), axis=1), "limits")
    if begun is not None:  # with the limits that its weights were trained with, unless they are learned anew
        take_over(model, begun, config.run, STATISTICS)
        freeze(config.run, model.encoder, f"{config.run.source}, which sees no pictures,")

    def draws(count: int) -> Callable[[torch.Generator], PolicyBatch]:
        return policy_batches(chunks, model.shape, count)

    draw, loss = draws(config.run.batch_size), policy_loss
    if teacher is not None:
        model.load_state_dict(teacher.state_dict())
        draw = student_batches(
            draws(max(1, config.run.batch_size // STATES)), model.shape, config.distill_steps
        )
        loss = student_loss(teacher, config.distill_steps)
    task = Task(
        model, draw, loss, {}, size=config.run.batch_size, lower="`horizon` or `widths`", accumulate=""
    )
    if teacher is None:  # a student's loss needs the memory of its teacher, too
        task = task._replace(draws=draws)
    run_task(task, config.run, device, config.run.folder, described, TrainPushT(), progress)
    return config.run.folder


def begun_with(config: TrainPushT, folder: Path) -> tuple[TrainPushT, JsonObject]:
    """The config with network and shape of the run to begin with, and that run's fields that are no flags.

    Raises:
        ValueError: a run with observations that `unveil train pusht` does not know, or `distill` is set too.
    """
    start = read_policy_config(folder)
    flag = "from" if config.run.source else "start_from"
    if config.distill:
        raise ValueError(f"`{flag}` and `distill` both name the initial weights; give one of them")
    carried = CARRIED
    if [part.shape for part in parts_of(start)] == [(2,), PICTURE]:  # as pixels, and how its encoder is made
        start = start | {"observation": "pixels"}
        carried = (*CARRIED, "parts", "image_blocks", "image_batch_norm")
    if start["observation"] not in ("keypoints", "state", "pixels"):
        raise ValueError(
            f"`{flag}` {config.start_from or config.run.source}: it observes {start['observation']}, "
            "but training knows keypoints, state and pixels"
        )
    taken = {name: start[name] for name in carried if name in start}
    if "parts" in taken:
        taken["observation"] = "agent+picture"
    if config.run.source:
        return inherited(config, start, (*INHERITED, "dropout")), taken
    own = {name: start[name] for name in (*INHERITED, "dropout") if name in start}
    return replace(config, **own | {"widths": tuple(start["widths"])}), taken


def as_student(config: TrainPushT, folder: Path) -> TrainPushT:
    """The config with the teacher's network and shape; a student predicts v or flow, and has no dropout.

    Raises:
        ValueError: the teacher is a student, or has fewer steps than `distill_steps`.
    """
    teacher = read_policy_config(folder)
    if teacher.get("distill", ""):
        raise ValueError(
            f"`distill` {config.distill}: this is a student itself; give its teacher, {teacher['distill']}"
        )
    if teacher["predicts"] != "flow" and config.distill_steps > teacher["diffusion_steps"]:
        raise ValueError(
            f"`distill_steps` must be at most the teacher's {teacher['diffusion_steps']}, got "
            f"{config.distill_steps}"
        )
    inherited = {name: teacher[name] for name in INHERITED if name in teacher}
    predicts = "flow" if teacher["predicts"] == "flow" else "v"
    fixed = {"widths": tuple(teacher["widths"]), "predicts": predicts, "dropout": 0.0}
    return replace(config, **inherited | fixed)


def check(config: TrainPushT) -> None:
    """Refuse fields that contradict each other.

    Raises:
        ValueError: the message names the fields, the rule and the values.
    """
    check_window(config.n_obs, config.horizon, config.n_action)
    if config.prefix > config.horizon - config.n_obs:
        raise ValueError(
            f"`prefix` must be 0 .. horizon - n_obs = {config.horizon - config.n_obs}, got {config.prefix}"
        )
    inpainting = config.network == "cnn" and config.observation != "pixels"
    usual = "film" if config.network == "cnn" else "tokens"
    if config.condition not in ("auto", usual, *(["inpainting"] if inpainting else [])):
        raise ValueError(
            "`condition` must be film or inpainting for the cnn (inpainting of keypoints or state) and "
            f"tokens for the transformer, got {config.condition} with {config.network} and "
            f"{config.observation}"
        )
    if config.observation == "pixels" and config.image_width % 16:
        raise ValueError(f"`image_width` must be a multiple of 16, got {config.image_width}")
    if config.network == "transformer":
        if config.width % (2 * config.heads):
            raise ValueError(f"`width` must be a multiple of twice `heads`, got {config.width}")
        return
    wrong = not config.widths or any(width % 8 for width in config.widths)
    if wrong or config.kernel % 2 == 0 or config.step_width % 2:
        raise ValueError(
            "`widths` must be multiples of 8, `kernel` odd and `step_width` even, got "
            f"{config.widths}, {config.kernel} and {config.step_width}"
        )
    if config.horizon % 2 ** (halvings := len(config.widths) - 1):
        raise ValueError(
            f"`horizon` {config.horizon} cannot be halved {halvings} times; give another, or fewer `widths`"
        )
