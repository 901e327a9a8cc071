"""Recorded behaviour of any environment as planners train on it: rows, goals, and one-hot actions."""

from dataclasses import replace

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.fields import Reading
from unveil.planning.data.interface import Interface, with_choices, with_goal
from unveil.planning.data.source import read_episodes


def read_recorded(
    source: str, observe: tuple[str, ...] = (), goal: str = "auto", choices: int = 0
) -> tuple[Episodes, Interface]:
    """The episodes of a source, and the interface of a planner that is trained on them.

    Args:
        source: as `read_episodes` takes it.
        observe: entries of dictionary observations that make a row.
        goal: auto: what the data's `desired_goal` is about, and where there are no rewards all of an
            observation; none: no goal; or the numbers of an observation, from 0: "0,1" or "0:2".
        choices: number of discrete actions, for data with whole numbers as actions; 0: of the data.
    Raises:
        UnveilError: as `read_episodes`; or there are neither rewards nor goals.
    """
    how = Reading(observe, goals=goal == "auto", rewards=False)
    episodes = read_episodes(source, how)
    if observe and not episodes.origin.fields:
        raise UnveilError(
            f"{source}: `observe` names {observe[0]}, but observations are flat, without fields; leave it out"
        )
    count = 0
    if episodes.origin.whole:
        episodes, count = with_choices(episodes, choices)
    places: tuple[int, ...] = ()
    if goal == "auto":
        if how.goals and "goal" in episodes.infos and episodes.origin.fields:
            episodes, places = with_goal(episodes)
        elif not episodes.origin.rewarded:
            places = tuple(range(episodes.observations.shape[1]))
            note(f"{source}: no rewards, so plans have goals: whole observations; see `goal`")
    elif goal != "none":
        places = columns(goal, episodes.observations.shape[1])
    if not places and not episodes.origin.rewarded:
        raise UnveilError(f"{source}: neither rewards nor goals, so there is nothing to plan for; see `goal`")
    return episodes, Interface(episodes.origin.fields, places, count, environment=episodes.origin.environment)


def read_for(interface: Interface, source: str) -> Episodes:
    """The episodes of a source, with the rows and actions of an interface.

    Raises:
        UnveilError: as `read_episodes`.
    """
    how = Reading(interface.fields, rewards=False)
    episodes = read_episodes(source, how)
    return with_choices(episodes, interface.choices)[0] if interface.choices else episodes


def columns(text: str, size: int) -> tuple[int, ...]:
    """The numbers of an observation in "0,1" or "0:2", from 0.

    Raises:
        UnveilError: no such text, or numbers that an observation does not have.
    """
    found: list[int] = []
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        if not first.isdigit() or (colon and not last.isdigit()):
            raise UnveilError(f"`goal` is auto, none, or numbers such as 0,1 or 0:2, got {text!r}")
        found += range(int(first), int(last)) if colon else [int(first)]
    if not found or max(found) >= size or len(set(found)) != len(found):
        raise UnveilError(f"`goal={text}`: an observation has the numbers 0 .. {size - 1}, each at most once")
    return tuple(found)


def with_limits(interface: Interface, episodes: Episodes) -> Interface:
    """The interface with the limits of the data's actions, where they leave [-1, 1]."""
    if interface.choices or interface.low:
        return interface
    low, high = episodes.actions.min(0), episodes.actions.max(0)
    if low.min() >= -1.0 and high.max() <= 1.0:
        return interface
    note("actions leave [-1, 1], so they are limited to the smallest and largest of the data; see `env`")
    return replace(interface, low=tuple(map(float, low)), high=tuple(map(float, high)))
