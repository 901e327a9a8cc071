"""Other people's checkpoints, read without running any of their code, in our names and shapes."""
