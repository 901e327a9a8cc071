"""The language of prompts, and what it becomes for a network."""
