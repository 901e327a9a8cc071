"""Autoencoders of latent diffusion: train, evaluate, load."""
