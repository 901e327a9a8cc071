"""Plans of a job: paths in a maze that appear out of noise, a ball that drives them, and bodies that walk."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from unveil.files.json_objects import JsonObject
from unveil.planning.planner_settings import PlannerSettings
from unveil.planning.recipes.locomotion.clip import Clip
from unveil.planning.recipes.maze.load import layout_of, read_maze_config
from unveil.serve.installed import missing
from unveil.serve.jobs import Job
from unveil.serve.models import Described, Models

if TYPE_CHECKING:
    import numpy as np
    from torch.nn import Module

    from unveil.planning.plan import Plan
    from unveil.planning.planner import Planner
    from unveil.planning.recipes.maze.drive import Drive
    from unveil.planning.recipes.maze.load import Layout

FRAMES = 24  # largest number of denoising steps that are shown
SHOWN = 32  # largest number of candidates that are shown
POINTS = 60  # largest number of positions of a path that are shown
EVERY = 2  # environment steps of 0.01 s between positions of the ball that are shown
CHECKED = 50  # environment steps between looks whether the job was cancelled
COSTS: WeakKeyDictionary[Module, dict[tuple[int, int], float]] = WeakKeyDictionary()
"""The time of plans on this machine, by network; see `Planner.costs`."""

Point = tuple[float, float]


class Route(NamedTuple):
    """A plan to make.

    Args:
        start, goal: row and column in cells.
        via: waypoints: the number of the path's position, or None, and row and column.
        budget_ms: wall time that decides steps and candidates; None: those of the settings.
        drive: whether a ball is driven along the plan, in the simulator.
    """

    start: Point
    goal: Point
    via: tuple[tuple[int | None, Point], ...]
    horizon: int | None
    budget_ms: float | None
    settings: PlannerSettings
    seed: int
    drive: bool


def layout_at(described: Described) -> Layout:
    """The maze that a planner was trained on."""
    from unveil.runs.checkpoints import find_checkpoint

    return layout_of(read_maze_config(find_checkpoint(described.place)))


def check_route(route: Route, layout: Layout) -> None:
    """Refuse positions where the ball cannot be.

    Raises:
        ValueError: outside the map or inside a wall.
    """
    import numpy as np

    from unveil.planning.recipes.maze.sample import check_free

    points = [("start", route.start), ("goal", route.goal), *(("via", point) for _, point in route.via)]
    for name, point in points:
        check_free(layout, np.array(point), name)


def drives_need() -> str:
    """What is to be installed for the simulator of mazes."""
    return missing("mujoco", extra="maze")


def clips_need() -> str:
    """What is to be installed for the simulator of bodies."""
    return missing("mujoco", "gymnasium", extra="rl")


def make_plan(route: Route, described: Described, layout: Layout, models: Models, job: Job) -> JsonObject:
    """Make the plan of a job in the worker thread; the same as `unveil sample maze` with the same seed.

    Raises:
        ValueError, UnveilError: settings that this model cannot follow.
        Cancelled: the job was cancelled.
    """
    import numpy as np

    from unveil.planning.planner import Planner

    model = models.paths(described)
    planner = Planner(model, route.settings, seed=route.seed)
    planner.costs = COSTS.setdefault(model, {})
    job.check()
    settings = planner.settings if route.budget_ms is None else planner.within(route.budget_ms)
    planner = Planner(model, settings, seed=route.seed)
    each, frames, spent = -(-settings.steps // FRAMES), list[JsonObject](), 0.0
    calls = 0

    def watch(paths: np.ndarray, t: float) -> None:
        nonlocal calls, spent
        began = time.perf_counter()
        if calls % each == 0 or calls == settings.steps:
            frames.append({"t": round(t, 3), "candidates": [shown(path) for path in paths[:SHOWN]]})
            job.report(calls, settings.steps + 1, data={"frame": len(frames) - 1, **frames[-1]})
        calls += 1
        spent += time.perf_counter() - began

    via = [(index, np.array(point)) for index, point in route.via]
    start, goal = np.array(route.start), np.array(route.goal)
    began = time.perf_counter()
    plan = planner.plan(start, goal, via=via, horizon=route.horizon, on_state=watch)
    milliseconds = 1000 * (time.perf_counter() - began - spent)
    result = _described(plan, planner, layout, frames) | {"ms": round(milliseconds, 1)}
    if not route.drive:
        return result
    if needed := drives_need():
        return result | {"note": f"the simulator of mazes is not installed: {needed}"}
    return result | _driven(_drive(route, layout, Planner(model, settings, seed=route.seed), job, calls))


def _drive(route: Route, layout: Layout, planner: Planner, job: Job, calls: int) -> Drive:
    import numpy as np

    from unveil.planning.recipes.maze.drive import drive

    def check(step: int) -> None:
        if step % CHECKED == 1:
            job.report(calls, calls + 1)

    via = [(index, np.array(point)) for index, point in route.via]
    return drive(layout, planner, np.array(route.start), np.array(route.goal), via, check)


def _described(plan: Plan, planner: Planner, layout: Layout, frames: list[JsonObject]) -> JsonObject:
    """A plan as JSON: the frames, the path, and what is known of it."""
    from unveil.planning.path_geometry import resampled

    return {
        "frames": frames,
        "path": plan.path.round(4).tolist(),
        "chosen": plan.chosen,
        "lengths": plan.lengths.tolist(),
        "unsupported": float(plan.unsupported[plan.chosen]),
        "arrival_step_predicted": plan.arrival,
        "wall_crossing": bool((layout.clearance(resampled(plan.path, 0.02)) < 0).any()),
        "steps": planner.settings.steps,
        "candidates": planner.settings.candidates,
        "track": [],
        "arrival": None,
        "replans": 0,
        "note": "",
    }


def _driven(driven: Drive) -> JsonObject:
    track = driven.track[::EVERY].round(3).tolist()
    return {"track": track, "arrival": driven.arrival, "replans": driven.replans}


def shown(path: np.ndarray) -> list[list[float]]:
    """At most `POINTS` positions of a path, the first and the last among them."""
    import numpy as np

    rows = np.unique(np.linspace(0, len(path) - 1, POINTS).round().astype(int))
    return path[rows].round(2).tolist()


def size_of_plan(result: object) -> int:
    """About the bytes of a result in memory."""
    if not isinstance(result, dict):
        return 0
    count = sum(len(frame["candidates"]) * POINTS for frame in result.get("frames", []))
    return 128 * (count + len(result.get("path", [])) + len(result.get("track", []))) + len(
        result.get("gif", "")
    )


def make_clip(described: Described, steps: int, seed: int, models: Models, job: Job) -> JsonObject:
    """Let a body walk for the clip of a job, in the worker thread, with the settings of `unveil eval
    locomotion`.

    Raises:
        Cancelled: the job was cancelled.
    """
    from unveil.planning.recipes.locomotion.clip import clip
    from unveil.planning.recipes.locomotion.planner import planner_with, with_scale
    from unveil.planning.recipes.locomotion.preset import preset_of
    from unveil.runs.flags import changed

    pair = models.trajectories(described)
    config = changed(preset_of(pair.described, str(pair.described["dataset"]), None, False), seed=seed)
    if pair.value is None and config.preset != "ask":
        config = changed(config, guidance="none", select="none", candidates=1)
    planner = planner_with(with_scale(config, pair)[0], pair)
    job.report(0, steps)
    made = clip(planner, described.body, steps, seed, lambda step: job.report(step, steps))
    return _clip(made)


def _clip(made: Clip) -> JsonObject:
    return {
        "gif": base64.b64encode(made.gif).decode(),
        "steps": made.steps,
        "return": made.episode_return,
        "score": made.score,
        "fell": made.fell,
    }
