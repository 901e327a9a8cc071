"""The tables of `benchmarks/latent.py`, a module each, and what they share."""
