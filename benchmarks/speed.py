"""What people wait for: help, imports, worlds, plans. On an idle machine: `python benchmarks/speed.py`, half a minute.

`results/speed.json`: the smallest of several runs, as other work on a machine only adds. Tests judge none of these: they count what makes
them slow (modules that help imports, calls of a network).
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

RESULT = Path(__file__).resolve().parent / "results" / "speed.json"
HELP = {
    "help": ["--help"],
    "train_maze_help": ["train", "maze", "--help"],
    "sample_text_help": ["sample", "text", "--help"],
}


def best(call: Callable[[], object], turns: int) -> float:
    """The least wall time of a call, in seconds."""
    spent: list[float] = []
    for _ in range(turns):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return min(spent)


def started(*arguments: str) -> Callable[[], object]:
    """A new Python with these arguments."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=60)


def stepped() -> int:
    """256 balls in maze large for 30 steps of random actions; how many steps that is."""
    from unveil.planning.worlds.maze.episodes import random_positions
    from unveil.planning.worlds.maze.layout import LAYOUTS
    from unveil.planning.worlds.maze.physics import BallPhysics

    layout, generator = LAYOUTS["large"], np.random.default_rng(3)
    physics = BallPhysics(layout)
    state = np.concatenate([random_positions(layout, 256, generator), np.zeros((256, 2))], axis=1)
    for action in generator.uniform(-1, 1, (30, 256, 2)):
        state = physics.step(state, action)
    return 256 * 30


def collected() -> int:
    """D4RL-style data of maze umaze."""
    from unveil.planning.worlds.maze.collect import collect
    from unveil.planning.worlds.maze.layout import LAYOUTS

    collect(LAYOUTS["umaze"], 15_000, np.random.default_rng(0))
    return 15_000


def main() -> None:
    import torch

    import unveil
    from unveil.runs.machine import commit, machine

    torch.set_num_threads(1)
    metrics = {
        f"{name}_seconds": best(started("-m", "unveil.cli", *arguments), 7)
        for name, arguments in HELP.items()
    }
    metrics["import_seconds"] = best(started("-c", "import unveil"), 7)
    metrics["python_seconds"] = best(started("-c", "pass"), 7)
    for name, work in (("environment_steps_per_second", stepped), ("data_steps_per_second", collected)):
        metrics[name] = work() / best(work, 5)
    planner = unveil.load("maze-large", device="cpu")
    metrics["plan_ms"] = 1e3 * best(lambda: planner.plan((1.0, 1.0, 0.0, 0.0), (7.0, 9.0)), 30)
    planner.plan((1.0, 1.0, 0.0, 0.0), (7.0, 9.0), budget_ms=400.0)
    metrics["plan_in_400_ms"] = 1e3 * best(
        lambda: planner.plan((1.0, 1.0, 0.0, 0.0), (7.0, 9.0), budget_ms=400.0), 5
    )
    shown = {name: round(value, 3 if value < 100 else 0) for name, value in metrics.items()}
    result = {
        "recipe": "speed",
        "protocol": "the least of several runs, one thread",
        "metrics": shown,
        "commit": commit(),
        **machine("cpu"),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
