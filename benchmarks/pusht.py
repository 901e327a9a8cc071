"""PushT by the published protocol: replay, cloning, neighbours, ours; solvers, delays, both ways. Resumable, row by row.

    unveil data pusht                                                            # or UNVEIL_DATA, for 206 human demonstrations
    unveil train pusht --out runs/pusht-cnn                                      # or the packaged pusht-keypoints, which it is
    unveil train pusht --predicts eps --out runs/pusht-eps                       # rows eps-*: noise is said, as published, not v
    unveil train pusht --network transformer --out runs/pusht-transformer
    unveil train pusht --prefix 8 --horizon 24 --out runs/pusht-prefix           # rows delay-*, n-action-*
    unveil train pusht --distill runs/pusht-cnn --learning-rate 1e-4 --steps 4000 --out runs/pusht-student    # rows student-*
    unveil train pusht --observation pixels --steps 4000 --batch-size 64 --out runs/pusht-pixels   # row pixels
    for r in 0.0001 0.0003 0.001; do for s in 0 1 2; do                          # the spread over rates and seeds
      unveil train pusht --preset tiny --predicts eps --learning-rate $r --seed $s --out runs/pusht-lr$r-s$s; done; done
    python benchmarks/pusht.py --train mse bins mdn              # as many steps as that run's, same trunk
    python benchmarks/pusht.py                                                   # every row that can be made; `--rows knn-1 cnn` some
    python benchmarks/pusht.py --times                                           # times of decisions again, on an idle machine
    python benchmarks/pusht_figure.py

Rows of `results/pusht.json`, each written when it is done and not made again while it is there; a row whose run folder is missing or not
finished is left out, with a word:

    replay                       from results/pusht-replay.json (`python benchmarks/pusht_replay.py`): people, not a limit
    knn-1, knn-5                 the nearest recorded chunk; the weighted mean of five
    mse, bins, mdn               heads on the same trunk; no diffusion
    cnn, transformer             ours, DDIM in 10 steps
    cnn-raw                      the weights themselves, not their average
    pareto-<solver>-<steps>      of the cnn; ddpm-100 is the reference of all paired intervals, eps-ddpm-100 that of rows eps-*
    eps-<solver>-<steps>         the same network, which says noise, as published
    student-<k>                  distilled from the cnn, k network calls
    pixels                       96 x 96 pictures and the agent's place
    n-action-<n>                 actions executed of a chunk, DDIM in 5 steps; of runs/pusht-prefix: chunks of 24 are long enough for 16
    lr<r>-s<s>                   3 learning rates x 3 seeds, preset tiny
    delay-<d>-<mode>             d steps of 0.1 s between seeing and acting: wait, naive, prefix, soft; all of runs/pusht-prefix, whose
                                 chunks of 24 hold 8 actions after a delay of 8 (those of 16 hold 7) and whose prefixes reach it; DDIM
                                 in 5 steps, n = 100
    energy                       energy score of drawn chunks of held-out episodes, over the first h actions, of every head and ours
    ways                         100 episodes from a symmetric start: sides and commitment; and 8 from each of 20 of them, of which the
                                 one was chosen before, with other noise, as one from which both ways are likely

Minutes of processor time, one thread. Trainings, from 8 steps each beside other work, which takes a third longer: pusht-cnn 50 to 60; as
much for each of mse, bins, mdn; -prefix 85; -transformer 200 (with --steps 3500: 70); -student 35 (its 4000 steps); -pixels
25 (its 4000 steps of 64); each lr run of preset tiny 3. Rows, from 25 s for DDIM 5 on 100 episodes: 0.15 a network call, so 1.5 for DDIM
10 and 15 for ddpm-100; n-action-1 6, -4 2; delay-*, of 100 episodes, 0.7 each, soft 1.8, all 36 half an hour; energy 4; ways 1; transformer
about 5. knn, mse, bins and mdn below 1.

Scores are of n = 200 episodes, seeds 100000 .. 100199; `published_mean` is of the first 50, the published ones. Nothing is chosen on them:
settings are chosen with `--seed 0`, which writes to results/pusht-chosen.json instead.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.chunk_actor import ChunkActor, Nearest
from baselines.chunk_cloning import Bins, ChunkClone, Head, Mean, Mixture, chunk_loss
from metrics.energy_score import energy_score
from metrics.multimodality import sides, symmetric_state
from unveil.files.safetensors import read_tensors
from unveil.policy.data.chunks import Chunks, published_split
from unveil.policy.evaluation.pusht import decision_times, pusht_metrics, roll
from unveil.policy.model import PolicyModel, fast_policy
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.policy import Policy
from unveil.policy.recipes.load import load_policy, load_policy_model, policy_of, read_policy_config
from unveil.policy.recipes.pusht.config import EvalPushT, TrainPushT
from unveil.policy.recipes.pusht.data import observations_of, pusht_demonstrations
from unveil.policy.recipes.pusht.evaluate import evaluate_pusht
from unveil.policy.training import policy_batches
from unveil.policy.worlds.pusht.episodes import PushTEpisodes
from unveil.policy.worlds.pusht.observations import seen
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.flags import changed, flat, names_of
from unveil.runs.machine import commit, machine
from unveil.runs.statistics import mean_ci95, paired_ci95
from unveil.sampling.noise import generators
from unveil.training.checkpoint import latest_checkpoint
from unveil.training.trainer import Training, train

RESULTS = Path(__file__).resolve().parent / "results"
RUNS = Path("runs")
HEADS: dict[str, Head] = {"mse": Mean(), "bins": Bins(64), "mdn": Mixture(5)}
SOLVERS = [
    ("ddpm", 100),
    *(("ddim", k) for k in (1, 2, 3, 4, 5, 6, 8, 10, 16)),
    *(("dpmpp", k) for k in (2, 3, 4, 5, 10)),
    ("heun", 3),
    ("heun", 5),
]
RATES, SEEDS = ("0.0001", "0.0003", "0.001"), (0, 1, 2)
DELAYED, DELAYS = "pusht-prefix", range(9)
MODES = ("wait", "naive", "prefix", "soft")
EPS = [
    ("ddpm", 100),
    ("ddim", 1),
    ("ddim", 3),
    ("ddim", 5),
    ("ddim", 6),
    ("ddim", 7),
    ("ddim", 8),
    ("ddim", 10),
    ("dpmpp", 3),
]


class NotRunError(Exception):
    """What is missing for a row."""


def finished(name: str) -> Path:
    """The last checkpoint of a run; the packaged averaged weights of runs/pusht-cnn serve where that run is not here.

    Raises:
        NotRunError: it is not there, or not finished.
    """
    if name == "pusht-cnn" and not (RUNS / name).is_dir():
        return find_checkpoint("pusht-keypoints")
    newest = latest_checkpoint(RUNS / name) if (RUNS / name).is_dir() else None
    if newest is None or newest.name != f"checkpoint-{read_policy_config(RUNS / name)['steps']}":
        raise NotRunError(f"{RUNS / name} is missing or not finished")
    return newest


def scored(scores: np.ndarray, metrics: dict[str, Any]) -> dict[str, Any]:
    """A row: metrics, the published 50's mean, and every episode's score, for paired intervals."""
    return metrics | {"published_mean": float(scores[:50].mean()), "scores": scores.round(5).tolist()}


def evaluated(name: str, episodes: int, seed: int, **changes: Any) -> dict[str, Any]:
    """A run by `unveil eval pusht`."""
    if strange := changes.keys() - names_of(EvalPushT()).keys():
        raise NotRunError(f"this version has no {sorted(strange)}")
    config = changed(EvalPushT(), checkpoint=str(finished(name)), device="cpu", episodes=episodes, seed=seed)
    config = changed(config, **changes)
    result = evaluate_pusht(config, lambda *_: None)
    return scored(np.array(result["scores"]), result["metrics"])


def delayed(name: str, episodes: int, seed: int, **changes: Any) -> dict[str, Any]:
    """A run that acts while the next chunk is computed; at most 100 episodes, for there are 36 such rows."""
    return evaluated(name, min(episodes, 100), seed, **changes)


def rolled(actor: Any, observation: str, episodes: int, seed: int) -> dict[str, Any]:
    """Anything that acts, by the same protocol."""
    see = partial(seen, observation)
    spent = decision_times(actor, see, 20, 0)
    world = PushTEpisodes(episodes, seed)
    roll(world, see, actor.act)
    times = {f"decision_ms_p{q}": float(np.percentile(spent, q)) for q in (50, 95)}
    return scored(world.best, pusht_metrics(world) | times)


def cnn_config() -> dict[str, Any]:
    """How runs/pusht-cnn was trained; what packaged weights do not say of it is as by default."""
    return flat(TrainPushT()) | read_policy_config(finished("pusht-cnn"))


def windows(config: dict[str, Any], held_out: bool = False) -> Chunks:
    """The windows that a run was trained on, or those of the episodes that it was not."""
    demonstrations = pusht_demonstrations(config["data"])
    kept = published_split(
        len(demonstrations.episode_ends), config["hold_out"], config["episodes"], config["split_seed"]
    )
    part = demonstrations.chosen(~kept if held_out else kept)
    sizes = config["n_obs"], config["horizon"], config["n_action"]
    return Chunks(observations_of(part, config["observation"]), part.actions, part.episode_ends, *sizes)


def clone_of(head: Head) -> tuple[ChunkClone, dict[str, Any]]:
    """An untrained clone with the trunk, the data and the limits of runs/pusht-cnn."""
    config, policy = cnn_config(), load_policy_model(finished("pusht-cnn"), torch.device("cpu"))
    model = PolicyModel(policy.shape, torch.nn.Identity())
    model.observed, model.acted = policy.observed, policy.acted
    outputs, told = head.outputs(policy.shape.actions), policy.shape.n_obs * policy.shape.observations
    torch.manual_seed(0)
    return ChunkClone(
        ConditionalUNet(outputs, told, tuple(config["widths"]), config["kernel"], config["step_width"]),
        head,
        model,
    ), config


def train_clone(name: str) -> None:
    """A head on the trunk, trained as runs/pusht-cnn was."""
    clone, config = clone_of(HEADS[name])
    run = RUNS / f"pusht-{name}"
    names = ("steps", "learning_rate", "warmup", "weight_decay", "save_every", "keep")
    average = {"ema": config["ema_decay"], "ema_power": config["ema_power"]}
    training = Training(
        **{key: config[key] for key in names}, **average, betas=(0.95, 0.999), bfloat16=config["bfloat16"]
    )
    draw = policy_batches(windows(config), clone.shape, config["batch_size"])
    train(
        clone,
        draw,
        chunk_loss,
        training,
        run,
        resume=True,
        on_record=lambda record: print(name, record, flush=True),
    )


def cloned(name: str) -> ChunkClone:
    """The trained head.

    Raises:
        NotRunError: it was not trained.
    """
    clone, config = clone_of(HEADS[name])
    folder = RUNS / f"pusht-{name}" / f"checkpoint-{config['steps']}"
    if not (folder / "manifest.json").is_file():
        raise NotRunError(f"{folder} is missing; train it: python benchmarks/pusht.py --train {name}")
    clone.load_state_dict(read_tensors(folder / "ema.safetensors", clone.state_dict()))
    return clone.eval()


def clone_row(name: str, episodes: int, seed: int) -> dict[str, Any]:
    clone, own = cloned(name), generators(seed, episodes)
    actor = ChunkActor(
        lambda o: clone.predict(torch.from_numpy(o), own).double().numpy(),
        clone.shape.n_obs,
        clone.shape.n_action,
    )
    return rolled(actor, read_policy_config(finished("pusht-cnn"))["observation"], episodes, seed)


def neighbours(k: int, episodes: int, seed: int) -> dict[str, Any]:
    config = {"data": "pusht", "observation": "keypoints", "hold_out": 0.02, "episodes": 0, "split_seed": 42}
    nearest = Nearest(windows(config | {"n_obs": 2, "horizon": 16, "n_action": 8}), k)
    return rolled(ChunkActor(nearest.predict, 2, 8), "keypoints", episodes, seed)


def raw_row(episodes: int, seed: int) -> dict[str, Any]:
    checkpoint = finished("pusht-cnn")
    if not (checkpoint / "network.safetensors").is_file():
        raise NotRunError("packaged weights are averages alone; runs/pusht-cnn is needed")
    model = load_policy_model(checkpoint, torch.device("cpu"))
    model.load_state_dict(read_tensors(checkpoint / "network.safetensors", model.state_dict()))
    policy = policy_of(fast_policy(model), seed=seed)
    return rolled(policy, read_policy_config(checkpoint)["observation"], episodes, seed)


def replay_row(*_: object) -> dict[str, Any]:
    file = RESULTS / "pusht-replay.json"
    if not file.is_file():
        raise NotRunError(f"{file} is missing: python benchmarks/pusht_replay.py")
    m = json.loads(file.read_text())["metrics"]
    return {
        "score_mean": m["reward_mean"],
        "score_ci95": m["reward_ci95"],
        "success_rate": m["success_rate"],
        "n": m["n"],
    }


def energy_row(_: int, seed: int) -> dict[str, Any]:
    """16 draws for each of up to 500 held-out windows, over the first h executed actions: h x 2 numbers."""
    row: dict[str, Any] = {}
    policy = load_policy(finished("pusht-cnn"), "cpu", seed)
    config = cnn_config()
    held = windows(config, held_out=True)
    observed, done = held.windows(held.draw(min(500, len(held)), torch.Generator().manual_seed(seed)))
    drawers: dict[str, Callable[[], np.ndarray]] = {"cnn": lambda: policy.predict(observed.numpy())}
    for name in HEADS:
        try:
            clone, own = cloned(name), generators(seed, len(observed))
        except NotRunError:
            continue
        drawers[name] = lambda c=clone, g=own: c.predict(observed, g).double().numpy()
    for name, draw in drawers.items():
        draws, first = np.stack([draw() for _ in range(16)]), config["n_obs"] - 1
        for h in (1, 2, 4, 8):
            row[f"{name}-{h}"] = energy_score(
                draws[:, :, first : first + h], done.numpy()[:, first : first + h]
            )
    return row | {"n": len(done)}


def ways_row(_: int, seed: int) -> dict[str, Any]:
    """100 episodes from one symmetric start, and 8 from each of a grid of them."""
    checkpoint = finished("pusht-cnn")
    policy: Policy = load_policy(checkpoint, "cpu", seed)
    see = partial(seen, str(read_policy_config(checkpoint)["observation"]))

    def rolled_out(starts: np.ndarray, steps: int) -> tuple[PushTEpisodes, np.ndarray]:
        world, agents = PushTEpisodes(len(starts), seed, steps), []
        world.reset_to(starts)
        policy.reset()
        roll(world, see, policy.act, lambda _: agents.append(world.states[:, :2].copy()))
        return world, np.stack(agents)

    start = symmetric_state()
    world, agents = rolled_out(np.tile(start, (100, 1)), 300)
    found = sides(agents, start)
    grid = [
        symmetric_state(distance, agent)
        for distance in (30.0, 60.0, 90.0, 120.0, 150.0)
        for agent in (130.0, 160.0, 190.0, 220.0)
    ]
    _, passed = rolled_out(np.repeat(grid, 8, axis=0), 80)
    shares = [sides(passed[:, 8 * i : 8 * i + 8], state).left for i, state in enumerate(grid)]
    both = float(np.mean([0.0 < share < 1.0 for share in shares]))
    row = {
        "left_rate": found.left,
        "right_rate": found.right,
        "committed_rate": found.committed,
        "both_ways_of_20_starts": both,
    }
    return row | {"left_rates_of_20_starts": shares} | pusht_metrics(world)


def rows() -> dict[str, Callable[[int, int], dict[str, Any]]]:
    """All rows by name: (episodes, seed) -> metrics."""
    made: dict[str, Callable[[int, int], dict[str, Any]]] = {"replay": replay_row}
    made |= {f"knn-{k}": partial(neighbours, k) for k in (1, 5)} | {
        name: partial(clone_row, name) for name in HEADS
    }
    made |= {name: partial(evaluated, f"pusht-{name}") for name in ("cnn", "transformer")} | {
        "cnn-raw": raw_row
    }
    made |= {
        f"pareto-{s}-{k}": partial(evaluated, "pusht-cnn", solver=s, sampling_steps=k) for s, k in SOLVERS
    }
    made |= {f"eps-{s}-{k}": partial(evaluated, "pusht-eps", solver=s, sampling_steps=k) for s, k in EPS}
    made |= {
        f"student-{k}": partial(evaluated, "pusht-student", solver="consistency", sampling_steps=k)
        for k in (1, 2, 3)
    }
    made["pixels"] = partial(evaluated, "pusht-pixels")
    made |= {
        f"n-action-{n}": partial(evaluated, DELAYED, n_action=n, sampling_steps=5) for n in (1, 4, 8, 16)
    }
    made |= {f"lr{r}-s{s}": partial(evaluated, f"pusht-lr{r}-s{s}") for r in RATES for s in SEEDS}
    made |= {
        f"delay-{d}-{m}": partial(delayed, DELAYED, delay=d, asynchronous=m, sampling_steps=5)
        for m in MODES
        for d in DELAYS
    }
    return made | {"energy": energy_row, "ways": ways_row}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=list(rows()))
    parser.add_argument(
        "--train", nargs="*", default=[], choices=list(HEADS), help="heads to train first, where they are not"
    )
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--times",
        action="store_true",
        help="measure the times of decisions of rows that are there again: an idle machine",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.train:
        train_clone(name)
    if arguments.train:
        return
    file = RESULTS / ("pusht.json" if arguments.seed >= 100_000 else "pusht-chosen.json")
    result = json.loads(file.read_text()) if file.is_file() else {"recipe": "pusht", "metrics": {}}
    made = rows()
    if arguments.times:
        for row in [row for row in arguments.rows if "decision_ms_p50" in result["metrics"].get(row, {})]:
            try:
                metrics = made[row](1, arguments.seed)
            except NotRunError as reason:
                print(f"{row}: not timed ({reason})", flush=True)
                continue
            result["metrics"][row] |= {
                f"decision_ms_{p}": metrics[f"decision_ms_{p}"] for p in ("p50", "p95")
            }
            print(
                f"{row}: {metrics['decision_ms_p50']:.1f} ms, 95 % below {metrics['decision_ms_p95']:.1f}",
                flush=True,
            )
            file.write_text(json.dumps(result, indent=1) + "\n")
        return
    for row in arguments.rows:
        if row in result["metrics"]:
            continue
        try:
            metrics = made[row](arguments.episodes, arguments.seed)
        except (NotRunError, ValueError) as reason:
            print(f"{row}: not run ({reason})", flush=True)
            continue
        where = {"seed": arguments.seed, "threads": arguments.threads, "commit": commit()}
        result["metrics"][row] = metrics | where | machine()
        for name, other in result["metrics"].items():  # paired, as soon as the reference is there
            reference = result["metrics"].get(
                "eps-ddpm-100" if name.startswith("eps-") else "pareto-ddpm-100"
            )
            if reference and len(other.get("scores", [])) == len(reference["scores"]):
                paired = paired_ci95(np.array(other["scores"]), np.array(reference["scores"]))
                other["minus_ddpm_mean"], other["minus_ddpm_ci95"] = paired
        shown = {k: round(v, 3) for k, v in metrics.items() if isinstance(v, float)}
        print(f"{row}: {shown}", flush=True)
        spread = [result["metrics"][n]["score_mean"] for n in result["metrics"] if n.startswith("lr")]
        if len(spread) > 1:
            result["rates_and_seeds"] = {
                "mean": mean_ci95(np.array(spread))[0],
                "min": min(spread),
                "max": max(spread),
                "n": len(spread),
            }
        described = {
            "protocol": "PushT as published, largest reward of 300 steps; reference of pairs: DDPM in 100 steps",
            "seeds": [0],
        }
        file.write_text(json.dumps(result | described, indent=1) + "\n")


if __name__ == "__main__":
    main()
