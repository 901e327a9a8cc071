"""Scores with intervals, references, diagnostics and pictures."""
