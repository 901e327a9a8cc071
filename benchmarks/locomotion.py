"""Locomotion on D4RL-style sets: behaviour, cloning, Diffuser as published, and ours, on the same episodes. Resumable, row by row.

    unveil data locomotion --body hopper --mix medium-expert --policies DIR      # once for each set
    python benchmarks/locomotion.py --train --threads 2                           # trains what is missing; the minutes are in the results
    python benchmarks/locomotion.py                                               # then scores what is trained
    python benchmarks/locomotion.py --rates                                       # decision rates again, on an idle machine: 15 minutes

Rows of `results/locomotion-<set>.json`, each written when it is done and not made again while it is there:

    behaviour, best   the data's episodes: their mean, and the best one
    bc, bc10          behaviour cloning of all, and of the best tenth; n = 30
    diffuser          as published: the temporal U-Net, 20 steps, ascent on the value, K = 8; n = 10
    diffuser-64       the same with the published K = 64: decisions a second on the body's medium-expert set; of hopper's also n = 3,
                      up to half an hour each, one by one (`--sets hopper-medium-expert --parts 0 1 2`)
    unveil            ours: few-step plans, chosen among by the value; n = 30
    unveil-ask        ours: the mean plan of the best return, in one call; n = 30
    warm-<k>, cold-<k>  ours, Diffuser's 20-step grid: later decisions from the last plan with its last k steps; or k steps from noise
                      (`--curve 1 2 3 5 10`; n = 15; `python benchmarks/locomotion_figure.py` draws them)

Episodes have the seeds 0 .. n - 1 in every row; nothing is chosen on them (settings were chosen on seeds from 1000 on).
"""

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import mujoco
import numpy as np
import torch

from baselines.locomotion_cloning import Clone, best_episodes, cloning_loss, pairs
from unveil.planning.data.source import read_episodes
from unveil.planning.evaluation.locomotion import decisions_per_second, locomotion_metrics, roll
from unveil.planning.recipes.locomotion.config import EVAL_PRESETS, TRAIN_PRESETS, VALUE_PRESETS, for_dataset
from unveil.planning.recipes.locomotion.planner import planner_of
from unveil.planning.recipes.locomotion.train import run_folder, train_locomotion, train_value
from unveil.planning.worlds.locomotion.body import body_of, normalized_score
from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes
from unveil.runs.flags import changed, flat
from unveil.runs.machine import commit, machine
from unveil.runs.statistics import mean_ci95
from unveil.runs.training import as_json
from unveil.training.trainer import Training, train

RESULTS = Path(__file__).resolve().parent / "results"
SETS = [
    f"{body}-{mix}"
    for body in ("hopper", "walker2d", "halfcheetah")
    for mix in ("medium-expert", "medium", "medium-replay")
]
STEPS = {
    "default": (8_000, 4_000),
    "paper": (6_000, 4_000),
    "ask": (8_000, 0),
}  # steps of diffusion and value
LOGS = {
    "default": Path("runs/locomotion"),
    "paper": Path("runs/locomotion-paper"),
    "ask": Path("runs/locomotion"),
}
TRAINED = {"default": "default", "paper": "paper", "ask": "default"}  # preset of training


def configs(preset: str, data: str, threads: int) -> list[Any]:
    """The trainings of a method on a set: the diffusion, and the value if the method uses one."""
    common = {"dataset": data, "logbase": LOGS[preset], "threads": threads, "resume": True, "keep": 1}
    diffusion, value = STEPS[preset]
    found = [
        changed(
            for_dataset(TRAIN_PRESETS[TRAINED[preset]], data), steps=diffusion, save_every=1_000, **common
        )
    ]
    if value:
        found.append(
            changed(for_dataset(VALUE_PRESETS[preset], data), steps=value, save_every=1_000, **common)
        )
    return found


def train_missing(data: str, threads: int) -> None:
    """Both methods' models on one set; finished ones are left alone, interrupted ones go on."""
    for preset in LOGS:
        for config, run in zip(configs(preset, data, threads), (train_locomotion, train_value), strict=False):
            if not (run_folder(config) / f"checkpoint-{config.run.steps}" / "manifest.json").is_file():
                began = perf_counter()
                run(
                    config,
                    lambda what, done, total, numbers: (
                        print(f"{what}: {done}/{total}", flush=True) if done % 1000 == 0 else None
                    ),
                )
                print(f"{run_folder(config)}: {(perf_counter() - began) / 60:.1f} min", flush=True)


