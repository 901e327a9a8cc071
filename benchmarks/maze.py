"""The maze table: every row on the same episodes, one JSON a cell, resumable; `python benchmarks/maze.py --mazes large`.

Rows: the planner as packaged; with one candidate; with a random instead of the chosen candidate; the same executor on graph search over the
data, without a model; the controller that made the data; the same executor on shortest paths through the map. Weights: the zoo's.

And, where their run folders are there (otherwise they are left out, with a word): two more trainings with seeds 1 and 2, and one that
ignores the generator's marks (`--no-cut`):

    for s in 1 2; do
      unveil train maze --maze umaze --data-steps 1000000 --steps 8000 --seed $s --out runs/maze-umaze-s$s
      unveil train maze --maze medium --data-steps 2000000 --steps 8000 --seed $s --out runs/maze-medium-s$s
      unveil train maze --maze large --seed $s --out runs/maze-large-s$s
    done
    unveil train maze --maze umaze --data-steps 1000000 --steps 6000 --no-cut --window-steps 300 --out runs/maze-umaze-uncut
    unveil train maze --maze medium --data-steps 2000000 --steps 5000 --no-cut --out runs/maze-medium-uncut
    unveil train maze --maze large --steps 6000 --no-cut --window-steps 800 --out runs/maze-large-uncut
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.graph_search import DataGraph
from unveil.planning.data.d4rl import read_d4rl
from unveil.planning.evaluation.maze import starting_states
from unveil.planning.evaluation.maze_references import pursued
from unveil.planning.evaluation.plan_diagnostics import reference_metrics
from unveil.planning.recipes.maze.config import DataMaze, EvalMaze
from unveil.planning.recipes.maze.data import data_path, make_data
from unveil.planning.recipes.maze.evaluate import driven, evaluate_maze, protocol_name, timed
from unveil.planning.recipes.maze.load import find_layout, load_planner, read_maze_config
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.flags import JobFlags
from unveil.runs.machine import commit, machine
from unveil.training.checkpoint import latest_checkpoint

RESULTS = Path(__file__).resolve().parent / "results"


def quiet(*_: object) -> None:
    pass


def random_candidate(maze: str, multi: bool, episodes: int, seed: int) -> dict:
    """The planner's own executor on a candidate drawn at random."""
    planner = load_planner(find_checkpoint(f"maze-{maze}"), "cpu", seed)
    rng = np.random.default_rng(seed)

    def path(start: np.ndarray, goal: np.ndarray) -> np.ndarray:
        plan = planner.plan(start, goal)
        k = int(rng.integers(len(plan.candidates)))
        return plan.candidates[k, : plan.lengths[k]]

    world = starting_states(find_layout(maze), multi, episodes, seed)
    metrics = reference_metrics(world.layout, pursued(world, path))
    del metrics["plans_per_second"]  # the first row's
    return metrics


def graph_search(maze: str, multi: bool, episodes: int, seed: int) -> dict:
    """The planner's own executor on shortest paths over the very data that the planner was trained on."""
    config = read_maze_config(find_checkpoint(f"maze-{maze}"))
    file = data_path(find_layout(maze), config["data_steps"], config["data_seed"])
    if not file.is_file():
        made = DataMaze(
            maze=maze, steps=config["data_steps"], out=file, job=JobFlags(seed=config["data_seed"])
        )
        make_data(made, quiet)
    world = starting_states(find_layout(maze), multi, episodes, seed)
    return reference_metrics(world.layout, pursued(world, DataGraph(read_d4rl(file)).path))


def with_weights(checkpoint: str, maze: str, multi: bool, episodes: int, seed: int, **settings: Any) -> dict:
    """The planner with other weights or settings; timed if settings differ."""
    planner, layout = load_planner(find_checkpoint(checkpoint), "cpu", seed, **settings), find_layout(maze)
    metrics = driven(planner, starting_states(layout, multi, episodes, seed))
    return metrics | (timed(planner, starting_states(layout, True, 100, seed + 1)) if settings else {})


def one_candidate(maze: str, multi: bool, episodes: int, seed: int) -> dict:
    """The planner with a single sample, at the middle of its range of paces."""
    return with_weights(f"maze-{maze}", maze, multi, episodes, seed, candidates=1)


def of_run(suffix: str) -> Callable[[str, bool, int, int], dict | None]:
    """The planner with the weights of runs/maze-<maze>-<suffix>; None where that run is not, or not finished."""

    def row(maze: str, multi: bool, episodes: int, seed: int) -> dict | None:
        run = Path("runs") / f"maze-{maze}-{suffix}"
        newest = latest_checkpoint(run)
        if newest is None or newest.name != f"checkpoint-{read_maze_config(run)['steps']}":
            return None
        return with_weights(str(run), maze, multi, episodes, seed)

    return row


ROWS: dict[str, Callable[[str, bool, int, int], dict | None]] = {
    "one-candidate": one_candidate,
    "random-candidate": random_candidate,
    "graph-search": graph_search,
    "seed1": of_run("s1"),
    "seed2": of_run("s2"),
    "uncut": of_run("uncut"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mazes", nargs="+", default=["umaze", "medium", "large"])
    parser.add_argument("--episodes", type=int, default=1200)
    parser.add_argument(
        "--rows",
        nargs="*",
        default=list(ROWS),
        choices=list(ROWS),
        help="besides the packaged planner and its references",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for maze in arguments.mazes:
        for multi in (False, True):
            stem = f"maze-{maze}-{'multi' if multi else 'single'}"
            described = {
                "recipe": "maze",
                "checkpoint": f"maze-{maze}",
                "protocol": protocol_name(find_layout(maze), multi),
                "commit": commit(),
                **machine(),
            }
            described |= {
                "seeds": [arguments.seed],
                "config": {
                    "maze": maze,
                    "multi": multi,
                    "episodes": arguments.episodes,
                    "seed": arguments.seed,
                },
            }
            main_file = RESULTS / f"{stem}.json"
            if not main_file.is_file():
                config = EvalMaze(
                    maze=maze,
                    multi=multi,
                    checkpoint=f"maze-{maze}",
                    episodes=arguments.episodes,
                    job=JobFlags(seed=arguments.seed, threads=1),
                )
                main_file.write_text(json.dumps(described | evaluate_maze(config, quiet), indent=1) + "\n")
            for name in arguments.rows:
                file = RESULTS / f"{stem}-{name}.json"
                if not file.is_file():
                    metrics = ROWS[name](maze, multi, arguments.episodes, arguments.seed)
                    if metrics is None:
                        print(f"{stem:<24} {name:<18} left out: no finished run in runs/", flush=True)
                        continue
                    runs = {"seed1": "s1", "seed2": "s2", "uncut": "uncut"}
                    weights = f"runs/maze-{maze}-{runs[name]}" if name in runs else described["checkpoint"]
                    row_of = {"row": name, "checkpoint": weights, "metrics": metrics}
                    file.write_text(json.dumps(described | row_of, indent=1) + "\n")
                shown = json.loads(file.read_text())["metrics"]
                print(
                    f"{stem:<24} {name:<18} {shown['score_mean']:.1f} ± {shown['score_ci95']:.1f}", flush=True
                )


if __name__ == "__main__":
    main()
