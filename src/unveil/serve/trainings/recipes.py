"""The recipes of the Train tab, and their settings: those that `unveil train RECIPE --help` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from unveil.runs.flags import flat, names_of
from unveil.runs.verb import Verb

OFFERED = ("image", "text", "lora", "inversion", "maze", "pusht")  # what a laptop trains and a tab shows
MORE = ("captions", "background", "save_every", "seed")  # settings beside the common ones
OWN = ("preset", "out", "resume")  # settings that the server sets itself
DATA, BASES = ("data", "sft"), {"base": "image", "checkpoint": "text"}
WORDS = ("dreambooth", "prior", "token", "init")  # texts that are never a path
CAPTIONS = ("auto", "txt")  # `captions` may also be a file, which no request names
Kind = Literal["whole", "number", "switch", "choice", "words", "data", "model", "map"]
Value = str | int | float | bool


class Setting(NamedTuple):
    """A setting of a recipe.

    Args:
        flag: its name on the command line.
        help: its text there.
        choices: the values of a choice; the kind of a model.
        defaults: preset -> value, None where it follows from others.
    """

    name: str
    flag: str
    kind: Kind
    help: str
    choices: tuple[str, ...]
    defaults: Mapping[str, object]


class Recipe(NamedTuple):
    """A recipe of `unveil train`.

    Args:
        about: what it trains, in one line.
        presets: names of its presets, the quickest first.
    """

    name: str
    about: str
    presets: tuple[str, ...]
    settings: tuple[Setting, ...]

    def setting(self, name: str) -> Setting:
        """The setting of a name."""
        return next(it for it in self.settings if it.name == name)


def recipes() -> dict[str, Recipe]:
    """The recipes by name, read from the configs of the command line."""
    from unveil.verbs import RECIPES

    return {name: _recipe(name, RECIPES["train"][name]) for name in OFFERED}


def _recipe(name: str, verb: Verb) -> Recipe:
    presets = tuple(sorted(verb.presets, key=("tiny", "default", "paper").index))
    hints, texts = _described(verb.config)
    common = [it for it in verb.common.split() if it not in OWN]
    names = [*common, *(it for it in MORE if it in hints and it not in common)]
    found: list[Setting] = []
    for one in names:
        kind, choices = _kind(one, hints[one])
        if kind is not None:
            defaults = {preset: _plain(flat(verb.presets[preset])[one]) for preset in presets}
            text = _as_help(texts.get(one, ""), names_of(verb.config))
            found.append(Setting(one, f"--{one.replace('_', '-')}", kind, text, choices, defaults))
    return Recipe(name, verb.about, presets, tuple(found))


def _described(config: Any) -> tuple[dict[str, object], dict[str, str]]:
    """Types and texts of all fields of a config, also of embedded settings."""
    from docstring_parser import parse_from_object

    hints: dict[str, object] = {}
    own = get_type_hints(type(config))
    texts = {text.arg_name: text.description or "" for text in parse_from_object(type(config)).params}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            inner, said = _described(value)
            hints, texts = hints | inner, texts | said
        else:
            hints[field.name] = own[field.name]
    return hints, texts


def _as_help(text: str, known: Mapping[str, str]) -> str:
    from unveil.commands.parsing import as_flags

    return as_flags(" ".join(text.split()), {}, tuple(known))


def _kind(name: str, hint: object) -> tuple[Kind | None, tuple[str, ...]]:
    """The kind of a setting, with its choices; None for what no request may give, such as paths."""
    if name in DATA:
        return "data", ()
    if name in BASES:
        return "model", (BASES[name],)
    if name == "maze":
        from unveil.planning.recipes.maze.load import maze_names

        return "map", tuple(maze_names())
    if name == "captions":
        return "choice", CAPTIONS
    if name in WORDS:
        return "words", ()
    options = [it for it in get_args(hint) if it is not NoneType]
    if get_origin(hint) is not Literal and NoneType in get_args(hint) and len(options) == 1:
        hint = options[0]
    if get_origin(hint) is Literal:
        return "choice", tuple(str(it) for it in get_args(hint) if it != "")
    kinds: dict[object, Kind] = {bool: "switch", int: "whole", float: "number"}
    return kinds.get(hint), ()


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else None


def words_of(recipe: Recipe, preset: str, values: Mapping[str, Value]) -> list[str]:
    """The words of the command line after `unveil train RECIPE`.

    Args:
        values: by name of the setting; places of data and models, not their ids.
    """
    words = [f"--preset={preset}"] if len(recipe.presets) > 1 else []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words.append(f"{flag}={value}")
    return words


def check(recipe: Recipe, words: list[str]) -> int:
    """Refuse what the command line refuses.

    Returns:
        The number of steps.
    Raises:
        UnveilError, ValueError: as the command line, in one line.
    """
    from unveil.commands.parsing import configured
    from unveil.verbs import RECIPES

    return int(flat(configured(RECIPES["train"][recipe.name], words, f"train {recipe.name}"))["steps"])
