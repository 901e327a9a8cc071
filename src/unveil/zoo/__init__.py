"""Packaged weights and their cards; no code."""
