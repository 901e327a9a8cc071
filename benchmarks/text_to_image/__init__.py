"""The tables of `benchmarks/text_to_image.py`, a module for each paper, and what they share."""
