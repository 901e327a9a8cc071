"""Mazes: a config, and the wiring of each verb."""
