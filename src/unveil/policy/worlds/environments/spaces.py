"""What an environment gives and takes, by the names that a policy knows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float

from unveil.errors import UnveilError

RENDER = "render"  # the environment's own picture
Environment = gymnasium.Env
Box = gymnasium.spaces.Box


@dataclass(frozen=True)
class Reader:
    """Where the observations of a policy are in those of an environment.

    Args:
        sources: name of the policy -> name of a field, RENDER, or positions a:b of the only array. Empty: the
            only array is passed on.
    """

    sources: Mapping[str, str]

    def read(self, observation: object, environment: Environment) -> dict[str, np.ndarray] | np.ndarray:
        """The observation of one environment by the policy's names, or as it is."""
        fields = flattened(observation)
        if not self.sources:
            return next(iter(fields.values()))
        return {name: _value(source, fields, environment) for name, source in self.sources.items()}


def reader(where: str, names: Sequence[str], mapping: Mapping[str, str], observation: object) -> Reader:
    """Find the policy's observations in one observation of an environment.

    A field has its name in the policy, with or without "observation." and the names of groups above it, or
    the name that the mapping gives.

    Args:
        where: the environment, for messages.
        names: the policy's observations; none: an array is enough.
        mapping: name of the policy -> field of the environment, RENDER, or positions a:b of its only array.
    Raises:
        UnveilError: a field is missing, or several have its name.
    """
    fields = flattened(observation)
    there = ", ".join(f"{name or 'one array'} {value.shape}" for name, value in fields.items())
    if unknown := [name for name in mapping if name not in names]:
        known = (
            f"the policy observes {', '.join(names)}"
            if names
            else "the observations of this policy have no names"
        )
        raise UnveilError(f"`mapping` names {unknown[0]!r}, but {known}")
    if len(fields) == 1 and len(names) <= 1 and not mapping:
        return Reader({names[0]: next(iter(fields))} if names else {})
    if not names:
        raise UnveilError(
            f"{where}: the policy observes one array without names; the environment gives {there}"
        )
    sources = {name: mapping.get(name, name) for name in names}
    for name, wanted in sources.items():
        if wanted == RENDER or (re.fullmatch(r"\d+:\d+", wanted) and len(fields) == 1):
            continue
        plain = wanted.removeprefix("observation.")
        found = [it for it in fields if it in (wanted, plain)] or [
            it for it in fields if it.rpartition(".")[2] == plain.rpartition(".")[2]
        ]
        if len(found) != 1:
            why = f"several fields {found}" if found else f"no observation {wanted!r}"
            raise UnveilError(
                f"{where}: {why}; it gives {there}; say where the policy's {name!r} is with "
                f"`mapping={name}=FIELD`, or {name}=render for the environment's own picture"
            )
        sources[name] = found[0]
    return Reader(sources)


def flattened(observation: object, above: str = "") -> dict[str, np.ndarray]:
    """The arrays of an observation by name, groups as "group.name"; an array alone has the name ""."""
    if isinstance(observation, Mapping):
        return {
            name: value
            for key, inner in observation.items()
            for name, value in flattened(inner, f"{above}.{key}" if above else str(key)).items()
        }
    return {above: np.asarray(observation)}


def mapping_of(text: str) -> dict[str, str]:
    """The mapping of a flag such as "state=agent_pos,front=pixels".

    Raises:
        ValueError: a part without "=".
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not re.fullmatch(r"[^=]+=[^=]+", part)]:
        raise ValueError(
            f"`mapping` is a list of NAME=FIELD, such as state=agent_pos,front=pixels; got {wrong[0]!r}"
        )
    return {name.strip(): field.strip() for name, _, field in (part.partition("=") for part in parts)}


def check_actions(where: str, space: gymnasium.Space, count: int) -> Box:
    """The space of actions, which must be that many numbers.

    Raises:
        UnveilError: another space or size.
    """
    if not isinstance(space, Box):
        raise UnveilError(f"{where}: its actions are {space}, but the policy's are {count} numbers (a Box)")
    if prod(space.shape) != count:
        raise UnveilError(
            f"{where}: its actions have shape {space.shape}, but the policy's have {count} numbers"
        )
    return space


def within(space: Box, action: Float[np.ndarray, " A"]) -> tuple[np.ndarray, bool]:
    """An action inside the space's limits, and whether it was outside."""
    shaped = action.reshape(space.shape)
    inside = np.clip(shaped, space.low, space.high)
    return inside.astype(space.dtype), bool((np.abs(inside - shaped) > 1e-6 * (1.0 + np.abs(shaped))).any())


def picture(environment: Environment) -> np.ndarray:
    """The environment's own picture, (h, w, 3).

    Raises:
        UnveilError: it renders none.
    """
    drawn: Any = environment.render()
    drawn = drawn[-1] if isinstance(drawn, list) and drawn else drawn
    array = np.asarray(drawn) if drawn is not None else None
    if array is None or array.ndim != 3 or array.shape[2] != 3:
        raise UnveilError(
            "the environment renders no picture; it must be made with render_mode='rgb_array' (a function of "
            "your own may take render_mode, which is then passed)"
        )
    return array


def _value(source: str, fields: Mapping[str, np.ndarray], environment: Environment) -> np.ndarray:
    if source == RENDER:
        return picture(environment)
    if source in fields:
        return fields[source]
    first, _, last = source.partition(":")
    return next(iter(fields.values())).reshape(-1)[int(first) : int(last)]
