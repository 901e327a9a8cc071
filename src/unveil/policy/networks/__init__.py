"""Networks, without knowledge of diffusion."""
