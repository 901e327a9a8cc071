"""Plan one path in a maze and draw it: `unveil sample maze`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from unveil.planning.planner_settings import PlannerSettings
from unveil.runs.flags import flat

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from unveil.planning.recipes.maze.config import SampleMaze
    from unveil.planning.worlds.maze.layout import Layout
    from unveil.runs.progress import Progress


def parse_cell(text: str, name: str) -> Float[np.ndarray, "2"]:
    """The position that `row,column` describes.

    Args:
        name: the field's name, for messages.
    Raises:
        ValueError: not two finite numbers.
    """
    import numpy as np

    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"`{name}` must be row,column such as 1,1; got {text!r}") from None
    if not np.isfinite((row, column)).all():
        raise ValueError(f"`{name}` must be finite numbers, got {text!r}")
    return np.array([row, column])


def parse_via(text: str) -> tuple[int | None, Float[np.ndarray, "2"]]:
    """The waypoint that `row,column@index` or `row,column` describes.

    Raises:
        ValueError: another form.
    """
    cell, at, index = text.partition("@")
    if at and not index.isdigit():
        raise ValueError(f"`via` must be row,column@index such as 3,6@40; got {text!r}")
    return (int(index) if at else None), parse_cell(cell, "via")


def check_free(layout: Layout, position: Float[np.ndarray, "2"], name: str) -> None:
    """Refuse positions where the ball cannot be.

    Raises:
        ValueError: outside the map or inside a wall.
    """
    from unveil.planning.worlds.maze.layout import BODY_OFFSET

    rows, columns = layout.walls.shape
    low = -0.5 - BODY_OFFSET
    cell = tuple(position.tolist())
    if not (low < cell[0] < low + rows and low < cell[1] < low + columns):
        raise ValueError(
            f"`{name}` {cell} lies outside maze {layout.name}, which has {rows} rows and {columns} columns "
            "from 0,0"
        )
    if layout.clearance(position) <= 0:
        nearest = layout.cells[((layout.cells - position) ** 2).sum(1).argsort(kind="stable")[:3]]
        raise ValueError(
            f"`{name}` {cell} lies inside a wall of maze {layout.name}; free cells near it: "
            f"{' '.join(f'{i:.0f},{j:.0f}' for i, j in nearest)}"
        )


def sample_maze(config: SampleMaze, progress: Progress) -> dict[str, object]:
    """Plan a path, draw it, and return what is known of it."""
    import numpy as np
    import torch

    from unveil.files.atomic import check_output
    from unveil.files.pictures import write_gif, write_png
    from unveil.planning.evaluation.maze_pictures import MazePicture, plan_frames
    from unveil.planning.evaluation.plan_diagnostics import crosses_wall
    from unveil.planning.recipes.maze.load import layout_of, planner_of, read_maze_config
    from unveil.runs.checkpoints import find_checkpoint

    start, goal = parse_cell(config.start, "start"), parse_cell(config.goal, "goal")
    via = [parse_via(text) for text in config.via]
    out, job, settings = config.out, config.job, config.settings
    animated = out.suffix == ".gif"
    if not animated and out.suffix != ".png":
        raise ValueError(f"`out` must end in .png or .gif, got {out}")
    if animated and any(index is None for index, _ in via):
        raise ValueError(
            "a .gif shows one sample: give each `via` its @index, or draw a .png of the joined legs"
        )
    check_output(out)
    if job.threads:
        torch.set_num_threads(job.threads)
    folder = find_checkpoint(config.checkpoint)
    described = read_maze_config(folder)
    layout = layout_of(described)
    for name, position in (("start", start), ("goal", goal), *(("via", point) for _, point in via)):
        check_free(layout, position, name)
    if animated and settings == PlannerSettings():
        settings = replace(settings, steps=24, temperature=1.0)
    planner = planner_of(described, folder, job.device, job.seed, settings)
    states: list[tuple[np.ndarray, float]] = []
    plan = planner.plan(
        start,
        goal,
        via=via,
        horizon=config.horizon,
        budget_ms=config.budget_ms,
        on_state=lambda state, t: states.append((state, t)),
    )
    points = np.array([point for _, point in via]).reshape(-1, 2)
    if animated:
        write_gif(out, plan_frames(layout, states, plan.lengths, plan.chosen, start, goal), 90)
    else:
        picture = MazePicture(layout, width=6.0)
        picture.ends(0, start, goal)
        for candidate, length in zip(plan.candidates, plan.lengths, strict=True):
            picture.path(0, candidate[:length], width=1.0, alpha=0.35)
        picture.path(0, plan.path, width=4.0)
        picture.waypoints(0, points)
        picture.title(0, f"{config.checkpoint}: {config.start} to {config.goal}")
        write_png(out, picture.frame(), {"unveil": json.dumps(flat(config), default=str)})
    crossed = crosses_wall(layout, plan.path)
    missed = np.linalg.norm(plan.path - points[:, None], axis=2).min(1)
    arrival = f"predicted arrival at step {plan.arrival:.0f}"
    crossing = "crosses a wall" if crossed else "crosses no wall"
    return {
        "recipe": "maze",
        "checkpoint": config.checkpoint,
        "protocol": f"one plan in maze {layout.name}",
        "metrics": {
            "arrival_step_predicted": plan.arrival,
            "wall_crossing": crossed,
            "via_distance": missed.tolist(),
            "positions": len(plan.path),
        },
        "path": plan.path.round(4).tolist(),
        "summary": f"{out}: {len(plan.path)} positions, {arrival}, {crossing}",
    }
