"""Training on demonstrations of your own robot: `unveil train policy`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from unveil.policy.model import PolicyModel
from unveil.policy.recipes.config import TrainPolicy
from unveil.policy.recipes.fitting import (
    INHERITED,
    STATISTICS,
    as_student,
    check,
    sizes_of,
    train_policy_model,
    untrained,
    windows_of,
)
from unveil.policy.recipes.kept_frames import with_kept_pictures
from unveil.policy.recipes.load import load_policy_model, read_policy_config
from unveil.policy.recipes.own_data import chosen, demonstrated
from unveil.policy.recipes.summary import cost_summary, data_summary, show
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.finetuning import beginning, check_sizes, freeze, inherited, take_over
from unveil.runs.flags import flat
from unveil.runs.progress import Progress
from unveil.runs.training import as_json, begin


def train_policy(config: TrainPolicy, progress: Progress) -> Path:
    """Train a `PolicyModel`, or a student of one; prints what it trains on, and returns the run folder.

    Raises:
        UnveilError: demonstrations that are missing, damaged or without what is asked for.
        ValueError: settings that contradict each other.
    """
    if config.world:
        raise ValueError(f"`world={config.world}` has settings of its own: give TrainPushT to train_pusht")
    check(config.model, False)
    device = begin(config.run, config.run.folder)
    teacher: PolicyModel | None = None
    if config.model.distill:
        folder = find_checkpoint(config.model.distill)
        config = replace(config, model=as_student(config.model, folder))
        teacher = load_policy_model(folder, device)
    if (begun := beginning(config.run, config.run.folder)) is not None:
        config = inherited(config, read_policy_config(begun), (*INHERITED, "dropout"))
    it = chosen(config)
    check(config.model, any(part.encoder is not None for part in it.parts))
    data = with_kept_pictures(demonstrated(it, it.training), progress)
    chunks = windows_of(data, config.model)
    own = {
        "recipe": "policy",
        "observation": "other",
        "parts": [asdict(part) for part in it.parts],
        "action_names": it.action_names,
        "hz": it.demonstrations.recording.hz,
    }
    described = as_json(flat(config) | {"data": _lasting(config.data)} | sizes_of(data, chunks) | own)
    model = untrained(described, data, config.run.seed)
    if begun is not None:
        sizes = {"observations": "observed numbers", "actions": "numbers of an action"}
        check_sizes(described, read_policy_config(begun), config.run.source, **sizes)
        take_over(model, begun, config.run, STATISTICS)
        freeze(config.run, model.encoder, f"{config.run.source}, which sees no pictures,")
    show(data_summary(config.data, it, data, chunks))
    show(cost_summary(model, chunks, config.run, device))
    return train_policy_model(model, chunks, described, config.run, TrainPolicy(), device, progress, teacher)


def _lasting(data: str) -> str:
    """The path of the data from any folder, since a run may be evaluated from another one."""
    return str(Path(data).resolve()) if Path(data).exists() else data
