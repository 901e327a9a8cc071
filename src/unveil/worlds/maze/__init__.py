"""D4RL's Maze2D, exactly, on plain MuJoCo: a ball pushed through a maze to a goal."""
