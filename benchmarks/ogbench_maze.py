"""OGBench's point mazes, `pointmaze-{large,giant}-navigate`: data, training command and table; `python benchmarks/ogbench_maze.py collect`.

The world, the tasks and the data's oracle are OGBench's own (`pip install ogbench`). The data are made as its `generate_locomaze.py` does
with the published settings (large: 1000 episodes of 1001 steps, giant: 500 of 2001, noise 0.5), and written in D4RL's layout in cells:
(row, column) = (y, x) / 4 + 0.8, since there a cell is 4 long and cell (1, 1) is the origin, and here position (i, j) lies 0.2 off a
cell's centre. Goals are not recorded, so training uses --no-cut.

    python benchmarks/ogbench_maze.py collect              # data and maps into the cache; prints the training commands
    python benchmarks/ogbench_maze.py evaluate             # the table, one JSON a maze in benchmarks/results

Rows: the planner; the same executor on graph search over the same data; OGBench's oracle without noise. Beside them
published success rates, as far as we could check them.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import gymnasium
import numpy as np
import ogbench.locomaze  # noqa: F401  registers the worlds
import torch

from baselines.graph_search import DataGraph
from unveil.files.places import home
from unveil.planning.data.d4rl import read_d4rl, write_d4rl
from unveil.planning.data.episodes import Episodes
from unveil.planning.evaluation.plan_diagnostics import crosses_wall
from unveil.planning.planner import Planner, PlannerSettings
from unveil.planning.pursuit import Pursuit, PursuitGains
from unveil.planning.recipes.maze.load import load_planner
from unveil.planning.worlds.maze.layout import Layout, parse_layout
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.machine import commit, machine
from unveil.runs.statistics import mean_ci95

RESULTS = Path(__file__).resolve().parent / "results"
EPISODES = {"large": (1000, 1001), "giant": (500, 2001)}  # episodes, steps of each
TRAINING = {
    "large": "--window-steps 900 --stride 10 --patch 3 --steps 6000",
    "giant": "--window-steps 1800 --stride 15 --patch 4 --steps 6000",
}
GAINS = PursuitGains(
    gain=20.0, damping=0.0, look_ahead=0.6, hold_gain=20.0, hold_damping=0.0, hold_radius=0.2
)
SETTINGS = PlannerSettings(
    candidates=32, pace=(1.0, 2.0), steps=8, temperature=0.7, gains=GAINS
)  # chosen on seeds 777000 and up
PUBLISHED = {  # OGBench's six baselines and SAW as the paper of SAW prints them (Zhou & Kao 2025), ALPS by its own paper
    "large": {
        "GCBC": (29, 6),
        "GCIVL": (45, 5),
        "GCIQL": (34, 3),
        "QRL": (86, 9),
        "CRL": (39, 7),
        "HIQL": (58, 5),
        "SAW": (85, 10),
    },
    "giant": {
        "GCBC": (1, 2),
        "GCIVL": (0, 0),
        "GCIQL": (0, 0),
        "QRL": (68, 7),
        "CRL": (27, 10),
        "HIQL": (46, 9),
        "SAW": (68, 8),
        "ALPS": (67, 11),
    },
}
Act = Callable[[np.ndarray], np.ndarray]


def cells(xy: np.ndarray) -> np.ndarray:
    """OGBench's (x, y) to (row, column)."""
    return xy[..., ::-1] / 4.0 + 0.8


def world(maze: str, steps: int, stops: bool) -> gymnasium.Env:
    return gymnasium.make(f"pointmaze-{maze}-v0", terminate_at_goal=stops, max_episode_steps=steps)


def layout(maze: str) -> Layout:
    rows = ["".join("#" if tile else "O" for tile in row) for row in world(maze, 1, False).unwrapped.maze_map]
    return parse_layout("\n".join(rows), f"ogbench-{maze}", 1000)


def oracle(env: gymnasium.Env) -> Act:
    """Unit vectors towards the next cell on the way to the goal, from OGBench's own search (remembered by cell)."""
    body = env.unwrapped

    @cache
    def subgoal(start: tuple[int, int], goal: tuple[int, int]) -> np.ndarray:
        return body.get_oracle_subgoal(body.ij_to_xy(start), body.ij_to_xy(goal))[0]

    def act(xy: np.ndarray) -> np.ndarray:
        direction = subgoal(body.xy_to_ij(xy), body.xy_to_ij(body.cur_goal_xy)) - xy
        return direction / (np.linalg.norm(direction) + 1e-6)

    return act


def vertices(free: np.ndarray) -> list[tuple[int, int]]:
    """Free cells that are not the middle of a straight corridor: goals are drawn among them."""
    found = []
    for i, j in np.argwhere(free):
        up, down, left, right = free[i - 1, j], free[i + 1, j], free[i, j - 1], free[i, j + 1]
        if not ((up and down and not left and not right) or (left and right and not up and not down)):
            found.append((int(i), int(j)))
    return found


