"""Function approximators that know nothing of diffusion: (x, time, condition) -> tensor."""