def minutes(preset: str, data: str) -> float:
    """Training time of a method's models: of one core alone where records say so, else by the clock, whatever else ran beside."""
    spent = 0.0
    for config in configs(preset, data, 1):
        before = 0
        for line in (run_folder(config) / "metrics.jsonl").read_text().splitlines():
            record = json.loads(line)
            spent += (
                (record["step"] - before)
                * record.get("cpu_seconds_per_step", 1.0 / record["steps_per_second"])
                / 60.0
            )
            before = record["step"]
    return spent


def behaviour(data: str) -> dict[str, dict[str, float]]:
    """The recorded episodes: their mean with its interval, and the best."""
    returns = read_episodes(data).returns
    scores = normalized_score(body_of(data), returns)
    rows: dict[str, dict[str, float]] = {"behaviour": {"n": len(returns)}, "best": {"n": 1}}
    for name, values in (("return", returns), ("score", scores)):
        rows["behaviour"][f"{name}_mean"], rows["behaviour"][f"{name}_ci95"] = mean_ci95(values)
        rows["best"][f"{name}_mean"] = float(values.max())
    return rows


def cloned(data: str, share: float, episodes: int) -> dict[str, Any]:
    """Behaviour cloning of the best `share` of the data, with as many gradient steps as converge (8,000)."""
    from tempfile import TemporaryDirectory

    recorded = read_episodes(data)
    recorded = recorded if share == 1.0 else best_episodes(recorded, share)
    torch.manual_seed(0)
    model = Clone(recorded)
    began = perf_counter()
    with TemporaryDirectory() as run:
        training = Training(8_000, save_every=8_000, log_every=2_000)
        model.load_state_dict(train(model, pairs(recorded, 256), cloning_loss, training, Path(run)))
    spent = (perf_counter() - began) / 60.0
    world = LocomotionEpisodes(body_of(data), episodes, 0)
    roll(world, model.act)
    rate = decisions_per_second(body_of(data), model.act, lambda: None, 200, 0)
    return locomotion_metrics(world) | {"decisions_per_second": rate, "minutes": spent}


def told(what: str, step: int) -> None:
    """A line for each hundred steps."""
    if step % 100 == 0:
        print(f"{what} step {step}", flush=True)


def planned(preset: str, data: str, episodes: int, decisions: int, **changes: Any) -> dict[str, Any]:
    """A planner on a set: metrics over episodes (none: only the rate), and what it cost."""
    config = changed(
        for_dataset(EVAL_PRESETS[preset], data), dataset=data, logbase=LOGS[preset], seed=0, **changes
    )
    planner = planner_of(config)
    body = body_of(data)
    metrics: dict[str, Any] = {}
    if episodes:
        world = LocomotionEpisodes(body, episodes, 0)
        acting = planner
        if preset == "paper":  # its episodes take an hour; the float32 layout is equal to 1e-5
            acting = planner_of(replace(config, fast="float32"))
        acting.reset()
        roll(
            world,
            acting.act,
            on_step=partial(told, f"{data} {preset} K={config.settings.candidates}"),
            only_running=preset == "paper",
        )
        metrics = locomotion_metrics(world) | ({"episodes_fast": "float32"} if preset == "paper" else {})
    rate = decisions_per_second(body, planner.act, planner.reset, decisions, 0)
    metrics |= {"decisions_per_second": rate, "decisions_n": decisions, "minutes": minutes(preset, data)}
    return metrics | {
        "candidates": config.settings.candidates,
        "sampling_steps": config.settings.steps,
        "settings": as_json(flat(config)),
    }


def part(data: str, episode: int) -> dict[str, Any]:
    """One episode of the published planner with its published 64 candidates, which takes up to half an hour."""
    config = changed(
        for_dataset(EVAL_PRESETS["paper"], data),
        dataset=data,
        logbase=LOGS["paper"],
        seed=episode,
        fast="float32",
    )
    world, planner = LocomotionEpisodes(body_of(data), 1, episode), planner_of(config)
    roll(world, planner.act, on_step=partial(told, f"{data} K=64 episode {episode}"))
    return {
        "return": float(world.returns[0]),
        "length": int(world.lengths[0]),
        "terminated": bool(world.terminated[0]),
    }


