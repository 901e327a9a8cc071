"""Other people's checkpoints under our names."""
