"""The next command after a locomotion training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.locomotion.config import EVAL_PRESETS, VALUE_PRESETS, folder_name, for_dataset
from unveil.planning.recipes.locomotion.models import Recipe
from unveil.runs.flags import flat

if TYPE_CHECKING:
    from unveil.planning.recipes.locomotion.config import EvalLocomotion, TrainLocomotion, TrainValue

CARRIED = ("horizon", "n_diffusion_steps", "discount", "normalizer", "inverse", "hold_out")
"""Settings that name a folder, or that diffusion and value must share."""


def after_diffusion(config: TrainLocomotion, run: Path) -> str:
    """The command that trains the value of a diffusion."""
    preset = config.shared.preset
    return f"unveil train value --preset {preset}{_place(config)}" + _carried(config, VALUE_PRESETS[preset])


def after_value(config: TrainValue, run: Path) -> str:
    """The command that evaluates both; or, for a body without a simulator, how to plan in Python."""
    shared = config.shared
    if not has_body(shared.dataset, run):
        place = shared.logbase / folder_name(shared.dataset)
        return (
            f"in Python, planner = unveil.load({str(place)!r}); action = planner.act(observation)   "
            "(no simulator of this body is known, so `unveil eval locomotion` cannot score it)"
        )
    line = f"unveil eval locomotion{_place(config)}"
    preset = shared.preset if shared.preset in EVAL_PRESETS else "default"
    line += f" --preset {preset}" if preset != "default" else ""
    line += _carried(config, EVAL_PRESETS[preset])
    if config.prefix != type(config)().prefix:
        template = "f:" + config.prefix + "_H{horizon}_T{n_diffusion_steps}_d{discount}"
        line += f" --value-loadpath {shlex.quote(template)}"
    return line


def _place(config: TrainLocomotion | TrainValue) -> str:
    dataset, logbase = config.shared.dataset, config.shared.logbase
    return f" --dataset {shlex.quote(dataset)} --logbase {shlex.quote(str(logbase))}"


def _carried(config: TrainLocomotion | TrainValue, other: TrainValue | EvalLocomotion) -> str:
    """The flags of `CARRIED` whose values differ from the defaults of the next command."""
    own, default, line = flat(config), flat(for_dataset(other, config.shared.dataset)), ""
    for name in CARRIED:
        mine, theirs = own.get(name), default.get(name)
        if None not in (mine, theirs) and mine != theirs:
            line += f" --{'' if mine is not False else 'no-'}{name.replace('_', '-')}" + (
                "" if isinstance(mine, bool) else f" {mine}"
            )
    return line


def has_body(dataset: str, run: Path, recipe: Recipe = "value") -> bool:
    """Whether the data of a run name a known body, and have its sizes."""
    from unveil.planning.recipes.locomotion.models import read_locomotion_config
    from unveil.planning.worlds.locomotion.body import body_of

    try:
        body = body_of(dataset)
    except ValueError:
        return False
    described = read_locomotion_config(run, recipe)
    return (described["actions"], described["observations"]) == (body.actions, body.observations)
