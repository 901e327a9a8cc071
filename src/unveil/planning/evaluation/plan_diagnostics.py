"""Diagnostics of plans, independent of the controller, and of their execution."""

import time
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

from unveil.planning.evaluation.maze import MazeRollout, maze_metrics
from unveil.planning.evaluation.maze_references import Reference
from unveil.planning.path_geometry import polyline_distance, resampled
from unveil.planning.plan import Plan
from unveil.planning.worlds.maze.layout import BALL_RADIUS, Layout
from unveil.planning.worlds.maze.physics import TOP_SPEED

FINE = 0.02  # distance in cells between the points of a path that are tested against walls


def crosses_wall(layout: Layout, path: Float[np.ndarray, "H 2"], depth: float = 0.0) -> bool:
    """Whether the ball's centre enters a wall by more than `depth` anywhere along the polyline."""
    return bool((layout.clearance(resampled(path, FINE)) < -depth).any())


def touches_wall(layout: Layout, path: Float[np.ndarray, "H 2"], slack: float = 0.02) -> bool:
    """Whether the ball, radius 0.1, would overlap a wall by more than `slack` anywhere along the polyline."""
    return bool((layout.clearance(resampled(path, FINE)) < BALL_RADIUS - slack).any())


def plan_diagnostics(layout: Layout, plans: Sequence[Plan], stride: int) -> dict[str, float]:
    """Diagnostics of sampled paths.

    wall_crossing_rate: fraction of candidates whose centre line enters a wall; chosen_wall_crossing_rate:
    that of the chosen paths. wall_contact_rate: fraction of candidates along which the ball would overlap a
    wall by more than 0.02 cells. dynamics_violation_rate: fraction of steps of all candidates that are more
    than 1 % faster than a ball can move on an axis. diversity_mean: mean distance in cells between two
    candidates of a plan.
    """
    samples = [plan.candidates[k, : plan.lengths[k]] for plan in plans for k in range(len(plan.candidates))]
    steps = np.concatenate([np.abs(np.diff(path, axis=0)).max(1) for path in samples])
    apart = [
        float(
            polyline_distance(
                plan.candidates[a, : plan.lengths[a]], plan.candidates[b, : plan.lengths[b]]
            ).mean()
        )
        for plan in plans
        for a, b in combinations(range(len(plan.candidates)), 2)
    ]
    return {
        "wall_crossing_rate": float(np.mean([crosses_wall(layout, path) for path in samples])),
        "chosen_wall_crossing_rate": float(np.mean([crosses_wall(layout, plan.path) for plan in plans])),
        "wall_contact_rate": float(np.mean([touches_wall(layout, path) for path in samples])),
        "dynamics_violation_rate": float((steps > 0.01 * TOP_SPEED * stride * 1.01).mean()),
        "diversity_mean": float(np.mean(apart)) if apart else 0.0,
        "samples_n": len(samples),
    }


def execution_diagnostics(plans: Sequence[Plan], rollout: MazeRollout) -> dict[str, float]:
    """Distances of the execution from the first plan until arrival, and |predicted - actual| arrival in
    environment steps."""
    miss = [abs(plan.arrival - rollout.arrival[i]) for i, plan in enumerate(plans)]
    return deviations([plan.path for plan in plans], rollout) | {"arrival_error_mean": float(np.mean(miss))}


def deviations(paths: Sequence[np.ndarray], rollout: MazeRollout) -> dict[str, float]:
    """Distance of each executed track from its path until arrival: mean and maximum, averaged over episodes;
    of the maximum also the 95th percentile, and the fraction of episodes in which it exceeds 0.3 cells."""
    tracks = [rollout.observations[: int(until) + 1, i, :2] for i, until in enumerate(rollout.arrival)]
    distances = [polyline_distance(track, path) for track, path in zip(tracks, paths, strict=True)]
    worst = np.array([d.max() for d in distances])
    return {
        "plan_deviation_mean": float(np.mean([d.mean() for d in distances])),
        "plan_deviation_max_mean": float(worst.mean()),
        "plan_deviation_max_p95": float(np.quantile(worst, 0.95)),
        "plan_deviation_over_0.3_rate": float((worst > 0.3).mean()),
    }


def reference_metrics(layout: Layout, reference: Reference) -> dict[str, float]:
    """The metrics of a reference, under the names that a planner's have."""
    return (
        maze_metrics(layout, reference.rollout)
        | deviations(reference.paths, reference.rollout)
        | {
            "plans_per_second": 1.0 / float(np.median(reference.plan_seconds)),
            "act_ms_p95": 1e3 * float(np.quantile(reference.act_seconds, 0.95)),
            "wall_crossing_rate": float(np.mean([crosses_wall(layout, path) for path in reference.paths])),
            "replans_mean": reference.replans / len(reference.paths),
        }
    )


def time_calls(call: Callable[[int], object], count: int, warm_up: int = 25) -> tuple[float, float]:
    """Median and 95th percentile, in seconds, of the wall time of call(0), call(1), ... after `warm_up`
    calls, or one second of them."""
    began = time.perf_counter()
    for i in range(warm_up):
        call(i)
        if time.perf_counter() - began > 1.0:
            break
    spent = []
    for i in range(count):
        began = time.perf_counter()
        call(i)
        spent.append(time.perf_counter() - began)
    return float(np.median(spent)), float(np.quantile(spent, 0.95))
