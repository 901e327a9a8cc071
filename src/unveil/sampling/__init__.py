"""How x_0 is recovered: one loop, solvers, guidance and edits."""
