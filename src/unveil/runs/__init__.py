"""Trainings and evaluations as folders: configs, checkpoints, records and cards, for every recipe."""
