"""The maze table: every row on the same episodes, one JSON a cell, resumable; `python benchmarks/maze.py --mazes large`.

Rows: the planner as packaged; with one candidate; with a random instead of the chosen candidate; the same executor on graph search over the
data, without a model; the controller that made the data; the same executor on shortest paths through the map. Weights: the zoo's.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from unveil.data.d4rl import read_d4rl
from unveil.evaluation.data_graph import DataGraph
from unveil.evaluation.maze import maze_metrics, roll, starting_states
from unveil.evaluation.maze_reference import pursued
from unveil.evaluation.plans import reference_metrics
from unveil.recipes.doctor import commit, machine
from unveil.recipes.locate import find_checkpoint, read_config
from unveil.recipes.maze import DataMaze, EvalMaze, data_path, find_layout, load_planner, make_data
from unveil.recipes.maze_eval import evaluate_maze, protocol_name

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
    return reference_metrics(world.layout, pursued(world, path))


def graph_search(maze: str, multi: bool, episodes: int, seed: int) -> dict:
    """The planner's own executor on shortest paths over the very data that the planner was trained on."""
    config = read_config(find_checkpoint(f"maze-{maze}"), "maze")
    file = data_path(find_layout(maze), config["data_steps"], config["data_seed"])
    if not file.is_file():
        make_data(DataMaze(maze=maze, steps=config["data_steps"], seed=config["data_seed"], out=file), quiet)
    world = starting_states(find_layout(maze), multi, episodes, seed)
    return reference_metrics(world.layout, pursued(world, DataGraph(read_d4rl(file)).path))


def one_candidate(maze: str, multi: bool, episodes: int, seed: int) -> dict:
    """The planner with a single sample at the median horizon."""
    planner = load_planner(find_checkpoint(f"maze-{maze}"), "cpu", seed)
    planner.settings = replace(planner.settings, candidates=1)
    world = starting_states(find_layout(maze), multi, episodes, seed)
    planner.reset(world.goal)
    return maze_metrics(world.layout, roll(world, planner.act))


ROWS = {"one-candidate": one_candidate, "random-candidate": random_candidate, "graph-search": graph_search}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mazes", nargs="+", default=["umaze", "medium", "large"])
    parser.add_argument("--episodes", type=int, default=300)
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
                "config": {"maze": maze, "multi": multi, "episodes": arguments.episodes, "seed": arguments.seed},
            }
            main_file = RESULTS / f"{stem}.json"
            if not main_file.is_file():
                config = EvalMaze(maze=maze, multi=multi, checkpoint=f"maze-{maze}", episodes=arguments.episodes, seed=arguments.seed)
                main_file.write_text(json.dumps(described | evaluate_maze(config, quiet), indent=1) + "\n")
            for name, row in ROWS.items():
                file = RESULTS / f"{stem}-{name}.json"
                if not file.is_file():
                    metrics = row(maze, multi, arguments.episodes, arguments.seed)
                    file.write_text(json.dumps(described | {"row": name, "metrics": metrics}, indent=1) + "\n")
                shown = json.loads(file.read_text())["metrics"]
                print(f"{stem:<24} {name:<18} {shown['score_mean']:.1f} ± {shown['score_ci95']:.1f}", flush=True)


if __name__ == "__main__":
    main()
