"""One trainer for all applications: averaging, checkpoints, records."""
