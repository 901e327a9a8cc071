"""Fine-tuning against training from scratch: 20 demonstrations of PushT with another goal pose. Resumable, row by row.

    unveil data pusht                                       # or UNVEIL_DATA, for 206 human demonstrations
    python benchmarks/fine_tuning.py                        # every row; `--rows tuned-500-s0 scratch-500-s0` some
    python benchmarks/fine_tuning.py --steps 2 --episodes 2 --results look.json    # a quick look

The changed task: the target is turned by 90 degrees about the middle of the scene, from 45 to 135 degrees. The scene is a square, so
that a recorded demonstration, turned with everything in it, is one of the changed task: positions, the block's angle and actions of
the first 20 demonstrations that the published rule chooses. For the same reason a policy is scored in the published world, from the
published starts: it sees the scene turned, and its actions are turned back.

Rows of `results/fine-tuning.json`, each written when it is done and not made again while it is there:

    packaged                     pusht-keypoints as it is, which pushes towards the old pose
    tuned-<steps>-s<seed>        `unveil train pusht --from pusht-keypoints` on the 20 demonstrations, its default rate (5e-5)
    learned-<steps>-s<seed>      the same with `--statistics learned`
    scratch-<steps>-s<seed>      the same network with random weights, its default rate (5e-4)
    all-<steps>-s<seed>          scratch on all 206 demonstrations of the changed task: what more data are worth

Scores are of the same 100 episodes, seeds 100000 .. 100099; intervals are 95 % (Student's t) over episodes, and those of differences
are paired with scratch of the same steps and seed. Minutes of processor time, one thread: 500 steps of 256 windows about 3, 2,000 steps
about 12, a score 2. All rows: three hours.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from unveil.cli import main as unveil
from unveil.policy.data.chunks import published_split
from unveil.policy.data.demonstrations import Demonstrations, write_demonstrations
from unveil.policy.evaluation.pusht import pusht_metrics, roll
from unveil.policy.policy import Policy
from unveil.policy.recipes.load import load_policy
from unveil.policy.recipes.pusht.data import pusht_demonstrations
from unveil.policy.worlds.pusht.block import SIDE, keypoint_observation
from unveil.policy.worlds.pusht.episodes import PushTEpisodes
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.machine import commit, machine
from unveil.runs.statistics import mean_ci95, paired_ci95
from unveil.training.checkpoint import latest_checkpoint

RESULTS = Path(__file__).resolve().parent / "results" / "fine-tuning.json"
RUNS = Path("runs/fine-tuning")
BASE = "pusht-keypoints"
STEPS, SEEDS = (500, 2_000), (0, 1, 2)
KINDS = {
    "tuned": ["--from", BASE],
    "learned": ["--from", BASE, "--statistics", "learned"],
    "scratch": [],
    "all": [],
}
FEW, FIRST_SEED = 20, 100_000


def turned_points(points: np.ndarray) -> np.ndarray:
    """Points (..., 2) turned by 90 degrees about the middle of the scene: (x, y) to (SIDE - y, x)."""
    return np.stack([SIDE - points[..., 1], points[..., 0]], axis=-1)


def turned_back(points: np.ndarray) -> np.ndarray:
    """The inverse of `turned_points`."""
    return np.stack([points[..., 1], SIDE - points[..., 0]], axis=-1)


def turned_states(states: np.ndarray) -> np.ndarray:
    """States (..., 5) turned likewise: agent, block, and the block's angle in [0, 2 pi)."""
    agent, block = turned_points(states[..., :2]), turned_points(states[..., 2:4])
    angle = (states[..., 4:] + np.pi / 2) % (2 * np.pi)
    return np.concatenate([agent, block, angle], axis=-1)


def turned_demonstrations(demonstrations: Demonstrations, count: int) -> Demonstrations:
    """The first `count` demonstrations of the published rule, of the changed task; 0: all."""
    ends = demonstrations.episode_ends
    chosen = demonstrations.chosen(published_split(len(ends), 0.0, count, 42))
    states = turned_states(chosen.observed("state").astype(np.float64)).astype(np.float32)
    actions = turned_points(chosen.actions.astype(np.float64)).astype(np.float32)
    return Demonstrations({"state": states}, actions, chosen.episode_ends)


