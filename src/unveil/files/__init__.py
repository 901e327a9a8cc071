"""Formats read and written safely: nothing strange is run, nothing is half-written."""
