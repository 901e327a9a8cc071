"""Demonstrations: episodes of random moves from random arrangements."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from unveil.planning.data.stacking_states import TURNS, cube_positions, yaw_of
from unveil.planning.worlds.stacking.demonstrator import moves, random_style
from unveil.planning.worlds.stacking.placement import APART, WIDEST, on_circle, placed
from unveil.planning.worlds.stacking.scene import CUBES, SIDE
from unveil.planning.worlds.stacking.stacks import is_clear, on_table, stands_on
from unveil.planning.worlds.stacking.tasks import MOVES, UNSEEN, Pair, arrangement, pairs_of
from unveil.planning.worlds.stacking.world import StackingWorld

Split = Literal["all", "unseen"]
ALONE, ONTO_TABLE = 0.5, 0.2
"""Shares of episodes that begin with all cubes on the table, and of moves onto the table if possible."""


class Move(NamedTuple):
    """A cube, and the cube that it is put on; None: onto the table."""

    cube: int
    on: int | None


class Episode(NamedTuple):
    """One demonstration.

    Args:
        states: (T + 1, 39).
        actions: (T, 8), commanded joint angles in rad, and 1 where the cup sucks.
        starts: first step of each move.
        done: moves that succeeded.
        asked: moves.
    """

    states: Float[np.ndarray, "N 39"]
    actions: Float[np.ndarray, "T 8"]
    starts: tuple[int, ...]
    done: int
    asked: tuple[Move, ...]


def random_stacks(rng: np.random.Generator, forbidden: frozenset[Pair]) -> Sequence[Sequence[int]]:
    """Where an episode begins."""
    if rng.random() < ALONE:
        return [[k] for k in range(CUBES)]
    while True:
        found = arrangement(rng, 3)
        if not set(pairs_of(found)) & forbidden:
            return found


def random_move(
    positions: Float[np.ndarray, "4 3"], rng: np.random.Generator, forbidden: frozenset[Pair]
) -> Move | None:
    """A move that is possible: a clear cube onto another clear cube, or from a stack onto the table."""
    clear = [k for k in range(CUBES) if is_clear(positions, k)]
    onto = [
        Move(i, j)
        for i in clear
        for j in clear
        if i != j and (i, j) not in forbidden and not stands_on(positions)[i, j]
    ]
    down = [Move(k, None) for k in clear if not on_table(positions)[k]]
    if not onto and not down:
        return None
    chosen = down if down and (not onto or rng.random() < ONTO_TABLE) else onto
    return chosen[rng.integers(len(chosen))]


def free_place(positions: Float[np.ndarray, "4 3"], rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A place on the circle where nothing stands."""
    while True:
        found = on_circle(rng.uniform(-WIDEST, WIDEST))
        if float(np.hypot(*(positions[:, :2] - found[:2]).T).min()) > APART:
            return found


def episode(
    world: StackingWorld, rng: np.random.Generator, split: Split = "all", count: int = MOVES
) -> Episode:
    """An episode of random moves. It ends early if a move fails, or if none is possible."""
    forbidden = UNSEEN if split == "unseen" else frozenset[Pair]()
    state = world.reset(placed(random_stacks(rng, forbidden), rng))
    states, actions, starts, asked, done = [state], list[np.ndarray](), list[int](), list[Move](), 0
    for _ in range(count):
        positions = cube_positions(state)
        move = random_move(positions, rng, forbidden)
        if move is None:
            break
        starts.append(len(actions))
        asked.append(move)
        for commands in moves(state, move.cube, *target_of(state, move, rng), random_style(rng)):
            state = world.step(commands)
            states.append(state)
            actions.append(np.array([*commands.joints, float(commands.suction)]))
        if not succeeded(cube_positions(state), move):
            break
        done += 1
    return Episode(np.array(states), np.array(actions), tuple(starts), done, tuple(asked))


def target_of(
    state: Float[np.ndarray, "39"], move: Move, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "3"], float]:
    """Where the centre of the moved cube shall be, and its yaw."""
    positions = cube_positions(state)
    if move.on is None:
        found = free_place(positions, rng)
        return found, float(np.arctan2(found[1], found[0])) + rng.uniform(-np.pi / 4, np.pi / 4)
    return positions[move.on] + [0.0, 0.0, SIDE], yaw_of(state[TURNS[move.on]])


def succeeded(positions: Float[np.ndarray, "4 3"], move: Move) -> bool:
    """Whether a move has done what it should."""
    if move.on is None:
        return bool(on_table(positions)[move.cube])
    return bool(stands_on(positions)[move.cube, move.on])


def collect(
    count: int, seed: int, split: Split = "all", progress: Callable[[int, int], None] | None = None
) -> list[Episode]:
    """Episodes; that of number k depends on (seed, k) alone.

    Raises:
        ValueError: count < 1 or seed < 0.
    """
    if count < 1 or seed < 0:
        raise ValueError(f"at least 1 episode and a seed >= 0 are needed, got {count} and {seed}")
    world, found = StackingWorld(), list[Episode]()
    for number in range(count):
        found.append(episode(world, np.random.default_rng((seed, number)), split))
        if progress is not None:
            progress(number + 1, count)
    return found
