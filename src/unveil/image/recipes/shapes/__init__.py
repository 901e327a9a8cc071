"""Captioned pictures of shapes: made by a command."""