def score(policy: Policy, episodes: int, steps: int) -> PushTEpisodes:
    """The world after episodes of the changed task, which the policy acted in."""
    world = PushTEpisodes(episodes, FIRST_SEED, steps)
    roll(
        world,
        lambda world: keypoint_observation(turned_states(world.states)),
        lambda seen: turned_back(policy.act(seen)),
    )
    return world


def names(steps: tuple[int, ...]) -> list[str]:
    """All rows, those first that a comparison needs."""
    return ["packaged", *(f"{kind}-{n}-s{seed}" for n in steps for seed in SEEDS for kind in KINDS)]


def trained(name: str, data: Path, more: list[str]) -> Path:
    """The newest checkpoint of a row's run, which is trained or gone on with."""
    kind, steps, seed = name.rsplit("-", 2)
    run = RUNS / name
    words = ["train", "pusht", "--data", str(data), "--hold-out", "0", *KINDS[kind], "--steps", steps]
    words += ["--warmup", str(min(100, int(steps))), "--seed", seed[1:], "--threads", "1", "--device", "cpu"]
    words += ["--save-every", str(min(500, int(steps))), "--out", str(run), *more]
    resume = ["--resume"] if latest_checkpoint(run, warn=False) is not None else []
    if unveil([*words, *resume]):
        raise SystemExit(f"the training of {name} failed")
    return find_checkpoint(str(run))


def row(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and score a row."""
    folder = find_checkpoint(BASE)
    count = 0 if name.startswith("all") else FEW
    if name != "packaged":
        data = RUNS / f"turned-{count or 'all'}.npz"
        if not data.is_file():
            data.parent.mkdir(parents=True, exist_ok=True)
            write_demonstrations(data, turned_demonstrations(pusht_demonstrations(arguments.data), count))
        folder = trained(name, data, arguments.train)
    world = score(load_policy(folder, "cpu"), arguments.episodes, arguments.max_steps)
    coverage, half = mean_ci95(world.coverage)
    made = {"demonstrations": count, "metrics": pusht_metrics(world), "scores": world.best.tolist()}
    made["metrics"] |= {"coverage_mean": coverage, "coverage_ci95": half}
    return made | {"commit": commit(), **machine()}


def compared(rows: dict[str, Any]) -> dict[str, Any]:
    """Each row's score minus that of scratch with as many steps and the same seed: mean and half-width."""
    found: dict[str, Any] = {}
    for name, made in rows.items():
        kind, _, rest = name.partition("-")
        reference = rows.get(f"scratch-{rest}")
        if kind in ("tuned", "learned", "all") and reference is not None:
            difference = paired_ci95(np.array(made["scores"]), np.array(reference["scores"]))
            found[name] = {"minus": f"scratch-{rest}", "mean": difference[0], "ci95": difference[1]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", nargs="*", help="rows to make; by default all")
    parser.add_argument(
        "--steps", nargs="*", type=int, default=list(STEPS), help="numbers of steps of the trainings"
    )
    parser.add_argument("--episodes", type=int, default=100, help="episodes of a score")
    parser.add_argument("--max-steps", type=int, default=300, help="steps of an episode")
    parser.add_argument("--data", default="pusht", help="demonstrations, as unveil train pusht takes them")
    parser.add_argument(
        "--train", nargs=argparse.REMAINDER, default=[], help="further flags of every training"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the rows")
    arguments = parser.parse_args()
    usual = (tuple(arguments.steps), arguments.episodes, arguments.max_steps, arguments.train) == (
        STEPS,
        100,
        300,
        [],
    )
    if not usual and arguments.results == RESULTS:
        parser.error("other numbers than the benchmark's are for a quick look; give --results")
    file: Path = arguments.results
    rows = json.loads(file.read_text())["rows"] if file.is_file() else {}
    for name in arguments.rows or names(tuple(arguments.steps)):
        if name not in rows:
            rows[name] = row(name, arguments)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"rows": rows, "differences": compared(rows)}, indent=1) + "\n")
        metrics = rows[name]["metrics"]
        print(f"{name:18} score {metrics['score_mean']:.3f} +- {metrics['score_ci95']:.3f}")


if __name__ == "__main__":
    main()
