"""Training on demonstrations of PushT: `unveil train pusht`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unveil.files.json_objects import JsonObject
from unveil.policy.data.chunks import published_split
from unveil.policy.data.frames import Held
from unveil.policy.model import PolicyModel
from unveil.policy.recipes.fitting import (
    INHERITED,
    STATISTICS,
    Demonstrated,
    as_student,
    check,
    sizes_of,
    train_policy_model,
    untrained,
    windows_of,
)
from unveil.policy.recipes.load import PICTURE, load_policy_model, parts_of, read_policy_config
from unveil.policy.recipes.pusht.config import TrainPushT
from unveil.policy.recipes.pusht.data import observations_of, pusht_demonstrations
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.finetuning import beginning, freeze, inherited, take_over
from unveil.runs.flags import changed, flat
from unveil.runs.progress import Progress
from unveil.runs.training import as_json, begin

CARRIED = ("groups", "scale", "dropout_inputs", "causal", "clip")  # fields that no flag sets


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
    begun = beginning(config.run, config.run.folder, config.start_from)
    config, carried = (config, {}) if begun is None else begun_with(config, begun)
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
    if begun is not None:  # with the limits that its weights were trained with, unless they are learned anew
        take_over(model, begun, config.run, STATISTICS)
        freeze(config.run, model.encoder, f"{config.run.source}, which sees no pictures,")
    return train_policy_model(model, chunks, described, config.run, TrainPushT(), device, progress, teacher)


def begun_with(config: TrainPushT, folder: Path) -> tuple[TrainPushT, JsonObject]:
    """The config with network and shape of the run to begin with, and that run's fields that are no flags.

    Raises:
        ValueError: a run with observations that `unveil train pusht` does not know, or `distill` is set too.
    """
    start = read_policy_config(folder)
    flag = "from" if config.run.source else "start_from"
    if config.model.distill:
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
    return changed(config, **own | {"widths": tuple(start["widths"])}), taken
