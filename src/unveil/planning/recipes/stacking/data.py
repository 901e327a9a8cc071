"""Record demonstrations of block stacking: `unveil data stacking`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.stacking.config import DataStacking

if TYPE_CHECKING:
    from unveil.planning.data.episodes import Episodes
    from unveil.planning.worlds.stacking.collect import Episode
    from unveil.runs.progress import Progress


def data_path(episodes: int, seed: int, split: str) -> Path:
    """The cache file of recorded data; its name contains all that determines them."""
    from unveil.files.places import home

    return home() / "stacking" / f"{split}-{episodes}-seed{seed}.hdf5"


def make_stacking_data(config: DataStacking, progress: Progress) -> dict[str, object]:
    """Record the data, write the file and its card, and return what is in them."""
    import json
    import time

    from unveil.files.atomic import check_output, output
    from unveil.planning.data.d4rl import write_d4rl
    from unveil.planning.worlds.stacking.collect import collect

    out = config.out or data_path(config.episodes, config.job.seed, config.split)
    if out.is_dir():
        raise ValueError(f"{out} is a folder; `out` needs a file name such as {out / 'stacking.hdf5'}")
    card_file = out.with_name(f"{out.stem}.card.json")
    for file in (out, card_file):
        check_output(file)
    began = time.perf_counter()
    recorded = collect(
        config.episodes,
        config.job.seed,
        config.split,
        lambda done, total: progress("recording stacking", done, total, {}),
    )
    seconds = time.perf_counter() - began
    write_d4rl(out, flat(recorded))
    card = card_of(config, recorded)
    with output(card_file) as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n")
    steps, asked = sum(len(it.actions) for it in recorded), sum(len(it.asked) for it in recorded)
    success = sum(it.done for it in recorded) / asked
    return {
        "path": str(out),
        "protocol": f"random moves of a scripted arm, split {config.split}",
        "card": card,
        "metrics": {
            "steps": steps,
            "moves": asked,
            "success": success,
            "steps_per_second": steps / seconds,
            "n": len(recorded),
        },
        "summary": f"{out}: {steps:,} steps in {len(recorded):,} episodes at {steps / seconds:,.0f} steps/s; "
        f"{asked:,} moves, {100 * success:.1f} % succeeded",
    }


def flat(recorded: list[Episode]) -> Episodes:
    """Episodes as flat transitions. Rewards are 1 where a move has succeeded; `infos` say which cube is
    moved, what it is put on (-1: the table), and the number of the move."""
    import numpy as np

    from unveil.planning.data.episodes import Episodes

    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("rewards", "ends", "move", "cube", "on")}
    for it in recorded:
        count = len(it.actions)
        move = np.searchsorted(np.array(it.starts), np.arange(count), side="right") - 1
        rewards = np.zeros(count, np.float32)
        ends = [*it.starts[1:], count]
        rewards[[end - 1 for end in ends[: it.done]]] = 1.0
        parts["rewards"].append(rewards)
        parts["ends"].append(np.arange(count) == count - 1)
        parts["move"].append(move)
        parts["cube"].append(np.array([one.cube for one in it.asked])[move])
        parts["on"].append(np.array([-1 if one.on is None else one.on for one in it.asked])[move])
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    return Episodes(
        observations=np.concatenate([it.states[:-1] for it in recorded]).astype(np.float32),
        actions=np.concatenate([it.actions for it in recorded]).astype(np.float32),
        rewards=arrays["rewards"],
        terminals=np.zeros(len(arrays["ends"]), bool),
        timeouts=arrays["ends"],
        infos={name: arrays[name].astype(np.int8) for name in ("move", "cube", "on")},
    )


def card_of(config: DataStacking, recorded: list[Episode]) -> dict[str, object]:
    """The card of a data set. It has no time and no path, so that the same data have the same card."""
    from collections import Counter

    from unveil.planning.worlds.stacking.scene import COLOUR_NAMES
    from unveil.planning.worlds.stacking.tasks import UNSEEN
    from unveil.runs.machine import commit, versions

    def name(cube: int | None) -> str:
        return "table" if cube is None else COLOUR_NAMES[cube]

    moves = Counter(f"{name(it.cube)} on {name(it.on)}" for one in recorded for it in one.asked)
    never = sorted(f"{name(i)} on {name(j)}" for i, j in UNSEEN) if config.split == "unseen" else []
    installed = versions()
    return {
        "name": f"stacking-{config.split}",
        "kind": "made by unveil, in its own world: a KUKA LBR iiwa with a suction cup, four cubes, MuJoCo",
        "behaviour": "a scripted arm: inverse kinematics, random order, speed, heights and small offsets",
        "episodes": len(recorded),
        "steps": sum(len(it.actions) for it in recorded),
        "seed": config.job.seed,
        "split": config.split,
        "never_occurs": never,
        "moves": dict(sorted(moves.items())),
        "success": sum(it.done for it in recorded) / sum(len(it.asked) for it in recorded),
        "licence": "none attached; nothing was downloaded",
        "command": f"unveil data stacking --episodes {config.episodes} --split {config.split} "
        f"--seed {config.job.seed}",
        "versions": {name: installed[name] for name in ("mujoco", "numpy")},
        "commit": commit(),
    }
