"""Diffuser as published, on the benchmark of `benchmarks/maze.py`: its curve, and two rows of the table. Resumable.

    unveil train maze --maze umaze --preset paper --data-steps 1000000 --save-every 500 --out runs/maze-umaze-paper
    unveil train maze --maze medium --preset paper --data-steps 2000000 --save-every 400 --out runs/maze-medium-paper
    unveil train maze --maze large --preset paper --save-every 400 --out runs/maze-large-paper
    python benchmarks/maze_paper.py --every 1     # the committed curves: medium every 800 steps, large every 1200

The trainings are stopped (SIGTERM, which saves) when their budget of at most three hours a maze is over; the minutes are in the results.
Each checkpoint is scored on 100 episodes with seed 1000 (`results/maze-<maze>-paper-curve.json`: step, minutes of training, both scores).
Rows, 300 episodes with seed 0 as all others: `-paper`, the newest checkpoint; `-paper-same-minutes`, of the checkpoints that were made in
no more minutes than our packaged weights took, the one with the best score on seed 1000 (both tasks added).
"""

import argparse
import json
from pathlib import Path

import torch

from unveil.planning.evaluation.maze import starting_states
from unveil.planning.recipes.maze.evaluate import driven, protocol_name, timed
from unveil.planning.recipes.maze.load import find_layout, load_driver, read_maze_config
from unveil.runs.card import PRIVATE
from unveil.runs.machine import commit, machine

RESULTS = Path(__file__).resolve().parent / "results"
OURS = {"umaze": 14.0, "medium": 24.0, "large": 79.0}  # minutes, from the cards of the packaged weights


def minutes(run: Path) -> dict[int, float]:
    """Training time until each record of `metrics.jsonl`."""
    spent, before, found = 0.0, 0, {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        spent += (record["step"] - before) / record["steps_per_second"] / 60.0
        before = record["step"]
        found[before] = spent
    return found


def score(checkpoint: Path, maze: str, multi: bool, episodes: int, seed: int) -> dict:
    """Metrics of one checkpoint over the episodes of a seed, and how fast it plans."""
    planner, layout = load_driver(checkpoint, "auto", seed), find_layout(maze)
    metrics = driven(planner, starting_states(layout, multi, episodes, seed))
    return metrics | timed(planner, starting_states(layout, True, 5, seed + 1), warm_up=1)


def curve(run: Path, maze: str, every: int, episodes: int = 100, seed: int = 1000) -> list[dict]:
    """One entry a checkpoint, kept in the results: checkpoints that were scored before are not scored again.

    every: only multiples of it, and the newest.
    """
    file, spent = RESULTS / f"maze-{maze}-paper-curve.json", minutes(run)
    entries = json.loads(file.read_text())["metrics"]["curve"] if file.is_file() else []
    known = {entry["step"] for entry in entries}
    made = sorted(int(folder.parent.name.split("-")[1]) for folder in run.glob("checkpoint-*/manifest.json"))
    for step in made:
        if step in known or (step % every and step != made[-1]):
            continue
        folder = run / f"checkpoint-{step}"
        scores = {task: score(folder, maze, task == "multi", episodes, seed) for task in ("single", "multi")}
        entry = {
            "step": step,
            "minutes": next((m for s, m in spent.items() if s >= step), max(spent.values())),
        }
        entries.append(entry | {f"{task}_score_mean": m["score_mean"] for task, m in scores.items()})
        described = {
            "recipe": "maze",
            "protocol": f"{protocol_name(find_layout(maze), False)} and Multi2D",
            "seeds": [seed],
            "commit": commit(),
        }
        config = {name: value for name, value in read_maze_config(folder).items() if name not in PRIVATE}
        file.write_text(
            json.dumps(
                described | machine() | {"config": config, "metrics": {"curve": entries, "n": episodes}},
                indent=1,
            )
            + "\n"
        )
        print(
            f"{maze} step {step}: {entry['minutes']:.0f} min, "
            + ", ".join(f"{k} {m['score_mean']:.1f}" for k, m in scores.items()),
            flush=True,
        )
    return sorted(entries, key=lambda entry: entry["step"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mazes", nargs="+", default=["umaze", "medium", "large"])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        help="score only checkpoints at multiples of this step, and the newest",
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for maze in arguments.mazes:
        run = arguments.runs / f"maze-{maze}-paper"
        if not (run / "metrics.jsonl").is_file():
            print(f"{run}: no such run, left out")
            continue
        entries = curve(run, maze, arguments.every)
        fair = [entry for entry in entries if entry["minutes"] <= OURS[maze]]
        rows = {"paper": entries[-1]}
        if fair:
            rows["paper-same-minutes"] = max(
                fair, key=lambda entry: entry["single_score_mean"] + entry["multi_score_mean"]
            )
        for name, entry in rows.items():
            for multi in (False, True):
                file = RESULTS / f"maze-{maze}-{'multi' if multi else 'single'}-{name}.json"
                if file.is_file() and json.loads(file.read_text())["step"] == entry["step"]:
                    continue
                metrics = score(run / f"checkpoint-{entry['step']}", maze, multi, 300, 0)
                described = {
                    "recipe": "maze",
                    "row": name,
                    "protocol": protocol_name(find_layout(maze), multi),
                    "seeds": [0],
                }
                described |= {
                    "commit": commit(),
                    **machine(),
                    "step": entry["step"],
                    "minutes": entry["minutes"],
                    "metrics": metrics,
                }
                file.write_text(json.dumps(described, indent=1) + "\n")
                print(
                    f"{maze} {'multi' if multi else 'single'} {name}: {metrics['score_mean']:.1f} ± {metrics['score_ci95']:.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
