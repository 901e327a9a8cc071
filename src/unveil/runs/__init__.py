"""A training or an evaluation as a folder: config, checkpoints, records, cards. Knows no recipe."""
