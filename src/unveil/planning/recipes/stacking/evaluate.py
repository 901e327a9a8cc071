"""Score planners of block stacking: `unveil eval stacking`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unveil.planning.recipes.stacking.load import load_stacking

if TYPE_CHECKING:
    from unveil.planning.recipes.stacking.config import EvalStacking
    from unveil.planning.worlds.stacking.tasks import Goal
    from unveil.runs.progress import Progress


def evaluate_stacking(config: EvalStacking, progress: Progress) -> dict[str, object]:
    """Plan and follow the plans in many worlds; returns the published score, and why moves failed."""
    from time import perf_counter

    import torch

    from unveil.planning.evaluation import stacking
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.statistics import mean_ci95

    job = config.job
    if job.threads:
        torch.set_num_threads(job.threads)
    planner = load_stacking(find_checkpoint(config.checkpoint), job.device, job.seed, config.settings)
    goals = None if config.composition == "any" else unseen_goals(config)
    episodes = stacking.begin(config.task, config.episodes, job.seed, goals)
    began = perf_counter()
    result = stacking.run(
        planner,
        episodes,
        planner.model.shape.stride,
        lambda done, total: progress("stacking", done, total, {}),
    )
    seconds = perf_counter() - began
    mean, half = mean_ci95(100.0 * result.rewards / 3.0)
    metrics = {
        "score": mean,
        "score_ci95": half,
        "success": float((result.rewards > 3.0 - 1e-9).mean()),
        "plans_mean": result.plans / config.episodes,
        "clipped": result.clipped,
        "seconds": seconds,
        "n": config.episodes,
    }
    metrics |= {f"failed_{name.replace(' ', '_')}": count for name, count in sorted(result.failures.items())}
    failed = ", ".join(f"{name} {count}" for name, count in sorted(result.failures.items())) or "none"
    return {
        "protocol": f"block stacking, {config.task}, {config.composition} compositions, reward / 3 x 100",
        "checkpoint": config.checkpoint,
        "metrics": metrics,
        "summary": f"score {mean:.1f} ± {half:.1f}; moves that failed: {failed}",
    }


def unseen_goals(config: EvalStacking) -> list[Goal]:
    """Goals all of whose pairs are held out.

    Raises:
        ValueError: the task `unconditional`, which has no pairs.
    """
    import numpy as np

    from unveil.planning.worlds.stacking.tasks import UNSEEN, random_goal

    if config.task == "unconditional":
        raise ValueError("`composition=unseen` needs a `task` with pairs: conditional or rearrangement")
    rng, found = np.random.default_rng((config.job.seed, 1)), []
    while len(found) < config.episodes:
        goal = random_goal(config.task, rng)
        if set(goal.pairs) <= UNSEEN:
            found.append(goal)
    return found
