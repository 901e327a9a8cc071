"""CLIP: trained towers of images and texts."""
