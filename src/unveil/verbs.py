"""What each verb does for each recipe: presets, the function that does it, what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from unveil.image.recipes import classifier_config as classifier
from unveil.image.recipes import config as image
from unveil.planning.recipes.locomotion import config as locomotion
from unveil.planning.recipes.maze import config as maze
from unveil.policy.recipes.pusht import config as pusht
from unveil.text.recipes import config as text

TRAINED: dict[str, tuple[dict[str, Any], str, str]] = {  # presets, what trains, what comes next
    "maze": (maze.TRAIN_PRESETS, "planning.recipes.maze.train:train_maze", "eval maze --maze {maze} --checkpoint {run}"),
    "locomotion": (
        locomotion.TRAIN_PRESETS,
        "planning.recipes.locomotion.train:train_locomotion",
        "train value --preset {preset} --dataset {dataset} --logbase {logbase}",
    ),
    "value": (
        locomotion.VALUE_PRESETS,
        "planning.recipes.locomotion.train:train_value",
        "eval locomotion --dataset {dataset} --logbase {logbase}",
    ),
    "pusht": (pusht.TRAIN_PRESETS, "policy.recipes.pusht.train:train_pusht", "eval pusht --checkpoint {run} --episodes 50 --seed 100000"),
    "text": (text.TRAIN_PRESETS, "text.recipes.train:train_text", "sample text --checkpoint {run} --watch"),
    "image": (image.TRAIN_PRESETS, "image.recipes.train:train_image", "sample image --checkpoint {run} -n 64"),
    "classifier": (
        classifier.TRAIN_PRESETS,
        "image.recipes.classifier_train:train_classifier",
        "sample image --checkpoint MODEL --classifier {run} --class 0",
    ),
}
EVALUATED: dict[str, tuple[dict[str, Any], str]] = {
    "maze": ({"default": maze.EvalMaze()}, "planning.recipes.maze.evaluate:evaluate_maze"),
    "locomotion": (locomotion.EVAL_PRESETS, "planning.recipes.locomotion.evaluate:evaluate_locomotion"),
    "pusht": (pusht.EVAL_PRESETS, "policy.recipes.pusht.evaluate:evaluate_pusht"),
    "text": ({"default": text.EvalText()}, "text.recipes.evaluate:evaluate_text"),
    "image": ({"default": image.EvalImage()}, "image.recipes.evaluate:evaluate_image"),
}
SAMPLED: dict[str, tuple[type, str]] = {
    "maze": (maze.SampleMaze, "planning.recipes.maze.sample:sample_maze"),
    "pusht": (pusht.SamplePushT, "policy.recipes.pusht.sample:sample_pusht"),
    "text": (text.SampleText, "text.recipes.sample:sample_text"),
    "image": (image.SampleImage, "image.recipes.sample:sample_image"),
}
SHORT = {"image": {"-n": "--n", "--class": "--label", "--from": "--given"}}  # flags of `sample` by other names: a keyword, and a letter


def wired(place: str) -> Callable[..., Any]:
    """The function at module:name below `unveil`, imported now."""
    module, name = place.split(":")
    return getattr(import_module(f"unveil.{module}"), name)


def given(rest: list[str], flag: str, otherwise: str) -> str:
    """What the flags say for one of them."""
    following = next((b for a, b in pairwise(rest) if a == flag), otherwise)
    return next((a.split("=", 1)[1] for a in rest if a.startswith(f"{flag}=")), following)


def joined(rest: list[str], flag: str) -> list[str]:
    """With the value of a flag that may begin with dashes itself, such as `--flags "--num_heads 4"`, as one word with it."""
    found: list[str] = []
    words = iter(rest)
    for word in words:
        value = next(words, None) if word == flag else None
        found.append(word if value is None else f"{flag}={value}")
    return found


CARRIED = ("preset", "horizon", "n_diffusion_steps", "discount", "normalizer", "inverse", "hold_out")  # name the folder, or must agree


def next_step(after: str, config: Any, run: Any) -> str:
    """What to do after a training, for people: a command, or, where nothing evaluates a run, how to plan with it in Python."""
    if after.startswith("eval locomotion") and not wired("planning.recipes.locomotion.next_step:has_body")(config.dataset, run):
        place = config.logbase / locomotion.folder_name(config.dataset)
        return (
            f"in Python, planner = unveil.load({str(place)!r}); action = planner.act(observation)   "
            "(no world of this body is known, so `unveil eval locomotion` cannot score it)"
        )
    return f"unveil {following(after, config, run)}"


def following(after: str, config: Any, run: Any) -> str:
    """What comes after a training, with the flags that name its folder, or that both trainings must share, where they are not what the next
    command takes by itself."""
    verb, recipe = after.split()[:2]
    said = {name: shlex.quote(str(value)) for name, value in asdict(config).items()}
    line = after.format(**(said | {"run": shlex.quote(str(run))}))
    presets = {"train": TRAINED, "eval": EVALUATED}.get(verb, {}).get(recipe, [{}])[0]
    if getattr(config, "sft", None) is not None:
        return f"chat --checkpoint {shlex.quote(str(run))}"
    if recipe == "image":
        return wired("image.recipes.next_step:after_training")(config, Path(str(run)), line)
    if recipe not in ("value", "locomotion"):
        return line
    preset = config.preset if config.preset in presets else "default"
    default = fitted(presets[preset], ["--dataset", config.dataset])
    for name in CARRIED:
        mine, theirs = getattr(config, name, None), getattr(default, name, None)
        if name == "preset":
            if f"--{name} " not in line and preset != "default":
                line += f" --preset {preset}"
        elif None not in (mine, theirs) and mine != theirs:
            flag = name.replace("_", "-")
            line += f" --{'' if mine is not False else 'no-'}{flag}" + ("" if isinstance(mine, bool) else f" {mine}")
    if recipe == "locomotion" and config.prefix != type(config)().prefix:
        line += f" --value-loadpath {shlex.quote('f:' + config.prefix + '_H{horizon}_T{n_diffusion_steps}_d{discount}')}"
    return line


def fitted(default: Any, rest: list[str]) -> Any:
    """A preset, with what follows from the network, method or data set that the flags name."""
    if hasattr(default, "method"):
        return image.for_method(default, given(rest, "--method", default.method))
    if hasattr(default, "network"):
        return pusht.for_network(default, given(rest, "--network", default.network))
    if hasattr(default, "logbase"):
        return locomotion.for_dataset(default, given(rest, "--dataset", default.dataset))
    return default


def spelled(recipe: str, rest: list[str]) -> list[str]:
    """Flags of `sample` by the names of their fields."""
    names = SHORT.get(recipe, {})
    return [names.get(a.split("=")[0], a.split("=")[0]) + a[len(a.split("=")[0]) :] for a in rest]
