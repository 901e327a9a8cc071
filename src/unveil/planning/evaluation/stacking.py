"""Evaluate planners of block stacking: many worlds, plans for all of them at once, and why moves failed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from unveil.planning.data.stacking_states import CONTACTS, JOINTS, cube_positions
from unveil.planning.worlds.stacking.scene import CUBES, SIDE
from unveil.planning.worlds.stacking.stacks import is_clear, levels, on_table, stands_on, tallest
from unveil.planning.worlds.stacking.tasks import Goal, Pair, Task, first_poses, random_goal, reward
from unveil.planning.worlds.stacking.world import Commands, StackingWorld

STEPS = 384
"""Of an episode: three plans of 128 states, as published."""
STILL = 2e-3
"""Largest change of a joint between two rows, in rad, of a plan that has ended."""
HELD = 0.5
"""Contact of a plan from which on the cup sucks."""


@runtime_checkable
class Planner(Protocol):
    """Anything that plans from states (B, 39) to goals (B, 4, 3): plans (B, H, 39)."""

    def plan(
        self,
        states: Float[np.ndarray, "B 39"],
        goals: Float[np.ndarray, "B 4 3"] | None,
        score: Callable[[Float[np.ndarray, "N H 39"]], Float[np.ndarray, " N"]] | None = None,
    ) -> Float[np.ndarray, "B H 39"]: ...


@dataclass
class Episode:
    """One episode, while it goes on.

    Args:
        goal: what it is about.
        world: its simulation.
        states: all states so far.
        plans: number of plans so far.
        failures: why moves have failed.
    """

    goal: Goal
    world: StackingWorld
    states: list[Float[np.ndarray, "39"]]
    plans: int = 0
    failures: list[str] = field(default_factory=list[str])

    @property
    def positions(self) -> Float[np.ndarray, "4 3"]:
        """Where the cubes are."""
        return cube_positions(self.states[-1])

    @property
    def left(self) -> int:
        """Steps that are left."""
        return STEPS + 1 - len(self.states)

    def total(self) -> float:
        """The reward so far, 0 .. 3."""
        return reward(self.goal, cube_positions(self.states[0]), self.positions)


class Result(NamedTuple):
    """What was measured.

    Args:
        rewards: (N,), 0 .. 3.
        failures: how often moves failed, by kind.
        plans: number of plans in all.
        clipped: commanded angles outside of the limits of the joints, in all.
        episodes: the states of each episode.
    """

    rewards: Float[np.ndarray, " N"]
    failures: dict[str, int]
    plans: int
    clipped: int
    episodes: list[Float[np.ndarray, "T 39"]]


def next_pair(episode: Episode) -> Pair | None:
    """What is to be done next: the first pair of the goal that does not hold; without pairs the lowest clear
    cube onto the tallest stack."""
    positions = episode.positions
    on = stands_on(positions)
    if episode.goal.pairs:
        return next((pair for pair in episode.goal.pairs if not on[pair]), None)
    heights = levels(positions)
    top = int(np.argmax(heights))
    if heights[top] == CUBES - 1:
        return None
    free = [k for k in range(CUBES) if k != top and is_clear(positions, k) and not on[k, top]]
    return (min(free, key=lambda k: (heights[k], k)), top) if free else None


def goal_positions(positions: Float[np.ndarray, "4 3"], pair: Pair) -> Float[np.ndarray, "4 3"]:
    """Where the cubes are when a cube was put on another one, and the others have stayed."""
    found = positions.copy()
    found[pair[0]] = found[pair[1]] + [0.0, 0.0, SIDE]
    return found


def follow(episode: Episode, plan: Float[np.ndarray, "H 39"], stride: int) -> None:
    """Command a plan until it ends: the joints of each row, the steps between in straight lines, and suction
    while a contact of the plan is above 1/2."""
    joints, sucks = plan[:, :JOINTS], plan[:, CONTACTS].max(1) > HELD
    moving = np.flatnonzero((np.abs(np.diff(joints, axis=0)).max(1) > STILL) | (sucks[1:] != sucks[:-1]))
    end = int(moving[-1]) + 1 if len(moving) else 0
    episode.plans += 1
    before = episode.states[-1][:JOINTS]
    for row in range(1, end + 1):
        for part in range(1, stride + 1):
            if episode.left <= 0:
                return
            aim = before + (joints[row] - before) * part / stride
            episode.states.append(episode.world.step(Commands(aim, bool(sucks[row]))))
        before = joints[row]


def why(episode: Episode, pair: Pair, begun: int) -> str:
    """Why a pair does not hold after a plan that was begun at a step: missed grasp, wrong cube, dropped,
    toppled or not done."""
    states = np.array(episode.states[begun:])
    held = states[:, CONTACTS].max(0) > 0
    if not held.any():
        return "missed grasp"
    if not held[pair[0]]:
        return "wrong cube"
    before = cube_positions(states[0])
    moved = [
        k
        for k in range(CUBES)
        if k not in pair and np.linalg.norm(before[k] - episode.positions[k]) > SIDE / 2
    ]
    if moved:
        return "toppled"
    return "dropped" if on_table(episode.positions)[pair[0]] else "not done"


def begin(task: Task, count: int, seed: int, goals: list[Goal] | None = None) -> list[Episode]:
    """Episodes of a task; that of number k depends on (seed, k) alone.

    Args:
        goals: in place of random ones.
    """
    found: list[Episode] = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        goal = random_goal(task, rng) if goals is None else goals[number]
        world = StackingWorld()
        found.append(Episode(goal, world, [world.reset(first_poses(goal, rng))]))
    return found


def run(
    planner: Planner, episodes: list[Episode], stride: int, progress: Callable[[int, int], None] | None = None
) -> Result:
    """Plan for all episodes that go on, in one batch; follow the plans to their ends; plan again."""
    active = list(episodes)
    while active:
        pairs = [next_pair(it) for it in active]
        going = [
            (it, pair) for it, pair in zip(active, pairs, strict=True) if pair is not None and it.left > 0
        ]
        if not going:
            break
        states = np.array([it.states[-1] for it, _ in going])
        goals = np.array([goal_positions(it.positions, pair) for it, pair in going])
        plans = planner.plan(states, goals)
        for (it, pair), plan in zip(going, plans, strict=True):
            begun = len(it.states) - 1
            follow(it, plan, stride)
            if len(it.states) - 1 == begun:  # a plan of rest
                it.failures.append("no move")
                it.states += [it.states[-1]] * it.left
            elif not stands_on(it.positions)[pair]:
                it.failures.append(why(it, pair, begun))
        active = [it for it, _ in going]
        if progress is not None:
            progress(len(episodes) - len(active), len(episodes))
    failures = Counter(reason for it in episodes for reason in it.failures)
    return Result(
        np.array([it.total() for it in episodes]),
        dict(failures),
        sum(it.plans for it in episodes),
        sum(it.world.clipped for it in episodes),
        [np.array(it.states) for it in episodes],
    )


def score(rewards: Float[np.ndarray, " N"]) -> float:
    """The published score: mean reward / 3 x 100."""
    return float(100.0 * rewards.mean() / 3.0)


def tallest_at_end(plans: Float[np.ndarray, "N H 39"]) -> Float[np.ndarray, " N"]:
    """A score of plans: the number of cubes of the tallest stack in their last rows."""
    return np.array([float(tallest(cube_positions(plan[-1]))) for plan in plans])