def collect(maze: str, path: Path, seed: int = 0) -> None:
    """`navigate` data: a new goal whenever one is reached, episodes of fixed length, Gaussian noise 0.5 on the action."""
    episodes, steps = EPISODES[maze]
    env = world(maze, steps, False)
    np.random.seed(seed)  # OGBench draws from the global generator
    body, act = env.unwrapped, oracle(env)
    free = body.maze_map == 0
    starts, goals = [(int(i), int(j)) for i, j in np.argwhere(free)], vertices(free)
    observations = np.empty((episodes * steps, 2), np.float32)
    actions = np.empty_like(observations)
    row = 0
    for episode in range(episodes):
        task = {
            "init_ij": starts[np.random.randint(len(starts))],
            "goal_ij": goals[np.random.randint(len(goals))],
        }
        xy, _ = env.reset(options={"task_info": task}, seed=seed * 1_000_000 + episode)
        for _ in range(steps):
            action = np.clip(act(xy) + np.random.normal(0, 0.5, 2), -1, 1)
            observations[row], actions[row] = xy, action
            row += 1
            xy, _, _, _, info = env.step(action)
            if info["success"]:
                body.set_goal(goals[np.random.randint(len(goals))])
        if episode % 100 == 99:
            print(f"{maze}: {episode + 1} of {episodes} episodes", flush=True)
    ends = np.zeros(row, bool)
    ends[steps - 1 :: steps] = True
    write_d4rl(
        path,
        Episodes(cells(observations).copy(), actions, np.zeros(row, np.float32), ends, np.zeros(row, bool)),
    )


def files(maze: str) -> tuple[Path, Path]:
    """Data and map."""
    folder = home() / "ogbench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{maze}.hdf5", folder / f"ogbench-{maze}.txt"


def drive(
    env: gymnasium.Env, task: int, seed: int, policy: Callable[[np.ndarray, np.ndarray], Act]
) -> tuple[float, int]:
    """One episode of a task: success, and steps."""
    np.random.seed(seed)
    env.action_space.seed(seed)
    xy, info = env.reset(options={"task_id": task}, seed=seed)
    act = policy(xy, np.asarray(info["goal"]))
    for step in range(1, 1001):
        xy, _, terminated, truncated, info = env.step(act(xy))
        if terminated or truncated:
            return float(info["success"]), step
    return 0.0, 1000


def pursuing(
    path_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[np.ndarray, np.ndarray], Act]:
    """The planner's executor on any source of paths."""

    def policy(xy: np.ndarray, goal: np.ndarray) -> Act:
        pursuit = Pursuit(cells(goal)[None], GAINS)
        pursuit.follow(0, path_of(cells(xy), cells(goal)))
        return lambda xy: pursuit.act(np.concatenate([cells(xy), np.zeros(2)])[None])[0, ::-1]

    return policy


def planning(planner: Planner) -> Callable[[np.ndarray, np.ndarray], Act]:
    def policy(xy: np.ndarray, goal: np.ndarray) -> Act:
        planner.reset(cells(goal))
        return lambda xy: planner.act(np.concatenate([cells(xy), np.zeros(2)]))[::-1]

    return policy


def evaluate(maze: str, checkpoint: Path, episodes: int, seed: int) -> dict:
    data, _ = files(maze)
    env, plan_world = world(maze, 1000, True), layout(maze)
    planner = load_planner(find_checkpoint(str(checkpoint)), "cpu", seed)
    planner.settings = SETTINGS
    rows = {
        "unveil": planning(planner),
        "graph search over the data": pursuing(DataGraph(read_d4rl(data)).path),
    }
    act = oracle(env)
    rows["oracle, given the map"] = lambda xy, goal: act
    metrics: dict = {}
    for name, policy in rows.items():
        outcomes, crossed, chosen, replans = [], [], [], 0
        for task in range(1, 6):
            for k in range(episodes):
                outcomes.append((task, *drive(env, task, seed + 1000 * task + k, policy)))
                if name == "unveil" and planner.plans[0] is not None:
                    plan = planner.plans[0]
                    replans += planner.replans
                    chosen.append(crosses_wall(plan_world, plan.path))
                    crossed += [
                        crosses_wall(plan_world, plan.candidates[i, :n]) for i, n in enumerate(plan.lengths)
                    ]
        tasks, success, steps = np.array(outcomes).T
        mean, interval = mean_ci95(success)
        metrics[name] = {
            "success_rate": mean,
            "success_ci95": interval,
            "steps_mean": float(steps.mean()),
            "task_success": [float(success[tasks == t].mean()) for t in range(1, 6)],
            "n": len(success),
        }
        if name == "unveil":
            rates = {
                "wall_crossing_rate": float(np.mean(crossed)),
                "chosen_wall_crossing_rate": float(np.mean(chosen)),
            }
            metrics[name] |= rates | {"replans_mean": replans / len(success)}
        print(
            f"{maze:<6} {name:<28} {100 * mean:.1f} ± {100 * interval:.1f} %, {steps.mean():.0f} steps",
            flush=True,
        )
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["collect", "evaluate"])
    parser.add_argument("--mazes", nargs="+", default=["large", "giant"])
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder that holds ogbench-large and ogbench-giant"
    )
    parser.add_argument("--episodes", type=int, default=50, help="episodes of each of the five tasks")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for maze in arguments.mazes:
        data, text = files(maze)
        if arguments.what == "collect":
            text.write_text("\n".join(layout(maze).rows) + "\n")
            if not data.is_file():
                collect(maze, data)
            print(
                f"unveil train maze --maze {text} --data {data} --no-cut {TRAINING[maze]} --out runs/ogbench-{maze}"
            )
            continue
        metrics = evaluate(maze, arguments.runs / f"ogbench-{maze}", arguments.episodes, arguments.seed)
        described = {
            "recipe": "maze",
            "protocol": f"OGBench pointmaze-{maze}-navigate-v0, 5 tasks, success within 1000 steps",
        }
        described |= {
            "commit": commit(),
            **machine(),
            "seeds": [arguments.seed],
            "training": TRAINING[maze],
            "config": asdict(SETTINGS),
        }
        described |= {"metrics": metrics, "published": PUBLISHED[maze]}
        (RESULTS / f"ogbench-pointmaze-{maze}.json").write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
