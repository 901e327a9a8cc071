"""Policies: chunks of actions from observations."""
