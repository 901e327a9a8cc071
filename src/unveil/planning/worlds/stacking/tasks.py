"""The three published tasks: how an episode begins, what its goal is, and its reward of at most 3.

Published score (Janner et al. 2022, section 5.2, and the code of the branch kuka): reward / 3 x 100.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from unveil.planning.worlds.stacking.placement import placed
from unveil.planning.worlds.stacking.scene import COLOUR_NAMES, CUBES
from unveil.planning.worlds.stacking.stacks import levels, stands_on, tallest

Task = Literal["unconditional", "conditional", "rearrangement"]
TASKS: tuple[Task, ...] = ("unconditional", "conditional", "rearrangement")
Pair = tuple[int, int]
"""A cube and the cube that it stands on."""
PAIRS: tuple[Pair, ...] = tuple((i, j) for i in range(CUBES) for j in range(CUBES) if i != j)
UNSEEN: frozenset[Pair] = frozenset((i, (i + 1) % CUBES) for i in range(CUBES))
"""Compositions that never occur in the data of the split `unseen`: each cube on the next, a third of all."""
MOVES = 3
"""Of an episode, as published: three plans."""


class Goal(NamedTuple):
    """What an episode is about.

    Args:
        stacks: where the cubes stand at the beginning, from below.
        pairs: what shall stand on what at the end, from below; none in the task `unconditional`.
    """

    task: Task
    stacks: tuple[tuple[int, ...], ...]
    pairs: tuple[Pair, ...] = ()


def pairs_of(stacks: Sequence[Sequence[int]]) -> tuple[Pair, ...]:
    """What stands on what, from below."""
    return tuple((upper, lower) for stack in stacks for lower, upper in pairwise(stack))


def ordered(order: Sequence[int]) -> Goal:
    """The goal of the task `conditional`: a stack of the cubes, from below.

    Raises:
        ValueError: a cube that does not exist, or one that is named twice.
    """
    if sorted(order) != list(range(CUBES)):
        names = ", ".join(f"{k} {name}" for k, name in enumerate(COLOUR_NAMES))
        raise ValueError(f"the order must name each of the cubes once ({names}), got {list(order)}")
    return Goal("conditional", tuple((k,) for k in range(CUBES)), pairs_of([order]))


def arrangement(rng: np.random.Generator, most: int = CUBES) -> tuple[tuple[int, ...], ...]:
    """Cubes in random stacks of at most `most`, not all of them alone."""
    while True:
        cubes, found = [int(k) for k in rng.permutation(CUBES)], list[tuple[int, ...]]()
        while cubes:
            height = int(rng.integers(1, min(most, len(cubes)) + 1))
            found.append(tuple(cubes[:height]))
            cubes = cubes[height:]
        if len(found) < CUBES:
            return tuple(found)


def random_goal(task: Task, rng: np.random.Generator) -> Goal:
    """An episode of a task: cubes apart and a random order, or two random arrangements that have no pair in
    common, the second reached by at most `MOVES` moves."""
    if task == "unconditional":
        return Goal(task, tuple((k,) for k in range(CUBES)))
    if task == "conditional":
        return ordered([int(k) for k in rng.permutation(CUBES)])
    while True:
        begin, end = arrangement(rng, 2), arrangement(rng, 3)
        wanted = pairs_of(end)
        if not set(wanted) & set(pairs_of(begin)) and _reachable(begin, wanted):
            return Goal(task, begin, wanted)


def _reachable(stacks: Sequence[Sequence[int]], pairs: Sequence[Pair]) -> bool:
    """Whether each pair can be made by one move, from below: both cubes are clear then."""
    on = dict(pairs_of(stacks))
    if len(pairs) > MOVES:
        return False
    for upper, lower in pairs:
        if upper in on.values() or lower in on.values():
            return False
        on[upper] = lower
    return True


def reward(goal: Goal, first: Float[np.ndarray, "4 3"], last: Float[np.ndarray, "4 3"]) -> float:
    """Reward of an episode, 0 .. 3.

    unconditional: by how many cubes the tallest stack has grown. conditional: the number of levels above the
    first that are right, from below without a gap. rearrangement: 3 times the share of pairs that hold.

    Args:
        first, last: positions of the cubes at the beginning and at the end.
    """
    if goal.task == "unconditional":
        return float(max(0, tallest(last) - tallest(first)))
    on = stands_on(last)
    holds = [bool(on[pair]) for pair in goal.pairs]
    if goal.task == "rearrangement":
        return 3.0 * sum(holds) / len(holds)
    right = levels(last)
    return float(sum(all(holds[: k + 1]) and right[goal.pairs[k][0]] == k + 1 for k in range(len(holds))))


def first_poses(goal: Goal, rng: np.random.Generator) -> Float[np.ndarray, "4 7"]:
    """Where the cubes stand at the beginning."""
    return placed(goal.stacks, rng)
