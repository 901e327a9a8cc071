"""Register the mazes in gymnasium, under ids such as `unveil/Maze2D-Large-v1`.

Since version 1.0 gymnasium does not call entry points of packages. The import of this module registers the
ids, and gymnasium imports the module before the colon:

    gymnasium.make("unveil.planning.worlds.maze.registration:unveil/Maze2D-Large-v1")
"""

import gymnasium

from unveil.planning.worlds.maze.layout import LAYOUTS, Layout

TITLES = {
    "umaze": "UMaze",
    "medium": "Medium",
    "large": "Large",
    "eval-umaze": "Eval-UMaze",
    "eval-medium": "Eval-Medium",
    "eval-large": "Eval-Large",
}
MULTI = ("umaze", "medium", "large")  # mazes that have a Multi2D task


def register() -> None:
    """Register all mazes that are not registered yet."""
    tasks = [("Maze2D", maze, False) for maze in TITLES] + [("Multi2D", maze, True) for maze in MULTI]
    for task, maze, multi in tasks:
        name = f"unveil/{task}-{TITLES[maze]}-v1"
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point="unveil.planning.worlds.maze.env:MazeEnv",
                max_episode_steps=LAYOUTS[maze].steps,
                kwargs={"maze": maze, "multi": multi},
            )


def layout_named(name: str) -> Layout | None:
    """The layout of an id such as unveil/Maze2D-Large-v1 or PointMaze_Large-v3; None for others."""
    _, _, title = name.rpartition("-v")[0].replace("PointMaze_", "PointMaze-").partition("-")
    if not name.startswith(("unveil/Maze2D-", "unveil/Multi2D-", "PointMaze_")):
        return None
    return next((LAYOUTS[maze] for maze, own in TITLES.items() if own == title), None)


register()
