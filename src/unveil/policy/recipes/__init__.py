"""A config, and the wiring of each verb."""
