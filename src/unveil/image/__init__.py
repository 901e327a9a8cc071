"""Images: sampled from noise, conditioned on classes or on other images."""
