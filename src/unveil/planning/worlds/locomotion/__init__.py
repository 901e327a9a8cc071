"""Bodies that run: Hopper, Walker2d, HalfCheetah."""
