"""Parse a command line into a config: short help, suggestions for misspelled flags, one-line errors."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, cast, get_args, get_origin, get_type_hints

from unveil.errors import UnveilError
from unveil.runs.flags import Config, flat, names_of, tuned
from unveil.runs.verb import Verb, given_in, spelled, wired

HELP, HELP_ALL = {"-h", "--help"}, "--help-all"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word closest to `word`, as " (did you mean X?)"; "" if none is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def configured(verb: Verb, words: list[str], command: str) -> object:
    """The config of a verb: its preset, adapted by `Verb.fit` and `Verb.settle`, then changed by the flags.

    Args:
        command: the verb and its recipe, for messages.
    Raises:
        UnveilError: an unknown preset or flag, or an invalid value.
        ValueError: values that contradict each other.
    """
    words = spelled(words, verb.aliases)
    flag_value = given_in(words)
    preset = (flag_value("preset") or "default") if len(verb.presets) > 1 else "default"
    if preset not in verb.presets:
        raise UnveilError(
            f"unknown preset {preset!r}{did_you_mean(preset, verb.presets)}; presets: "
            f"{', '.join(verb.presets)}"
        )
    default = verb.fit(verb.presets[preset], flag_value)
    default = default if flag_value("from") is None else tuned(default)
    config = parse(type(default), words, command, default, verb.common.split(), verb.aliases)
    if verb.settle:
        default = wired(verb.settle)(config, flag_value)
        config = parse(type(default), words, command, default, verb.common.split(), verb.aliases)
    return config


def parse(
    config: type[Config],
    words: list[str],
    command: str,
    default: Config | None = None,
    common: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> Config:
    """Parse flags into a config.

    Args:
        config: class of the config.
        command: the command, for messages.
        default: config that the flags change; None: fields without a default must be given.
        common: fields that --help shows; none: all are shown.
        aliases: other names of flags, for help and suggestions.
    Raises:
        UnveilError: an unknown flag (with a suggestion), or an invalid value.
    """
    import tyro

    if {*HELP, HELP_ALL} & set(words):
        _help(config, command, default, () if HELP_ALL in words else common, aliases or {})
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            parsed, unknown = tyro.cli(
                config, args=words, prog=f"unveil {command}", default=default, return_unknown_args=True
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UnveilError(f"{_said(shown.getvalue())}; see unveil {command} --help") from None
    stray = [a for a in unknown if a.startswith("-")] or list(unknown)
    if stray:
        name = stray[0].split("=")[0]
        flags = ["--" + name.replace("_", "-") for name in names_of(parsed)] + list(aliases or {})
        kind = "unknown flag" if name.startswith("-") else "unexpected word"
        raise UnveilError(
            f"{kind} {name}{did_you_mean(name, flags) if name.startswith('-') else ''}; see unveil {command} "
            "--help"
        )
    if (threads := flat(parsed).get("threads", 0)) < 0:
        raise UnveilError(f"--threads must be at least 0, which lets torch decide, got {threads}")
    return cast(Config, parsed)


def _said(printed: str) -> str:
    """The text of tyro's boxed error message as one line."""
    text = re.sub(r"[│╭╮╰╯─┃━]+|-{4,}|\x1b\[[0-9;]*m", " ", printed)
    message = " ".join(text.split()).split("For full helptext")[0].split("Argument helptext")[0]
    message = re.sub(r"^((Value error|Missing argument)\s*)+", "", message)
    message = re.sub(r"^Error parsing (--[\w-]+)[^:]*: (?!--)", r"\1: ", message)  # keeps which flag it was
    return re.sub(r"^Error parsing [^:]*:\s*", "", message).strip() or "the flags do not fit"


def _help(
    config: type, command: str, default: object, common: Collection[str], aliases: Mapping[str, str]
) -> None:
    """Print the help of the common flags, and the command that shows all; of all flags if `common` is empty.

    Raises:
        SystemExit: always, as tyro's help does.
    """
    import tyro

    shorter = {alias: flag for alias, flag in aliases.items() if " " not in flag and alias[:5] != "--no-"}
    made = _helpful(config, default, common, shorter)
    try:
        tyro.cli(made, args=["--help"], prog=f"unveil {command}", default=made() if default else None)
    finally:
        if common:
            more = set(names_of(default)) - set(common)
            print(f"{len(more)} more flags: unveil {command} {HELP_ALL}")
        if longer := [f"{alias} for {words}" for alias, words in aliases.items() if " " in words]:
            print(f"You can also write: {'; '.join(longer)}")
        if preset := default is not None and flat(default).get("preset"):
            print(f"Defaults are those of --preset {preset}; --preset NAME {HELP_ALL} shows those of another")


