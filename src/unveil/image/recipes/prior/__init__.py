"""Priors of unCLIP, which draw image embeddings for texts."""
