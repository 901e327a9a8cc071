"""unCLIP: priors that make the embedding of an image from a text, and decoders that draw it."""