def _helpful(
    config: type,
    default: object,
    common: Collection[str],
    aliases: Mapping[str, str],
    known: Collection[str] = (),
) -> type:
    """A subclass of the config for its help, also of embedded settings.

    Lines of a paragraph are joined, settings in backquotes become flags, and all but the common fields are
    hidden if there are any. Defaults that say nothing by themselves, such as None, are not printed; aliases
    of one flag stand beside it.

    Args:
        known: names of all settings of the command; () takes those of `default`.
    """
    import tyro
    from docstring_parser import parse_from_object

    hints = get_type_hints(config, include_extras=True)
    texts = {text.arg_name: text.description or "" for text in parse_from_object(config).params}
    known = known or (names_of(default) if default else [part.name for part in fields(config)])
    annotations: dict[str, object] = {}
    values: dict[str, object] = {}
    for part in fields(config):
        value, hint = getattr(default, part.name, part.default), hints[part.name]
        if is_dataclass(value) and not isinstance(value, type):
            inner = _helpful(type(value), value, common, aliases, known)
            hint, value = tyro.conf.OmitArgPrefixes[inner], inner()
        elif common and part.name not in common:
            hint = Annotated[hint, tyro.conf.Suppress]
        else:
            unprinted = _unprinted if value is None or value in ("", ()) else None
            names = [alias for alias, flag in aliases.items() if flag[2:].replace("-", "_") == part.name]
            shown = tyro.conf.arg(metavar=_plain(hint), help_behavior_hint=unprinted, aliases=names or None)
            hint = Annotated[hint, shown]
        help_ = as_flags(" ".join(texts.get(part.name, "").split()), {}, known)
        annotations[part.name] = hint
        values[part.name] = field(default=value, metadata={"help": help_ or None})
    space = {"__annotations__": annotations, "__module__": config.__module__, "__doc__": config.__doc__}
    return dataclass(frozen=True)(type(config.__name__, (config,), space | values))


def _unprinted(_: str) -> str:
    """The text after a flag's help instead of its default: none."""
    return ""


def _plain(hint: object) -> str | None:
    """The values of an optional flag for its help, without None and ""; None: as tyro shows them."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    options = get_args(hint)
    optional = NoneType in options and get_origin(hint) in (Union, UnionType)
    if not optional and (get_origin(hint) is not Literal or "" not in options):
        return None
    shapes = [_shape(option) for option in (options if optional else (hint,)) if option is not NoneType]
    return None if None in shapes else "|".join(filter(None, shapes))


def _shape(hint: object) -> str | None:
    """The values of a type as tyro shows them, without ""; None: a type that is not shown in one word."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return "{" + ",".join(str(word) for word in get_args(hint) if word != "") + "}"
    names: dict[object, str] = {bool: "{True,False}", int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}
    return names.get(hint)


def as_flags(text: str, aliases: Mapping[str, str], known: Collection[str] = ()) -> str:
    """Replace settings in a message of the library by flags: `name` by --name, `name=value` by --name value.

    Args:
        aliases: alias -> the flag that it stands for; a flag that has an alias is called by it.
        known: names of settings; other words in backquotes stay. () takes every name for a setting.
    """
    named = {  # the names of `tyro.conf.arg`
        "--adam-betas": "--betas",
        "--label": "--class",
        "--given": "--from",
        "--source": "--from",
        "--beside": "--concat",
        "--words": "--tokenizer",
        "--controlled": "--actions",
    }
    called = named | {flag: alias for alias, flag in aliases.items() if " " not in flag}

    def flag(match: re.Match[str]) -> str:
        name, value = match.group(1), match.group(2)
        if known and name not in known:
            return match.group(0)
        dashed = f"--{name.replace('_', '-')}"
        dashed = called.get(dashed, dashed)
        if value in ("True", "False"):
            return dashed if value == "True" else f"--no-{dashed[2:]}"
        return dashed if value is None else f"{dashed} {value.strip(chr(39) + chr(34))}"

    return re.sub(r"`([a-z][a-z0-9_]*)(?:=([^`\s()]+))?`", flag, text)
