"""Hopper, Walker2d and HalfCheetah: gymnasium's worlds stepped many at a time, and D4RL-style data from trained policies."""
