"""Generate Maze2D data, `unveil data maze`, and read the data of a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.maze.config import DataMaze
from unveil.planning.recipes.maze.load import find_layout
from unveil.runs.flags import JobFlags

if TYPE_CHECKING:
    from unveil.planning.data.episodes import Episodes
    from unveil.planning.recipes.maze.config import TrainMaze
    from unveil.planning.worlds.maze.layout import Layout
    from unveil.runs.progress import Progress


def data_path(layout: Layout, steps: int, seed: int, noise: float = 0.5) -> Path:
    """The cache file of generated data; its name contains all that determines them, with the map as a
    hash."""
    import hashlib

    from unveil.files.places import home

    rows = hashlib.sha256("\n".join(layout.rows).encode()).hexdigest()[:8]
    return (
        home()
        / "maze"
        / f"{layout.name}-{rows}-{steps}-seed{seed}{'' if noise == 0.5 else f'-noise{noise:g}'}.hdf5"
    )


def make_data(config: DataMaze, progress: Progress) -> dict[str, object]:
    """Generate the data, write the file, and return what is in it."""
    import time

    import numpy as np

    from unveil.files.atomic import check_output
    from unveil.planning.data.d4rl import write_d4rl
    from unveil.planning.worlds.maze.collect import collect

    layout = find_layout(config.maze)
    out = config.out or data_path(layout, config.steps, config.job.seed, config.noise)
    if out.is_dir():
        raise ValueError(f"{out} is a folder; `out` needs a file name such as {out / 'maze.hdf5'}")
    check_output(out)
    began = time.perf_counter()
    episodes = collect(
        layout,
        config.steps,
        np.random.default_rng(config.job.seed),
        config.noise,
        lambda done: progress(f"generating {layout.name}", done, config.steps, {}),
    )
    seconds = time.perf_counter() - began
    write_d4rl(out, episodes)
    spread = [episodes.observations.std(0).tolist(), episodes.actions.std(0).tolist()]
    deviations = " ".join(f"{x:.3f}" for x in spread[0] + spread[1])
    return {
        "path": str(out),
        "protocol": "D4RL maze2d v1 generator",
        "summary": f"{out}: {config.steps:,} steps at {config.steps / seconds:,.0f} steps/s; "
        f"standard deviations {deviations}",
        "metrics": {
            "observation_mean": episodes.observations.mean(0).tolist(),
            "observation_std": spread[0],
            "action_mean": episodes.actions.mean(0).tolist(),
            "action_std": spread[1],
            "reward_rate": float(episodes.rewards.mean()),
            "segment_rate": float(episodes.timeouts.mean()),
            "steps_per_second": config.steps / seconds,
            "n": config.steps,
        },
    }


def load_data(config: TrainMaze, progress: Progress) -> Episodes:
    """The data of a training: those that `data` names, or generated data from the cache. Recordings of
    PointMaze, such as Minari's, are converted to D4RL's coordinates.

    Raises:
        UnveilError: no such data, or positions that are not in this maze.
    """
    from unveil.errors import UnveilError
    from unveil.files.notes import note
    from unveil.planning.data.source import read_episodes, read_file
    from unveil.planning.worlds.maze.geometry import episodes_in_d4rl

    layout = find_layout(config.maze)
    if config.data is None:
        path = data_path(layout, config.data_steps, config.data_seed)
        if not path.is_file():
            job = JobFlags(seed=config.data_seed)
            make_data(DataMaze(maze=config.maze, steps=config.data_steps, out=path, job=job), progress)
        return read_file(path)
    episodes = read_episodes(str(config.data))
    if episodes.observations.shape[1] < 2:
        raise UnveilError(
            f"{config.data}: observations have {episodes.observations.shape[1]} numbers; a maze needs x, y "
            "first"
        )
    inside = _in_walls(episodes, layout)
    if inside > 0.01 and episodes.observations.shape[1] >= 4 and episodes.actions.shape[1] == 2:
        converted = episodes_in_d4rl(episodes, layout)
        if _in_walls(converted, layout) <= 0.01:
            note(f"{config.data}: PointMaze's coordinates, converted to D4RL's")
            return converted
    if inside > 0.01:
        raise UnveilError(
            f"{config.data}: {100 * inside:.0f} % of its positions lie inside walls of maze {layout.name}; "
            "give the `maze` it is of"
        )
    return episodes


def _in_walls(episodes: Episodes, layout: Layout) -> float:
    """The fraction of positions inside walls, of about 20,000."""
    some = episodes.observations[:: max(1, len(episodes) // 20_000), :2].astype(float)
    return float((layout.clearance(some) <= 0).mean())


def unmarked(episodes: Episodes) -> Episodes:
    """The recording without D4RL's `timeouts`, which mark when a goal changed.

    Episodes with final observations, as Minari's have, are separate recordings and keep their marks.
    """
    from dataclasses import replace

    import numpy as np

    return (
        replace(episodes, timeouts=np.zeros_like(episodes.timeouts))
        if episodes.final_observations is None
        else episodes
    )
