"""Mazes, plans and rollouts as pictures and animations."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from unveil.planning.evaluation.maze import MazeRollout
from unveil.planning.worlds.maze.layout import BALL_RADIUS, BODY_OFFSET, GOAL_RADIUS, Layout

INK, WALL, FLOOR, START, GOAL, BALL = "#1f2430", "#39415a", "#f6f4ee", "#2a9d8f", "#e76f51", "#264653"
COLOURS = mpl.colormaps["plasma"]


class MazePicture:
    """A figure with a maze in each panel. Rows run down and columns to the right, as in the text map."""

    def __init__(self, layout: Layout, panels: int = 1, width: float = 4.6) -> None:
        rows, columns = layout.walls.shape
        height = width * rows / columns
        self.figure = Figure(figsize=(width * panels, height + 0.42), dpi=110, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes = []
        top = height / (height + 0.42)
        for k in range(panels):
            axes = self.figure.add_axes((k / panels + 0.01, 0.0, 1 / panels - 0.02, top))
            axes.set_xlim(-0.5 - BODY_OFFSET, columns - 0.5 - BODY_OFFSET)
            axes.set_ylim(rows - 0.5 - BODY_OFFSET, -0.5 - BODY_OFFSET)
            axes.set_aspect("equal", anchor="N")
            axes.set_axis_off()
            axes.add_patch(Rectangle((-0.7, -0.7), columns, rows, fc=FLOOR, ec="none", zorder=0))
            for i, j in np.argwhere(layout.walls) - BODY_OFFSET:
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc=WALL, ec=WALL, lw=0.6, zorder=1))
            self.axes.append(axes)
        self._moving: list = []

    def title(self, panel: int, text: str) -> None:
        """Write a line above a panel."""
        x = (panel + 0.5) / len(self.axes)
        font = {"size": 11, "color": INK, "family": "DejaVu Sans"}
        self._moving.append(self.figure.text(x, 0.985, text, font, ha="center", va="top"))

    def ends(
        self, panel: int, start: Sequence[float] | np.ndarray, goal: Sequence[float] | np.ndarray
    ) -> None:
        """Draw the start, and the goal with the circle in which the reward is 1."""
        axes = self.axes[panel]
        axes.add_patch(Circle((goal[1], goal[0]), GOAL_RADIUS, fc=GOAL, alpha=0.22, ec="none", zorder=2))
        axes.plot(goal[1], goal[0], marker="*", ms=13, color=GOAL, mec="white", mew=0.8, zorder=6)
        axes.plot(start[1], start[0], marker="o", ms=8, color=START, mec="white", mew=1.0, zorder=6)

    def path(
        self,
        panel: int,
        path: Float[np.ndarray, "H 2"],
        *,
        width: float = 3.0,
        alpha: float = 1.0,
        dots: bool = False,
    ) -> None:
        """Draw a path, coloured by progress."""
        line = path[:, ::-1]
        shade = COLOURS(np.linspace(0.05, 0.88, max(2, len(line))))
        segments = np.stack([line[:-1], line[1:]], axis=1)
        drawn = LineCollection(
            list(segments), colors=shade[:-1], linewidths=width, alpha=alpha, capstyle="round", zorder=4
        )
        self._moving.append(self.axes[panel].add_collection(drawn))
        if dots:
            faint = min(1.0, alpha + 0.2)
            drawn = self.axes[panel].scatter(*line.T, c=shade, s=9, alpha=faint, lw=0, zorder=5)
            self._moving.append(drawn)

    def waypoints(self, panel: int, points: Float[np.ndarray, "N 2"]) -> None:
        """Draw waypoints."""
        self.axes[panel].scatter(
            points[:, 1], points[:, 0], marker="D", s=46, c="white", edgecolors=INK, linewidths=1.4, zorder=7
        )

    def ball(self, panel: int, position: Float[np.ndarray, "2"]) -> None:
        """Draw the body at its true size, with a halo."""
        centre = (position[1], position[0])
        for radius, colour, alpha, order in ((2.2, "white", 0.85, 7), (1.4, BALL, None, 8)):
            disc = Circle(centre, radius * BALL_RADIUS, fc=colour, alpha=alpha, ec="none", zorder=order)
            self._moving.append(self.axes[panel].add_patch(disc))

    def frame(self) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels of the figure."""
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()

    def wipe(self) -> None:
        """Remove paths, balls and titles, but not the maze, start and goal."""
        for artist in self._moving:
            artist.remove()
        self._moving = []


def plan_frames(
    layout: Layout,
    states: Sequence[tuple[Float[np.ndarray, "K H 2"], float]],
    lengths: np.ndarray,
    chosen: int,
    start: np.ndarray,
    goal: np.ndarray,
) -> list[np.ndarray]:
    """Frames of a plan appearing out of noise: one per state (all candidates, t); the chosen one is drawn
    last and thick."""
    picture = MazePicture(layout)
    picture.ends(0, start, goal)
    frames = []
    for paths, t in states:
        picture.title(0, f"denoising   t = {t:.2f}")
        for k, path in enumerate(paths):
            width, alpha = (2.2, 0.95) if k == chosen else (1.0, 0.3)
            picture.path(0, path[: lengths[k]], width=width, alpha=alpha, dots=k == chosen)
        frames.append(picture.frame())
        picture.wipe()
    picture.title(0, "the plan")
    picture.path(0, states[-1][0][chosen, : lengths[chosen]], width=4.0)
    return frames + [picture.frame()] * max(6, len(frames) // 3)


def rollout_frames(
    layout: Layout, path: Float[np.ndarray, "H 2"], rollout: MazeRollout, episode: int, stride: int = 4
) -> list[np.ndarray]:
    """Frames of a plan on the left and its execution on the right, until shortly after arrival."""
    picture = MazePicture(layout, panels=2)
    track, goal = rollout.observations[:, episode, :2], rollout.goals[episode]
    for panel in (0, 1):
        picture.ends(panel, track[0], goal)
    arrival = int(rollout.arrival[episode])
    last = min(len(track) - 1, arrival + 24)
    frames = []
    for t in [*range(0, last, stride), last]:
        picture.title(0, "plan: a sample of the diffusion model")
        picture.title(1, f"execution   step {t}" + (f",  arrived at {arrival}" if t >= arrival else ""))
        picture.path(0, path, width=3.5)
        if t:
            picture.path(1, track[: t + 1], width=3.0)
        picture.ball(1, track[t])
        frames.append(picture.frame())
        picture.wipe()
    return frames + [frames[-1]] * 12
