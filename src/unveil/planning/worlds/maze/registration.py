"""Ids of the mazes in gymnasium's registry: `unveil/Maze2D-Large-v1` and its kind.

gymnasium 1.0 dropped its plugins: it no longer calls a package's entry points. Importing this module registers the ids, and
gymnasium imports the module that stands before the colon:

    gymnasium.make("unveil.planning.worlds.maze.registration:unveil/Maze2D-Large-v1")
"""

import gymnasium

from unveil.planning.worlds.maze.layout import LAYOUTS

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
    """Register every maze that is not registered yet; a second call does nothing."""
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


register()
