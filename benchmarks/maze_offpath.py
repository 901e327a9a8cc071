"""Off the data's path: ends that no training episode connects, a custom layout, and waypoints; `python benchmarks/maze_offpath.py prepare`.

unconnected   the medium maze without any episode that visits both of two opposite corners (rows and columns <= 2, and >= 5): such
              episodes are cut half-way between the two visits. Then: from corner to corner.
spiral        a map of one's own (benchmarks/maps/spiral.txt) with data generated for it; random starts and goals.
via           the packaged large planner, 200 random (start, waypoint, goal): how near the waypoint does the body come?

python benchmarks/maze_offpath.py prepare     # data; prints the training commands
python benchmarks/maze_offpath.py evaluate    # benchmarks/results/maze-offpath.json
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from baselines.graph_search import DataGraph
from unveil.files.places import home
from unveil.planning.data.d4rl import read_d4rl, write_d4rl
from unveil.planning.data.episodes import Episodes
from unveil.planning.evaluation.maze import maze_metrics, roll
from unveil.planning.evaluation.maze_references import oracle_reference, pursued
from unveil.planning.evaluation.plan_diagnostics import (
    execution_diagnostics,
    plan_diagnostics,
    reference_metrics,
)
from unveil.planning.planner import Planner
from unveil.planning.recipes.maze.config import DataMaze
from unveil.planning.recipes.maze.data import data_path, make_data
from unveil.planning.recipes.maze.load import find_layout, load_planner
from unveil.planning.worlds.maze.episodes import MazeEpisodes, random_positions
from unveil.planning.worlds.maze.layout import Layout
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.machine import commit, machine
from unveil.runs.statistics import mean_ci95

HERE = Path(__file__).resolve().parent
SPIRAL = HERE / "maps" / "spiral.txt"
CORNERS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda p: (p < 2.5).all(-1),
    lambda p: (p > 4.5).all(-1),
)


def quiet(*_: object) -> None:
    pass


def disconnected(episodes: Episodes) -> Episodes:
    """No episode visits both corners: half-way between a visit of one and the next of the other there is a cut."""
    inside = [corner(episodes.observations[:, :2]) for corner in CORNERS]
    visits = np.flatnonzero(inside[0] | inside[1])
    which = inside[1][visits].astype(int)
    change = np.flatnonzero(np.diff(which) != 0)
    cuts = (visits[change] + visits[change + 1]) // 2
    timeouts = episodes.timeouts.copy()
    timeouts[cuts] = True
    separate = replace(episodes, timeouts=timeouts)
    number = np.repeat(np.arange(len(separate.ends)), separate.ends - separate.starts)
    assert not set(number[inside[0]]) & set(number[inside[1]])
    return separate


def unconnected_data() -> Path:
    path = home() / "maze" / "medium-unconnected.hdf5"
    if not path.is_file():
        whole = data_path(find_layout("medium"), 2_000_000, 0)
        if not whole.is_file():
            make_data(DataMaze(maze="medium", steps=2_000_000, out=whole), quiet)
        write_d4rl(path, disconnected(read_d4rl(whole)))
    return path


def corner_to_corner(layout: Layout, count: int, seed: int) -> MazeEpisodes:
    """Episodes from one corner to the other, half of them each way."""
    rng = np.random.default_rng(seed)
    ends = [[c for c in layout.cells if corner(c)] for corner in CORNERS]
    world = MazeEpisodes(layout, count)
    draws = [
        np.array([side[int(rng.integers(len(side)))] for _ in range(count)])
        + rng.uniform(-0.1, 0.1, (count, 2))
        for side in ends
    ]
    turned = (np.arange(count) % 2 == 1)[:, None]
    world.state = np.concatenate(
        [np.where(turned, draws[1], draws[0]), 0.1 * rng.standard_normal((count, 2))], axis=1
    )
    world.goal = np.where(turned, draws[0], draws[1])
    return world


def random_pairs(layout: Layout, count: int, seed: int) -> MazeEpisodes:
    world = MazeEpisodes(layout, count)
    world.reset(np.random.default_rng(seed), multi=True)
    return world


def planned(world: MazeEpisodes, planner: Planner) -> dict:
    planner.reset(world.goal)
    rollout = roll(world, planner.act)
    plans = [plan for plan in planner.plans if plan is not None]
    stride = planner.model.shape.stride
    diagnostics = plan_diagnostics(world.layout, plans, stride) | execution_diagnostics(plans, rollout)
    return maze_metrics(world.layout, rollout) | diagnostics | {"replans_mean": planner.replans / world.count}


def unconnected(runs: Path, count: int, seed: int) -> dict:
    layout = find_layout("medium")
    rows = {}
    for name, checkpoint in (
        ("unveil", str(runs / "maze-unconnected")),
        ("unveil, trained on connected data", "maze-medium"),
    ):
        rows[name] = planned(
            corner_to_corner(layout, count, seed), load_planner(find_checkpoint(checkpoint), "cpu", seed)
        )
    graph = DataGraph(read_d4rl(unconnected_data()))
    rows["graph search over the same data"] = reference_metrics(
        layout, pursued(corner_to_corner(layout, count, seed), graph.path)
    )
    rows["oracle, given the map"] = reference_metrics(
        layout, oracle_reference(corner_to_corner(layout, count, seed))
    )
    return rows


def spiral(runs: Path, count: int, seed: int) -> dict:
    layout = find_layout(str(SPIRAL))
    planner = load_planner(find_checkpoint(str(runs / "maze-spiral")), "cpu", seed)
    rows = {"unveil": planned(random_pairs(layout, count, seed), planner)}
    rows["oracle, given the map"] = reference_metrics(
        layout, oracle_reference(random_pairs(layout, count, seed))
    )
    return rows


def via(count: int, seed: int) -> dict:
    layout = find_layout("large")
    planner = load_planner(find_checkpoint("maze-large"), "cpu", seed)
    rng = np.random.default_rng(seed)
    starts, stops, goals = (random_positions(layout, count, rng) for _ in range(3))
    missed, arrived = [], []
    for start, stop, goal in zip(starts, stops, goals, strict=True):
        world = MazeEpisodes(layout, 1)
        world.state, world.goal = np.concatenate([start, np.zeros(2)])[None], goal[None]
        planner.reset(goal, via=[(None, tuple(stop))])
        rollout = roll(world, lambda seen: planner.act(seen[0])[None])
        track = rollout.observations[:, 0, :2]
        touched = np.linalg.norm(track - stop, axis=1)
        near = int((touched <= 0.3).argmax()) if (touched <= 0.3).any() else len(track)
        arrived.append(bool(rollout.rewards[near:, 0].any()))
        missed.append(float(touched.min()))
    share, interval = mean_ci95((np.array(missed) <= 0.3).astype(float))
    return {
        "within_0.3_rate": share,
        "within_0.3_ci95": interval,
        "distance_mean": float(np.mean(missed)),
        "distance_max": float(np.max(missed)),
        "then_goal_rate": float(np.mean(arrived)),
        "n": count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["prepare", "evaluate"])
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder that holds maze-unconnected and maze-spiral"
    )
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "prepare":
        print(
            f"unveil train maze --maze medium --data {unconnected_data()} --steps 4000 --out {arguments.runs}/maze-unconnected"
        )
        print(
            f"unveil train maze --maze {SPIRAL} --data-steps 1000000 --steps 3000 --out {arguments.runs}/maze-spiral"
        )
        return
    results = {
        "unconnected": unconnected(arguments.runs, arguments.episodes, arguments.seed),
        "spiral": spiral(arguments.runs, arguments.episodes, arguments.seed),
        "via": via(arguments.episodes, arguments.seed),
    }
    described = {
        "recipe": "maze",
        "protocol": "off the data's path, see benchmarks/maze_offpath.py",
        "commit": commit(),
        **machine(),
    }
    described |= {"seeds": [arguments.seed], "metrics": results}
    (HERE / "results" / "maze-offpath.json").write_text(json.dumps(described, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