def together(data: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of episodes played one by one, and the rate."""
    returns = np.array([p["return"] for p in parts])
    metrics: dict[str, Any] = {"n": len(parts), "episodes_fast": "float32"}
    for name, values in (("return", returns), ("score", normalized_score(body_of(data), returns))):
        metrics[f"{name}_mean"], metrics[f"{name}_ci95"] = mean_ci95(values)
    metrics["length_mean"] = float(np.mean([p["length"] for p in parts]))
    metrics["fall_rate"] = float(np.mean([p["terminated"] for p in parts]))
    return metrics | made_row("diffuser-64", data, 0)


PLANNED: dict[str, tuple[str, int, dict[str, Any]]] = {  # row -> preset, decisions that are timed, changes
    "unveil": ("default", 200, {}),
    "unveil-ask": ("ask", 200, {}),
    "diffuser": ("paper", 50, {"candidates": 8}),
    "diffuser-64": ("paper", 200, {}),
}


def made_row(row: str, data: str, episodes: int) -> dict[str, Any]:
    """A planner's row."""
    preset, decisions, changes = PLANNED[row]
    return planned(preset, data, episodes, decisions, **changes)


def time_again(data: str, rows: list[str]) -> None:
    """Measure the decision rates of planners' rows anew; nothing else of the rows changes."""
    file = RESULTS / f"locomotion-{data}.json"
    for row in rows:
        result = json.loads(file.read_text())
        if row in PLANNED and row in result["metrics"]:
            rate = made_row(row, data, 0)["decisions_per_second"]
            result["metrics"][row]["decisions_per_second"] = rate
            file.write_text(json.dumps(result, indent=1) + "\n")
            print(f"{data} {row}: {rate:.2f} decisions a second", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument(
        "--rows",
        nargs="*",
        default=["behaviour", "bc", "bc10", "unveil", "unveil-ask", "diffuser", "diffuser-64"],
    )
    parser.add_argument("--train", action="store_true", help="train what is missing first")
    parser.add_argument(
        "--curve",
        type=int,
        nargs="*",
        default=[],
        help="numbers of denoising steps k, for rows warm-<k> and cold-<k>",
    )
    parser.add_argument(
        "--parts",
        type=int,
        nargs="*",
        default=[],
        help="episodes of diffuser-64 to play now, each kept when it is over",
    )
    parser.add_argument(
        "--rates",
        action="store_true",
        help="measure the decision rates of the rows that are there again: an idle machine",
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for data in arguments.sets:
        if arguments.rates:
            time_again(data, arguments.rows)
            continue
        if arguments.train:
            train_missing(data, arguments.threads)
        file = RESULTS / f"locomotion-{data}.json"
        result: dict[str, Any] = (
            json.loads(file.read_text())
            if file.is_file()
            else {"recipe": "locomotion", "dataset": data, "metrics": {}}
        )
        made: dict[str, Any] = {
            "bc": lambda d=data: cloned(d, 1.0, 30),
            "bc10": lambda d=data: cloned(d, 0.1, 30),
            "unveil": lambda d=data: made_row("unveil", d, 30),
            "unveil-ask": lambda d=data: made_row("unveil-ask", d, 30),
            "diffuser": lambda d=data: made_row("diffuser", d, 10),
        }
        parts = result.get("parts", {})
        for episode in arguments.parts:
            if str(episode) not in parts:
                played = part(data, episode)
                result = json.loads(file.read_text()) if file.is_file() else result
                result["parts"] = parts = result.get("parts", {}) | {str(episode): played}
                file.write_text(json.dumps(result, indent=1) + "\n")
        if data == "hopper-medium-expert" and len(parts) == 3:
            made["diffuser-64"] = lambda d=data, parts=parts: together(d, list(parts.values()))
        elif data.endswith("medium-expert") and data != "hopper-medium-expert":
            made["diffuser-64"] = lambda d=data: made_row("diffuser-64", d, 0)
        made |= {
            f"warm-{k}": lambda d=data, k=k: planned("default", d, 15, 50, steps=20, warm_steps=k)
            for k in arguments.curve
        }
        made |= {
            f"cold-{k}": lambda d=data, k=k: planned("default", d, 15, 50, steps=k) for k in arguments.curve
        }
        for row in [
            *arguments.rows,
            *(f"{start}-{k}" for k in arguments.curve for start in ("cold", "warm")),
        ]:
            if row in result["metrics"] or (row == "diffuser-64" and row not in made):
                continue
            try:
                rows = behaviour(data) if row == "behaviour" else {row: made[row]()}
            except Exception as error:  # a set without data or models is "not run", and the others go on
                print(f"{data} {row}: not run ({error})", flush=True)
                continue
            result = (
                json.loads(file.read_text()) if file.is_file() else result
            )  # another process may have added rows meanwhile
            for name, metrics in rows.items():
                result["metrics"][name] = metrics | {
                    "threads": arguments.threads,
                    "commit": commit(),
                    "mujoco": mujoco.__version__,
                }
                shown = {
                    k: round(v, 1) for k, v in metrics.items() if isinstance(v, float) and np.isfinite(v)
                }
                print(f"{data} {name}: {shown}", flush=True)
            described = {
                "protocol": f"gymnasium v5, mujoco {mujoco.__version__}, D4RL-style data, D4RL's normalised score",
                "seeds": [0],
            }
            file.write_text(json.dumps(result | described | machine(), indent=1) + "\n")


if __name__ == "__main__":
    main()
