"""Experiments: a frozen Config and the wiring, the only code that knows configs."""
