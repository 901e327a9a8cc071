"""Networks that know no diffusion."""
