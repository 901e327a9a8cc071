"""Plan one path in a maze and draw it: `unveil sample maze`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
        raise ValueError(f"`via` must be row,column@index such as 3,6@20; got {text!r}")
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
        raise ValueError(
            f"`{name}` {cell} lies inside a wall of maze {layout.name}; free cells near it: "
            f"{nearest_cells(layout, position)}"
        )


def nearest_cells(layout: Layout, position: Float[np.ndarray, "2"]) -> str:
    """The three free cells that are nearest to a position, for people."""
    import numpy as np

    order = np.linalg.norm(layout.cells - position, axis=1).argsort(kind="stable")[:3]
    return " ".join(f"{int(i)},{int(j)}" for i, j in layout.cells[order])


def sample_maze(config: SampleMaze, progress: Progress) -> dict[str, Any]:
    """Plan a path, draw it, and return what is known of it."""
    import numpy as np

    from unveil.files.atomic import check_output
    from unveil.files.pictures import write_gif, write_png
    from unveil.planning.evaluation.maze_pictures import MazePicture, plan_frames
    from unveil.planning.evaluation.plan_diagnostics import crosses_wall
    from unveil.planning.recipes.maze.load import load_planner, trained_layout
    from unveil.runs.checkpoints import find_checkpoint

    start, goal = parse_cell(config.start, "start"), parse_cell(config.goal, "goal")
    vias = [parse_via(text) for text in config.via]
    animated = config.out.suffix == ".gif"
    if not animated and config.out.suffix != ".png":
        raise ValueError(f"`out` must end in .png or .gif, got {config.out}")
    if animated and any(index is None for index, _ in vias):
        raise ValueError(
            "a .gif shows one sample: give each `via` its @index, or draw a .png of the joined legs"
        )
    check_output(config.out)
    folder = find_checkpoint(config.checkpoint)
    layout = trained_layout(folder)
    for name, position in (("start", start), ("goal", goal), *(("via", point) for _, point in vias)):
        check_free(layout, position, name)
    settings = config.settings
    if animated and settings == PlannerSettings():
        settings = replace(settings, steps=24, temperature=1.0)
    planner = load_planner(folder, config.device, config.seed, settings)
    states: list[tuple[np.ndarray, float]] = []
    plan = planner.plan(
        start,
        goal,
        via=vias,
        horizon=config.horizon,
        budget_ms=config.budget_ms,
        on_state=lambda state, t: states.append((state, t)),
    )
    if animated:
        frames = plan_frames(layout, states, plan.lengths, plan.chosen, start, goal)
        write_gif(config.out, frames, 90)
    else:
        picture = MazePicture(layout, width=6.0)
        picture.ends(0, start, goal)
        for k, length in enumerate(plan.lengths):
            picture.path(0, plan.candidates[k, :length], width=1.0, alpha=0.35)
        picture.path(0, plan.path, width=4.0)
        if vias:
            picture.waypoints(0, np.array([point for _, point in vias]))
        picture.title(0, f"{config.checkpoint}: {config.start} to {config.goal}")
        parameters = {"unveil": json.dumps(flat(config), default=str)}
        write_png(config.out, picture.frame(), parameters)
    crossed = crosses_wall(layout, plan.path)
    missed = [float(np.linalg.norm(plan.path - point, axis=1).min()) for _, point in vias]
    summary = f"{config.out}: {len(plan.path)} positions, predicted arrival at step {plan.arrival:.0f}, " + (
        "crosses a wall" if crossed else "crosses no wall"
    )
    return {
        "recipe": "maze",
        "checkpoint": config.checkpoint,
        "protocol": f"one plan in maze {layout.name}",
        "metrics": {
            "arrival_step_predicted": plan.arrival,
            "wall_crossing": crossed,
            "via_distance": missed,
            "positions": len(plan.path),
        },
        "path": plan.path.round(4).tolist(),
        "summary": summary,
    }
