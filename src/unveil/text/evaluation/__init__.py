"""Protocols, metrics, references and pictures."""
