"""Network layers and inputs independent of diffusion: networks map (x, time, condition) to a tensor."""
