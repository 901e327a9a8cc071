"""One maze plan, drawn: `unveil sample maze`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from unveil.planning.recipes.maze.config import SampleMaze
    from unveil.planning.worlds.maze.layout import Layout
    from unveil.runs.progress import Progress


def parse_cell(text: str, name: str) -> tuple[float, float]:
    """`row,column` as two numbers.

    Raises:
        ValueError: it is not two finite numbers.
    """
    from math import isfinite

    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{name} must be row,column such as 1,1; got {text!r}") from None
    if not (isfinite(row) and isfinite(column)):
        raise ValueError(f"{name} must be finite numbers, got {text!r}")
    return row, column


def parse_via(text: str) -> tuple[int | None, tuple[float, float]]:
    """`row,column@index` or `row,column`."""
    cell, at, index = text.partition("@")
    if at and not index.isdigit():
        raise ValueError(f"--via must be row,column@index such as 3,6@20; got {text!r}")
    return (int(index) if at else None), parse_cell(cell, "--via")


def check_free(layout: Layout, position: tuple[float, float], name: str) -> None:
    """Refuse positions where the ball cannot be.

    Raises:
        ValueError: outside the map or inside a wall.
    """
    import numpy as np

    from unveil.planning.worlds.maze.layout import BODY_OFFSET

    rows, columns = layout.walls.shape
    low = -0.5 - BODY_OFFSET
    if not (low < position[0] < low + rows and low < position[1] < low + columns):
        raise ValueError(
            f"{name} {position} lies outside maze {layout.name}, which has {rows} rows and {columns} columns from 0,0"
        )
    if layout.clearance(np.array(position)) <= 0:
        raise ValueError(
            f"{name} {position} lies inside a wall of maze {layout.name}; free cells near it: {nearest_cells(layout, position)}"
        )


def nearest_cells(layout: Layout, position: tuple[float, float]) -> str:
    """The three free cells nearest to a position."""
    import numpy as np

    order = np.linalg.norm(layout.cells - np.array(position), axis=1).argsort(kind="stable")[:3]
    return " ".join(f"{int(i)},{int(j)}" for i, j in layout.cells[order])


def sample_maze(config: SampleMaze, progress: Progress) -> dict[str, Any]:
    """Plan, draw, and describe."""
    import numpy as np

    from unveil.files.atomic import check_output
    from unveil.files.pictures import write_gif, write_png
    from unveil.planning.evaluation.maze_pictures import MazePicture, plan_frames
    from unveil.planning.evaluation.plan_diagnostics import crosses_wall
    from unveil.planning.recipes.maze.load import load_planner, trained_layout
    from unveil.runs.checkpoints import find_checkpoint

    start, goal = parse_cell(config.start, "--start"), parse_cell(config.goal, "--goal")
    vias = [parse_via(text) for text in config.via]
    if config.out.suffix not in (".png", ".gif"):
        raise ValueError(f"--out must end in .png or .gif, got {config.out}")
    if config.out.suffix == ".gif" and any(index is None for index, _ in vias):
        raise ValueError(
            "a .gif shows one sample: give each --via its @index, or draw a .png of the joined legs"
        )
    check_output(config.out)
    folder = find_checkpoint(config.checkpoint)
    layout = trained_layout(folder)
    for name, position in (
        ("--start", start),
        ("--goal", goal),
        *(("--via", position) for _, position in vias),
    ):
        check_free(layout, position, name)
    planner = load_planner(
        folder,
        config.device,
        config.seed,
        **({"steps": 24, "temperature": 1.0} if config.out.suffix == ".gif" else {}),
    )
    states: list[tuple[np.ndarray, float]] = []
    plan = planner.plan(
        start,
        goal,
        via=vias,
        horizon=config.horizon,
        budget_ms=config.budget_ms,
        on_state=lambda state, t: states.append((state, t)),
    )
    if config.out.suffix == ".gif":
        frames = plan_frames(layout, states, plan.lengths, plan.chosen, np.array(start), np.array(goal))
        write_gif(config.out, frames, 90)
    else:
        picture = MazePicture(layout, width=6.0)
        picture.ends(0, start, goal)
        for k, length in enumerate(plan.lengths):
            picture.path(0, plan.candidates[k, :length], width=1.0, alpha=0.35)
        picture.path(0, plan.path, width=4.0)
        if vias:
            picture.waypoints(0, np.array([position for _, position in vias]))
        picture.title(0, f"{config.checkpoint}: {config.start} to {config.goal}")
        parameters = {"unveil": json.dumps(asdict(config), default=str)}
        write_png(config.out, picture.frame(), parameters)
    crossed = crosses_wall(layout, plan.path)
    missed = [float(np.linalg.norm(plan.path - np.array(position), axis=1).min()) for _, position in vias]
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
        "config": asdict(config),
        "seeds": [config.seed],
        "summary": summary,
    }
