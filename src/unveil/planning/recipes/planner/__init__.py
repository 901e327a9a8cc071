"""Planners of any environment: a config, and the wiring of each verb."""
