"""Returns and success in any gymnasium environment: planners, a clone, random actions, and the behaviour in
the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float

from unveil.errors import UnveilError
from unveil.planning.cloning import Clone
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.interface import Interface, rows_of
from unveil.planning.diffuser import Diffuser
from unveil.planning.evaluation.locomotion_pictures import side_frame
from unveil.planning.goal_planner import GoalPlanner
from unveil.planning.guided_planner import GuidedPlanner
from unveil.planning.planner import Planner
from unveil.planning.worlds.environment import EnvironmentEpisodes
from unveil.planning.worlds.locomotion.body import BODIES, Body, normalized_score
from unveil.planning.worlds.locomotion.episodes import capsules
from unveil.planning.worlds.maze.registration import layout_named
from unveil.runs.statistics import mean_ci95, wilson_ci95

Decide = Callable[[EnvironmentEpisodes, list[int]], np.ndarray]
"""(episodes, the numbers of those that run) -> an action for each of them."""


def roll(
    world: EnvironmentEpisodes,
    decide: Decide,
    on_step: Callable[[int], object] | None = None,
    success: bool = False,
) -> None:
    """Act until all episodes are over.

    Args:
        success: whether the environment has to report success.
    Raises:
        UnveilError: it does not.
    """
    for step in range(world.steps):
        which = np.flatnonzero(world.running).tolist()
        if not which:
            break
        world.step(which, decide(world, which))
        if step == 0 and success and not world.reported:
            names = ", ".join(sorted(world.names)) or "nothing"
            raise UnveilError(
                f"{world.name} reports no success in its info, which holds {names}; name the entry that does "
                "(`success=NAME`)"
            )
        if on_step is not None:
            on_step(step + 1)


def seen(world: EnvironmentEpisodes, which: Sequence[int]) -> np.ndarray | dict[str, Any]:
    """The observations of some episodes as one batch: (B, D), or a dictionary of (B, d)."""

    def stacked(parts: list[Any]) -> Any:
        if isinstance(parts[0], Mapping):
            return {name: stacked([part[name] for part in parts]) for name in parts[0]}
        return np.stack([np.asarray(part, np.float64).reshape(-1) for part in parts])

    return stacked([world.observations[i] for i in which])


def goals(world: EnvironmentEpisodes, interface: Interface) -> Float[np.ndarray, "B G"]:
    """The goals of all episodes.

    Raises:
        UnveilError: the environment gives none, or of another size.
    """
    rows: list[np.ndarray] = []
    for i in range(world.count):
        goal = world.goal(i)
        if goal is None:
            raise UnveilError(
                f"{world.name} gives no goal: neither desired_goal in its observations nor goal in its "
                "info, and the planner plans to goals"
            )
        row = np.asarray(goal, np.float64).reshape(-1)
        if len(row) != len(interface.goal) and len(row) > max(interface.goal):
            row = row[list(interface.goal)]  # a whole observation as goal
        if len(row) != len(interface.goal):
            raise UnveilError(
                f"{world.name} gives goals of {len(row)} numbers, but the planner's goals have "
                f"{len(interface.goal)}"
            )
        rows.append(row)
    return np.stack(rows)


def planner_decides(planner: GuidedPlanner | GoalPlanner) -> Decide:
    """The decisions of a planner."""

    def decide(world: EnvironmentEpisodes, which: list[int]) -> np.ndarray:
        batch = seen(world, which)
        if isinstance(planner, GuidedPlanner):
            return planner.act(batch, episodes=which)
        wanted = goals(world, planner.interface)[which]
        if not isinstance(batch, dict):
            rows, _ = rows_of(planner.interface, batch, planner.model.shape.observations)
            return planner.act(rows, episodes=which, goals=wanted)
        return planner.act(batch, episodes=which, goals=wanted)

    return decide


def driver_decides(planner: Planner | Diffuser) -> Decide:
    """The decisions of a planner of mazes, which plans once for each body."""
    begun: list[EnvironmentEpisodes] = []

    def decide(world: EnvironmentEpisodes, which: list[int]) -> np.ndarray:
        if not begun:
            planner.reset(goals(world, Interface(goal=(0, 1))))
            begun.append(world)
        rows = seen(world, range(world.count))
        assert isinstance(rows, np.ndarray)
        return planner.act(rows)[which]

    return decide


def clone_decides(clone: Clone, interface: Interface, size: int) -> Decide:
    """The decisions of a clone.

    Args:
        size: numbers of an observation.
    """

    def decide(world: EnvironmentEpisodes, which: list[int]) -> np.ndarray:
        rows, _ = rows_of(interface, seen(world, which), size)
        if interface.goal:
            rows = np.concatenate([rows, goals(world, interface)[which]], axis=1)
        return clone.act(rows, interface)

    return decide


def random_decides(seed: int) -> Decide:
    """Uniformly random actions; each episode has a stream of its own."""
    begun: set[int] = set()

    def decide(world: EnvironmentEpisodes, which: list[int]) -> np.ndarray:
        for i in set(which) - begun:
            world.envs[i].action_space.seed(seed + i)
            begun.add(i)
        drawn = [world.envs[i].action_space.sample() for i in which]
        starts = [getattr(world.envs[i].action_space, "start", 0) for i in which]
        return np.stack([np.asarray(a - s) for a, s in zip(drawn, starts, strict=True)])

    return decide


def environment_metrics(world: EnvironmentEpisodes) -> dict[str, float]:
    """Return and length over the episodes, the rate of success where the environment reports it, and D4RL's
    normalised score where it has one, with 95 % intervals."""
    metrics = return_metrics(world.returns, world.name)
    if world.reported:
        reached = int(world.succeeded.sum())
        low, high = wilson_ci95(reached, world.count)
        metrics |= {"success_rate": reached / world.count, "success_low": low, "success_high": high}
    metrics |= {"length_mean": float(world.lengths.mean()), "terminated_rate": float(world.terminated.mean())}
    return metrics | {"n": world.count}


def return_metrics(returns: Float[np.ndarray, " N"], name: str) -> dict[str, float]:
    """Mean return, and D4RL's score where the environment is one of the named bodies or mazes."""
    metrics: dict[str, float] = {}
    metrics["return_mean"], metrics["return_ci95"] = mean_ci95(returns)
    body = named_body(name)
    if body is not None:
        metrics["score_mean"], metrics["score_ci95"] = mean_ci95(normalized_score(body, returns))
    maze = layout_named(name)
    if maze is not None and maze.score_range is not None:
        metrics["score_mean"], metrics["score_ci95"] = mean_ci95(maze.score(returns))
    return metrics


def named_body(name: str) -> Body | None:
    """The body of an environment such as Hopper-v5; None for other environments."""
    return next((body for body in BODIES.values() if name.rpartition("-v")[0] == body.title), None)


def from_the_side(env: Any, step: int) -> np.ndarray:
    """A picture of a named body from the side, which needs no OpenGL."""
    inside = env.unwrapped
    return side_frame(capsules(inside.model, inside.data), step)


def data_metrics(episodes: Episodes, name: str) -> dict[str, float]:
    """The returns of the recorded episodes; {} where the data have no rewards."""
    if not episodes.origin.rewarded:
        return {}
    lengths = episodes.ends - episodes.starts
    metrics = return_metrics(episodes.returns, name)
    return metrics | {"length_mean": float(lengths.mean()), "n": len(lengths)}


def decisions_per_second(world: EnvironmentEpisodes, decide: Decide, count: int = 20) -> float:
    """Decisions per second in the first episode, one after another, including the first of the episode."""
    world.reset()
    spent, done = 0.0, 0
    while done < count and world.running[0]:
        began = perf_counter()
        action = decide(world, [0])
        spent += perf_counter() - began
        world.step([0], action)
        done += 1
    return done / spent
