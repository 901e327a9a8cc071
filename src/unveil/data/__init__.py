"""What x_0 is: episodes, windows, normalisation, and the readers of other people's files."""
