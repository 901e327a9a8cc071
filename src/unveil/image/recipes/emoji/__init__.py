"""Captioned emoji, split into what a model is trained on and what it never sees: made by a command."""
