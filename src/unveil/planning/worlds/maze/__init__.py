"""Maze2D: a ball in a maze."""
