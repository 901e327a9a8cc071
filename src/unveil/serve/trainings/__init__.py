"""Trainings that the server starts: `unveil train` as a process of its own in a run folder."""
