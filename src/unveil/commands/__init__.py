"""Verbs of no single application."""
