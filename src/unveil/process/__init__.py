"""How x_0 is lost, and what a network predicts of it."""
