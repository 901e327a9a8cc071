"""Simulators, and what collects data in them."""
