"""What `unveil VERB RECIPE` does, as data: the config that flags change, the function that does it, what comes next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from shlex import quote
from typing import Any

from unveil.runs.flags import flat

Given = Callable[[str], str | None]
"""A flag's name, without dashes, to its value on the command line; None if it is not given."""


@dataclass(frozen=True)
class Verb:
    """One verb of one recipe.

    Args:
        presets: name -> config; flags change the one that --preset names, or "default".
        does: "module:function" below `unveil`, imported when it runs.
        about: one line for people.
        common: fields that `--help` shows; `--help-all` shows all.
        fit: what follows for the config from flags such as --method, before the others change it.
        settle: "module:function" of (config, given) -> the config that flags change after all, where a checkpoint decides it.
        after: the next command, with names of fields and {run} in braces; or "module:function" of (config, run) -> what to do next.
        aliases: flag -> the flag that it stands for; or the flags and values, as "--no-samples": "--sample-every -1".
    """

    presets: Mapping[str, Any]
    does: str
    about: str
    common: tuple[str, ...] = ()
    fit: Callable[[Any, Given], Any] = lambda config, _: config
    settle: str = ""
    after: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def config(self) -> Any:
        """The default preset."""
        return self.presets["default"]

    def next(self, config: Any, run: Any) -> str:
        """What to do after a training, for people."""
        if ":" in self.after:
            return wired(self.after)(config, run)
        said = {name: quote(str(value)) for name, value in flat(config).items()}
        return "unveil " + self.after.format(**(said | {"run": quote(str(run))}))


def wired(place: str) -> Callable[..., Any]:
    """The function at module:name below `unveil`, imported now."""
    module, name = place.split(":")
    return getattr(import_module(f"unveil.{module}"), name)


def given_in(words: list[str]) -> Given:
    """What a command line says for single flags, read before it is parsed."""

    def given(name: str) -> str | None:
        flag = f"--{name.replace('_', '-')}"
        following = [b for a, b in pairwise(words) if a == flag]
        joined = [word.split("=", 1)[1] for word in words if word.startswith(f"{flag}=")]
        return next(iter([*joined, *following]), None)

    return given


def spelled(words: list[str], aliases: Mapping[str, str]) -> list[str]:
    """The command line with aliases as what they stand for."""
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        meant = aliases.get(name.replace("_", "-") if name.startswith("--") else name)
        if meant is None:
            found.append(word)
        elif " " in meant:
            found += meant.split()
        else:
            found.append(meant + equals + value)
    return found


def joined(words: list[str], flag: str) -> list[str]:
    """With the value of a flag that may begin with dashes itself, such as `--flags "--num_heads 4"`, as one word with it."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word == flag else None
        found.append(word if value is None else f"{flag}={value}")
    return found
