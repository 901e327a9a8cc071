"""Block stacking: the diffusion model of states, its training, and the planner."""
