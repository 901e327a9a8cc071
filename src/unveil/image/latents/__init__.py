"""Latent spaces of images: autoencoders, their training, and codes that are kept."""
