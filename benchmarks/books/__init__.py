"""The tables of `benchmarks/books.py`, a module each, and what they share."""
