"""Training on demonstrations of PushT: `unveil train pusht`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from unveil.files.json_objects import JsonObject
from unveil.policy.data.chunks import published_split
from unveil.policy.data.frames import Held
from unveil.policy.model import PolicyModel
from unveil.policy.recipes.fitting import (
    INHERITED,
    Demonstrated,
    as_student,
    check,
    sizes_of,
    train_policy_model,
    untrained,
    windows_of,
)
from unveil.policy.recipes.load import load_policy_model, read_policy_config
from unveil.policy.recipes.pusht.config import TrainPushT
from unveil.policy.recipes.pusht.data import observations_of, pusht_demonstrations
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.flags import changed, flat
from unveil.runs.progress import Progress
from unveil.runs.training import as_json, begin


def train_pusht(config: TrainPushT, progress: Progress) -> Path:
    """Train a `PolicyModel`, or a student of one; returns the run folder."""
    check(config.model, config.observation == "pixels", config.observation)
    device = begin(config.run, config.run.folder)
    teacher: PolicyModel | None = None
    if config.model.distill:
        folder = find_checkpoint(config.model.distill)
        of_run = read_policy_config(folder)
        kept = {name: of_run[name] for name in ("observation", "crop") if name in of_run}
        config = replace(config, model=as_student(config.model, folder), **kept)
        teacher = load_policy_model(folder, device)
    beginning = None if config.start_from is None else find_checkpoint(str(config.start_from))
    config, carried = (config, {}) if beginning is None else begun_with(config, beginning)
    demonstrations = pusht_demonstrations(config.data, config.observation)
    demonstrations = demonstrations.chosen(
        published_split(len(demonstrations.episode_ends), config.hold_out, config.episodes, config.split_seed)
    )
    pictures = demonstrations.observations.get("picture")
    data = Demonstrated(
        observations_of(demonstrations, config.observation),
        demonstrations.actions,
        demonstrations.episode_ends,
        () if pictures is None else (Held(pictures),),
    )
    chunks = windows_of(data, config.model)
    described = as_json(flat(config) | sizes_of(data, chunks) | carried | {"recipe": "pusht"})
    model = untrained(described, data, config.run.seed)
    if beginning is not None:  # with the limits that its weights were trained with
        model.load_state_dict(load_policy_model(beginning, torch.device("cpu")).state_dict())
    return train_policy_model(model, chunks, described, config.run, TrainPushT(), device, progress, teacher)


def begun_with(config: TrainPushT, folder: Path) -> tuple[TrainPushT, JsonObject]:
    """The config with network and shape of the run to begin with, and that run's fields that are no flags.

    Raises:
        ValueError: a run with observations that `unveil train pusht` does not know, or `distill` is set too.
    """
    start = read_policy_config(folder)
    if config.model.distill:
        raise ValueError("`start_from` and `distill` both name the initial weights; give one of them")
    if start["observation"] not in ("keypoints", "state", "pixels"):
        raise ValueError(
            f"`start_from` {config.start_from}: it observes {start['observation']}, but training knows "
            "keypoints, state and pixels"
        )
    inherited = {name: start[name] for name in (*INHERITED, "dropout") if name in start}
    inherited["widths"] = tuple(start["widths"])
    others = ("groups", "scale", "dropout_inputs", "causal", "clip")
    return changed(config, **inherited), {name: start[name] for name in others if name in start}
