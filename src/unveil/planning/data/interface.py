"""How a planner meets an environment: what makes an observation a row, and what actions mean there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Float

from unveil.arrays import axes_of, numbers
from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.fields import ACHIEVED, GOAL


@dataclass(frozen=True)
class Interface:
    """What a planner reads of an environment's observations, and what its actions mean there.

    Args:
        fields: the entries of dictionary observations that make a row, in its order; () for flat
            observations.
        goal: the numbers of a row that a goal fixes, from 0; () for planners that know no goal.
        choices: number of discrete actions, of which rows hold the one-hot vectors; 0 for continuous actions.
        low, high: limits of continuous actions, to which they are clipped; () for -1 and 1.
        environment: the id of the environment, or module:function; "" if unknown.
    """

    fields: tuple[str, ...] = ()
    goal: tuple[int, ...] = ()
    choices: int = 0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    environment: str = ""

    def described(self) -> JsonObject:
        """The interface as config.json holds it."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def interface_of(described: JsonObject) -> Interface:
    """The interface of a config.json; that of flat observations and actions in [-1, 1] if it has none.

    Raises:
        ValueError, TypeError: it is no interface.
    """
    it = described.get("interface") or {}
    made = Interface(
        tuple(str(name) for name in it.get("fields", ())),
        tuple(int(i) for i in it.get("goal", ())),
        int(it.get("choices", 0)),
        tuple(float(x) for x in it.get("low", ())),
        tuple(float(x) for x in it.get("high", ())),
        str(it.get("environment", "")),
    )
    if min(made.goal, default=0) < 0 or made.choices < 0 or len(made.low) != len(made.high):
        raise ValueError("its interface does not fit")
    return made


def rows_of(interface: Interface, value: object, size: int) -> tuple[Float[np.ndarray, "B D"], bool]:
    """Observations as rows (B, D) in float64, and whether the input was a single one without the axis B.

    Args:
        value: what an environment gives: (D,) or (B, D), or a dictionary of (d,) or (B, d).
        size: D.
    Raises:
        ValueError: another shape, numbers that are not finite, or a field that is missing.
    """
    if not interface.fields or not isinstance(value, Mapping):
        single = axes_of(value) == 1
        letters = f"({size},) of one episode or (B, {size})"
        seen = numbers("guided planner: observations", value, (size,) if single else (None, size), letters)
        return (seen[None] if single else seen).astype(np.float64), single
    if missing := [name for name in interface.fields if entry(value, name) is None]:
        raise ValueError(
            f"guided planner: observations lack the field {missing[0]}; they have "
            f"{', '.join(map(str, value))}, and {', '.join(interface.fields)} are needed"
        )
    parts = [np.asarray(entry(value, name), np.float64) for name in interface.fields]
    single = max(part.ndim for part in parts) < 2
    row = np.concatenate([part.reshape(*part.shape[: 0 if single else 1], -1) for part in parts], axis=-1)
    letters = f"({size},) together of one episode or (B, {size})"
    seen = numbers(
        f"guided planner: observations {', '.join(interface.fields)}",
        row,
        (size,) if single else (None, size),
        letters,
    )
    return (seen[None] if single else seen).astype(np.float64), single


def goals_of(interface: Interface, value: object, count: int) -> Float[np.ndarray, "B G"] | None:
    """The goals of dictionary observations, `desired_goal`; None if they hold none.

    Raises:
        ValueError: of another size.
    """
    if not isinstance(value, Mapping) or GOAL not in value:
        return None
    goals = np.asarray(value[GOAL], np.float64)
    size = len(interface.goal)
    return numbers(
        f"goal planner: {GOAL}", goals[None] if goals.ndim == 1 else goals, (count, size), f"(B, {size})"
    )


def entry(value: Mapping[str, object], name: str) -> object:
    """An entry of a dictionary of observations, which may be nested: a/b; None if there is none."""
    if name in value:
        return value[name]
    first, _, rest = name.partition("/")
    inside = value.get(first)
    return entry(inside, rest) if rest and isinstance(inside, Mapping) else None


def returned(interface: Interface, actions: Float[np.ndarray, "B A"]) -> np.ndarray:
    """What an environment gets: actions (B, A) clipped to their limits, or the numbers (B,) of discrete
    actions."""
    if interface.choices:
        return actions.argmax(axis=1)
    if not interface.low:
        return np.clip(actions, -1.0, 1.0)
    return np.clip(actions, interface.low, interface.high)


def with_choices(episodes: Episodes, count: int = 0) -> tuple[Episodes, int]:
    """Discrete actions as one-hot vectors, and how many there are.

    Args:
        episodes: with one whole number per step as action.
        count: number of discrete actions; 0: one more than the largest of the data.
    Raises:
        UnveilError: an action that is negative, or not below `count`.
    """
    chosen = episodes.actions[:, 0].astype(np.int64)
    count = count or max(1, int(chosen.max()) + 1)
    if chosen.min() < 0 or chosen.max() >= count:
        raise UnveilError(
            f"discrete actions must lie in 0 .. {count - 1}, got {chosen.min()} .. {chosen.max()} in the data"
        )
    if count > 1024:
        raise UnveilError(
            f"the data have whole numbers up to {chosen.max()} as actions, too many for discrete ones; store "
            "continuous actions as floats"
        )
    return replace(episodes, actions=np.eye(count, dtype=np.float32)[chosen]), count


def with_goal(episodes: Episodes) -> tuple[Episodes, tuple[int, ...]]:
    """Episodes whose rows hold what `desired_goal` is about, and where: the numbers of a row that always
    equal `achieved_goal`, or `achieved_goal` itself after the others.

    Raises:
        UnveilError: the data have a desired goal, but no achieved one.
    """
    achieved, seen = episodes.infos.get(ACHIEVED), episodes.observations
    if achieved is None:
        raise UnveilError(
            f"the data have {GOAL}, but no {ACHIEVED}; say which numbers of an observation it is about: "
            "`goal=0,1`, or leave it out: `goal=none`"
        )
    places = [
        next((i for i in range(seen.shape[1]) if np.array_equal(seen[:, i], achieved[:, j])), -1)
        for j in range(achieved.shape[1])
    ]
    if min(places) >= 0 and len(set(places)) == len(places):
        return episodes, tuple(places)
    final = episodes.final_observations
    last = None if final is None else np.concatenate([final, achieved[episodes.ends - 1]], axis=1)
    wide = np.concatenate([seen, achieved], axis=1)
    origin = episodes.origin._replace(fields=(*episodes.origin.fields, ACHIEVED))
    made = replace(episodes, observations=wide, final_observations=last, origin=origin)
    return made, tuple(range(seen.shape[1], wide.shape[1]))
