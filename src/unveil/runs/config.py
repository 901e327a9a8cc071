"""Read the config.json of a run, a checkpoint or packaged weights, and check it before use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.files.reading import reading


def read_recipe(folder: Path) -> str:
    """The recipe that trained a checkpoint; "" if it is not recorded."""
    try:
        return str(json.loads(_config_file(folder).read_text(encoding="utf-8-sig")).get("recipe", ""))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""


def _config_file(folder: Path) -> Path:
    return folder / "config.json" if (folder / "config.json").is_file() else folder.parent / "config.json"


def read_config(
    folder: Path, recipe: str | tuple[str, ...], check: Callable[[JsonObject], None]
) -> JsonObject:
    """Read config.json of packaged weights, or of the run that a checkpoint belongs to.

    Args:
        recipe: the recipe that is needed, or its names, the usual one first.
        check: raises ValueError, LookupError or TypeError if the fields do not describe a model of the
            recipe.
    Raises:
        UnveilError: missing, damaged, or of another recipe.
    """
    file = _config_file(folder)
    if not file.is_file():
        raise UnveilError(f"{folder}: no config.json beside these weights; is this an unveil checkpoint?")
    with reading(file, "not a config of unveil"):
        config = json.loads(file.read_text(encoding="utf-8-sig"))
        names = (recipe,) if isinstance(recipe, str) else recipe
        if config["recipe"] not in names:
            raise UnveilError(
                f"{folder} was trained by recipe {config['recipe']!r}, but {names[0]!r} is needed"
            )
        check(config)
        return config


def check_whole_numbers(config: JsonObject, names: tuple[str, ...]) -> None:
    """Refuse fields that are not whole numbers between 1 and 99,999.

    Raises:
        ValueError: such a field.
    """
    for name in names:
        if not (isinstance(config[name], int) and 0 < config[name] < 100_000):
            raise ValueError(f"{name} is {config[name]!r}")


def stored_config(folder: Path) -> JsonObject:
    """config.json of a run as it is, unchecked; {} if there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
