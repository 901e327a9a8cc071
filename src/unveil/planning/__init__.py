"""Planning: trajectories to goals and to high returns."""
