"""Emphasis of words in an encoded prompt: AUTOMATIC1111's rule "Original"."""

from torch import Tensor


def emphasised(tokens: Tensor, weights: Tensor, restore: bool = True) -> Tensor:
    """Multiply the output vectors of a text encoder by weights, and restore the mean of each chunk.

    z' = w z, and then z' mean(z) / mean(z'), with the mean over all tokens and channels of the chunk. A chunk
    whose weights are all 1 is unchanged, bit for bit. AUTOMATIC1111's program takes the mean over the
    batch of prompts, too; here no prompt depends on the others of its batch.

    Args:
        tokens: (B, N, W) vectors of one chunk, padding included.
        weights: (B, N) factors; 1 leaves a token as it is.
        restore: whether to restore the mean; False is the rule "No norm".
    """
    scaled = tokens * weights.to(tokens.dtype)[..., None]  # (B, N, W)
    if not restore:
        return scaled
    before = tokens.float().mean((-2, -1), keepdim=True)  # (B, 1, 1)
    after = scaled.float().mean((-2, -1), keepdim=True)
    changed = (weights != 1).any(-1)[..., None, None]
    return tokens.where(~changed, (scaled.float() * (before / after)).to(tokens.dtype))
