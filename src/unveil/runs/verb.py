"""`unveil VERB RECIPE` as data: its config, the function that runs it, and the command that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from shlex import quote
from typing import Any

from unveil.runs.flags import flat

Given = Callable[[str], str | None]
"""Name of a flag, without dashes -> its value on the command line, None if it is absent."""


@dataclass(frozen=True)
class Verb:
    """One verb of one recipe.

    Args:
        presets: name -> config; flags change the one that --preset names, by default "default".
        does: "module:function" below `unveil`, imported when it runs.
        about: description in one line.
        common: names of the fields that `--help` shows, separated by spaces; `--help-all` shows all.
        fit: (preset, flags) -> config whose defaults follow from flags such as --method; the other flags
            change it.
        settle: "module:function" of (config, flags) -> config, where the defaults depend on a checkpoint.
        after: next command, with fields and {run} in braces; or "module:function" of (config, run) -> text.
        aliases: flag -> the flag or the words that replace it, as "--no-samples": "--sample-every -1".
    """

    presets: Mapping[str, object]
    does: str
    about: str
    common: str = ""
    fit: Callable[..., object] = lambda config, _: config
    settle: str = ""
    after: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def config(self) -> object:
        """The default preset."""
        return self.presets["default"]

    def next(self, config: object, run: object) -> str:
        """What to do after a training, as text."""
        if ":" in self.after:
            return wired(self.after)(config, run)
        values = {name: quote(str(value)) for name, value in flat(config).items()}
        return "unveil " + self.after.format(**(values | {"run": quote(str(run))}))


def wired(address: str) -> Callable[..., Any]:  # what it returns, only the address says
    """Import the object at "module:name" below `unveil`."""
    module, name = address.split(":")
    return getattr(import_module(f"unveil.{module}"), name)


def given_in(words: list[str]) -> Given:
    """Read single flags of a command line before it is parsed."""

    def flag_value(name: str) -> str | None:
        flag = f"--{name.replace('_', '-')}"
        following = [b for a, b in pairwise(words) if a == flag]
        joined = [word.split("=", 1)[1] for word in words if word.startswith(f"{flag}=")]
        return next(iter([*joined, *following]), None)

    return flag_value


def spelled(words: list[str], aliases: Mapping[str, str]) -> list[str]:
    """Replace the aliases of a command line."""
    replaced: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        meant = aliases.get(name.replace("_", "-") if name.startswith("--") else name)
        if meant is None:
            replaced.append(word)
        elif " " in meant:
            replaced += (meant + equals + value).split(" ", meant.count(" "))
        else:
            replaced.append(meant + equals + value)
    return replaced


def joined(words: list[str], flag: str) -> list[str]:
    """Join a flag with its value, which may begin with dashes, into one word: `--flags "--num_heads 4"`."""
    words_joined: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word == flag else None
        words_joined.append(word if value is None else f"{flag}={value}")
    return words_joined
