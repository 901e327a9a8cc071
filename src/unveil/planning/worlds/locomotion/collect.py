"""Generate D4RL-style locomotion data: whole episodes of trained policies of known strength."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from unveil.errors import UnveilError
from unveil.planning.data.episodes import Episodes
from unveil.planning.worlds.locomotion.behaviour_policies import Policy, load_actor, load_snapshots
from unveil.planning.worlds.locomotion.body import Body
from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes

Mix = Literal["medium", "medium-replay", "medium-expert", "expert"]
MEDIUM = {
    "hopper": 40,
    "walker2d": 80,
    "halfcheetah": 500,
}  # TRPO iterations, which are 20 apart; so Hopper's is better than D4RL's medium policy
BATCH = 64  # episodes that are stepped together; the data do not depend on it


@dataclass(frozen=True)
class Part:
    """One policy's share of a data set.

    Args:
        policy: the policy.
        steps: minimum number of transitions, in whole episodes.
    """

    policy: Policy
    steps: int


def mixture(folder: Path, body: Body, mix: Mix, steps: int) -> list[Part]:
    """The policies of a mix, in the order of the data, each with an equal share of the steps.

    `medium`: the snapshot `MEDIUM` of TRPO; `medium-replay`: that and all earlier ones; `expert`: TQC;
    `medium-expert`: both.

    Raises:
        UnveilError: the folder or one of its files is missing or damaged.
    """
    if not folder.is_dir():
        raise UnveilError(
            f"{folder}: {'a file, but a folder' if folder.exists() else 'no such folder'} of trained "
            "policies; needed are "
            f"trpo_{body.title}.npz and tqc_{body.title}.npz "
            "(--policies DIR, or mujoco_policies in the folder that UNVEIL_DATA names)"
        )
    medium, policies = MEDIUM[body.name], list[Policy]()
    if mix != "expert":
        first = 0 if mix == "medium-replay" else medium
        policies += load_snapshots(folder / f"trpo_{body.title}.npz", body, range(first, medium + 1))
    if mix.endswith("expert"):
        policies.append(load_actor(folder / f"tqc_{body.title}.npz", body))
    return [Part(policy, ceil(steps / len(policies))) for policy in policies]


def collect(
    body: Body,
    parts: Sequence[Part],
    seed: int,
    version: Literal["v4", "v5"] = "v5",
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> Episodes:
    """Roll out the policies with their noise, one part after another, in whole episodes.

    Episode k of part p depends on (seed, p, k) only, so the data do not depend on the batch size. `terminals`
    mark episodes that ended because the body was not healthy, `timeouts` those that reached the last step.
    `actions` are the applied ones. `infos["policy"]` is the number of the part.

    Args:
        progress: called repeatedly with the number of finished steps.
    Raises:
        ValueError: no part, a part with steps < 1, batch < 1 or seed < 0.
    """
    if not parts or min(part.steps for part in parts) < 1 or batch < 1 or seed < 0:
        raise ValueError(
            f"collect: parts of at least 1 step, batch >= 1 and seed >= 0 are needed, got {parts}, {batch} "
            f"and {seed}"
        )
    pieces: list[_Piece] = []
    total = 0
    for index, part in enumerate(parts):
        wanted, first = total + part.steps, len(pieces)
        while total < wanted:
            done = len(pieces) - first
            length = sum(len(piece.rewards) for piece in pieces[first:]) / done if done else body.steps
            count = min(batch, ceil((wanted - total) / length))
            for piece in _roll(body, part.policy, (seed, index), done, count, version):
                if total < wanted:
                    pieces.append(piece)
                    total += len(piece.rewards)
            if progress is not None:
                progress(total)
    ends = np.cumsum([len(piece.rewards) for piece in pieces]) - 1
    marks = np.zeros((2, total), dtype=bool)
    owner = np.repeat([piece.part for piece in pieces], [len(piece.rewards) for piece in pieces])
    marks[:, ends] = [[piece.terminated for piece in pieces], [not piece.terminated for piece in pieces]]
    return Episodes(
        observations=np.concatenate([piece.observations for piece in pieces]),
        actions=np.concatenate([piece.actions for piece in pieces]),
        rewards=np.concatenate([piece.rewards for piece in pieces]),
        terminals=marks[0],
        timeouts=marks[1],
        final_observations=np.stack([piece.final for piece in pieces]),
        infos={"policy": owner.astype(np.float32)},
    )


def action_noise(policy: Policy, episodes: Episodes, part: int, count: int = 2000) -> float:
    """Root mean square difference of applied and deterministic actions of a part, over `count` of its
    transitions."""
    rows = np.flatnonzero(episodes.infos["policy"] == part)
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
    difference = episodes.actions[rows] - policy.act(episodes.observations[rows])
    return float(np.sqrt(np.square(difference, dtype=np.float64).mean()))


@dataclass(frozen=True)
class _Piece:
    """One episode."""

    observations: Float[np.ndarray, "T D"]
    actions: Float[np.ndarray, "T A"]
    rewards: Float[np.ndarray, " T"]
    final: Float[np.ndarray, " D"]
    terminated: bool
    part: int


def _roll(
    body: Body, policy: Policy, stream: tuple[int, int], first: int, count: int, version: Literal["v4", "v5"]
) -> list[_Piece]:
    """Roll out the episodes first, first + 1, ... of a part."""
    start = int(
        np.random.SeedSequence(stream).generate_state(1)[0]
    )  # far from the small seeds of evaluations
    world = LocomotionEpisodes(body, count, start + first, version)
    generators = [np.random.default_rng((*stream, first + i)) for i in range(count)]
    noise = np.stack(
        [generator.standard_normal((body.steps, body.actions), dtype=np.float32) for generator in generators]
    )
    observations = np.zeros((count, body.steps + 1, body.observations), dtype=np.float32)
    actions = np.zeros((count, body.steps, body.actions), dtype=np.float32)
    rewards = np.zeros((count, body.steps), dtype=np.float32)
    observations[:, 0] = world.observations
    for t in range(body.steps):
        rows = np.flatnonzero(world.running)
        if not len(rows):
            break
        actions[rows, t] = policy.act(observations[rows, t], noise[rows, t])
        observations[:, t + 1] = world.step(actions[:, t])
        rewards[:, t] = world.rewards
    return [
        _Piece(
            observations[i, :n].copy(),
            actions[i, :n].copy(),
            rewards[i, :n].copy(),
            observations[i, n].copy(),
            bool(fallen),
            stream[1],
        )
        for i, (n, fallen) in enumerate(zip(world.lengths.tolist(), world.terminated.tolist(), strict=True))
    ]
