"""Maps of D4RL's Maze2D, their episode lengths and score constants.

Coordinates are those of D4RL: a position (x, y) is (row, column) in cells. In MuJoCo the body starts at (1.2,
1.2), and walls are boxes of half-size 0.5 around (row + 1, column + 1), so **position (i, j) is 0.2 off the
centre of cell (i, j)**: a free cell reaches from i - 0.7 to i + 0.3, and the centre of the ball, radius 0.1,
moves between i - 0.6 and i + 0.2 where both neighbours are walls.

Source: D4RL, `d4rl/pointmaze/maze_model.py` and `d4rl/pointmaze/__init__.py` (Fu et al. 2020,
arXiv:2004.07219).
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

BODY_OFFSET = 0.2
BALL_RADIUS = 0.1
GOAL_RADIUS = 0.5


@dataclass(frozen=True)
class Layout:
    """One maze: a text map of `#` walls, `O` free cells and at most one `G` goal.

    Args:
        name: name of the maze.
        rows: the map, one string per row, all of one length, with walls at the border.
        steps: episode length in environment steps (0.01 s each).
        score_range: (minimum, maximum) return of D4RL's normalised score, or None if D4RL has none.
    Raises:
        ValueError: ragged rows, an unknown tile, an open border, two goals, or no free cell.
    """

    name: str
    rows: tuple[str, ...]
    steps: int
    score_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.rows or len({len(row) for row in self.rows}) != 1:
            raise ValueError(
                f"maze {self.name!r}: rows of one length are needed, got lengths "
                f"{[len(r) for r in self.rows][:20]}"
            )
        if unknown := set("".join(self.rows)) - set("#OG"):
            raise ValueError(
                f"maze {self.name!r}: unknown tiles {sorted(unknown)[:8]}; use '#' wall, 'O' free, 'G' goal"
            )
        if "".join(self.rows).count("G") > 1:
            raise ValueError(f"maze {self.name!r}: at most one goal 'G' is allowed")
        if not set("".join(self.rows)) & set("OG"):
            raise ValueError(f"maze {self.name!r}: no free cell")
        border = self.rows[0] + self.rows[-1] + "".join(row[0] + row[-1] for row in self.rows)
        if set(border) != {"#"}:
            raise ValueError(f"maze {self.name!r}: the border must be walls '#'")

    @cached_property
    def walls(self) -> Bool[np.ndarray, "R C"]:
        return np.array([[tile == "#" for tile in row] for row in self.rows])

    @cached_property
    def cells(self) -> Float[np.ndarray, "N 2"]:
        """Free cells in D4RL's order: row by row, the goal cell last."""
        tiles = [(i, j) for i, row in enumerate(self.rows) for j, tile in enumerate(row) if tile == "O"]
        tiles += [(i, j) for i, row in enumerate(self.rows) for j, tile in enumerate(row) if tile == "G"]
        return np.array(tiles, dtype=np.float64)

    @cached_property
    def goal(self) -> Float[np.ndarray, "2"]:
        """The goal of the single task: the cell `G`, or D4RL's default, the first free cell."""
        return self.cells[-1] if any("G" in row for row in self.rows) else self.cells[0]

    def clearance(self, position: Float[np.ndarray, "*B 2"]) -> Float[np.ndarray, "*B"]:
        """Distance in cells from a position to the nearest wall, negative inside a wall and outside the
        map."""
        centres = np.argwhere(self.walls) - BODY_OFFSET
        overlap = np.abs(position[..., None, :] - centres) - 0.5
        outside = np.linalg.norm(np.maximum(overlap, 0.0), axis=-1)
        distance = (outside + np.minimum(overlap.max(-1), 0.0)).min(-1)
        low, high = -0.5 - BODY_OFFSET, np.array(self.walls.shape) - 0.5 - BODY_OFFSET
        beyond = ((position < low) | (position > high)).any(-1)
        return np.where(beyond, -1.0, distance)

    def score(self, episode_return: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
        """D4RL's normalised score, 100 * (R - minimum) / (maximum - minimum); the maximum is *not* that of an
        expert (see docs/protocol.md).

        Raises:
            ValueError: this layout has no published constants.
        """
        if self.score_range is None:
            raise ValueError(
                f"maze {self.name!r} has no published score constants; report returns or arrival steps "
                "instead"
            )
        low, high = self.score_range
        return 100.0 * (episode_return - low) / (high - low)


def parse_layout(text: str, name: str = "custom", steps: int = 800) -> Layout:
    """Read a map from text: one row per line (or D4RL's backslashes between rows); blanks and `0` are free
    cells.

    Raises:
        ValueError: as `Layout`.
    """
    lines = text.strip("\n").replace("\\", "\n").split("\n")
    return Layout(name, tuple(line.rstrip().replace(" ", "O").replace("0", "O") for line in lines), steps)


# Score constants: `ref_min_score` and `ref_max_score` of the -v1 sparse tasks in d4rl/pointmaze/__init__.py.
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("umaze", ("#####", "#GOO#", "###O#", "#OOO#", "#####"), 300, (23.85, 161.86)),
        Layout(
            "medium",
            ("########", "#OO##OO#", "#OO#OOO#", "##OOO###", "#OO#OOO#", "#O#OO#O#", "#OOO#OG#", "########"),
            600,
            (13.13, 277.39),
        ),
        Layout(
            "large",
            (
                "############",
                "#OOOO#OOOOO#",
                "#O##O#O#O#O#",
                "#OOOOOO#OOO#",
                "#O####O###O#",
                "#OO#O#OOOOO#",
                "##O#O#O#O###",
                "#OO#OOO#OGO#",
                "############",
            ),
            800,
            (6.7, 273.99),
        ),
        Layout("eval-umaze", ("#####", "#OOG#", "#O###", "#OOO#", "#####"), 300, (36.63, 141.4)),
        Layout(
            "eval-medium",
            ("########", "#OOOOOG#", "#O#O##O#", "#OOOO#O#", "###OO###", "#OOOOOO#", "#OO##OO#", "########"),
            600,
            (13.07, 204.93),
        ),
        Layout(
            "eval-large",
            (
                "############",
                "#OO#OOO#OGO#",
                "##O###O#O#O#",
                "#OO#O#OOOOO#",
                "#O##O#OO##O#",
                "#OOOOOO#OOO#",
                "#O##O#O#O###",
                "#OOOO#OOOOO#",
                "############",
            ),
            800,
            (16.4, 302.22),
        ),
    )
}


def named_layout(name: str) -> Layout:
    """The layout of that name.

    Raises:
        ValueError: no such maze; the message lists the names and the closest one.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    close = get_close_matches(name, LAYOUTS, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(f"unknown maze {name!r}{hint}; known: {', '.join(LAYOUTS)}")
