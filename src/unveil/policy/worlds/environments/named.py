"""Environments made from a name: the id of a registered one, or a function of a module."""

import inspect
import json
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import gymnasium

from unveil.errors import UnveilError, one_line


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments of an environment from JSON.

    Raises:
        UnveilError: not an object of JSON.
    """
    try:
        read = json.loads(text or "{}")
        if not isinstance(read, dict):
            raise ValueError("an object is needed")
    except (ValueError, RecursionError) as error:
        raise UnveilError(
            f'`env_args` must be JSON such as {{"obs_type": "state"}}, got {text[:60]!r} ({error})'
        ) from error
    return read


def make(name: str, arguments: Mapping[str, Any], *, drawn: bool = False) -> gymnasium.Env:
    """Make an environment.

    Args:
        name: an id of gymnasium, also as module:id, where the module registers it, or module:function, where
            the function returns an environment. Modules are also looked for in the working folder.
        drawn: it must render pictures: `render_mode="rgb_array"` is passed, to functions that take it.
    Raises:
        UnveilError: no such module, function or id, or it cannot be made.
    """
    module_name, colon, rest = name.partition(":")
    module = _module(module_name, name) if colon else None
    function = getattr(module, rest, None) if rest.isidentifier() else None
    if colon and rest.isidentifier() and function is None:
        there = [it for it in dir(module) if callable(getattr(module, it)) and not it.startswith("_")]
        raise UnveilError(f"{name}: {module_name} has no {rest!r}; it has {there[:12]}")
    space, slash, _ = (rest if colon else name).partition("/")
    if slash and find_spec(space) is not None:  # a namespace, which its package registers
        _module(space, name)
    picture = {"render_mode": "rgb_array"} if drawn else {}
    try:
        if function is None:
            made = gymnasium.make(rest if colon else name, disable_env_checker=True, **picture, **arguments)
        else:
            made = function(**_accepted(function, picture), **arguments)
    except Exception as error:  # their code raises anything
        raise UnveilError(f"{name} cannot be made: {one_line(str(error)) or type(error).__name__}") from error
    if not isinstance(made, gymnasium.Env):
        raise UnveilError(f"{name} must return an environment of gymnasium, got {type(made).__name__}")
    return made


def _module(name: str, of: str) -> Any:  # a module
    """Import a module, also from the working folder."""
    here = os.getcwd()
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "") == name.partition(".")[0]
        why = f"no module {name!r}, here or installed" if missing else one_line(str(error))
        raise UnveilError(f"{of}: {why}") from error
    finally:
        if added:
            sys.path.remove(here)


def _accepted(function: Any, words: dict[str, str]) -> dict[str, str]:
    """Those of the words that a function takes."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    every = any(it.kind is inspect.Parameter.VAR_KEYWORD for it in parameters.values())
    return {name: value for name, value in words.items() if every or name in parameters}
