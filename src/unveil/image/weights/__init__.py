"""Checkpoints of other programs, renamed to our modules."""
