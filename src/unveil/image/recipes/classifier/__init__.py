"""Classifiers of images, which guide or judge."""
