"""Cached context, as `Condition.prefix`: the keys and values of its tokens, made by
`LanguageTransformer.prefill`.

A prefix is a tuple of tensors with the batch on axis 0: tokens (B, P), their positions (B, P), -1 at padding,
and for every transformer block its rotated keys and its values, (B, 2, kv_heads, P, D).
"""

import torch
from torch import Tensor

Prefix = tuple[Tensor, ...]


def joined(earlier: Prefix | None, later: Prefix) -> Prefix:
    """Both prefixes, one after the other."""
    if earlier is None:
        return later
    return tuple(torch.cat([a, b], dim=1 if a.ndim == 2 else 3) for a, b in zip(earlier, later, strict=True))


def at_columns(prefix: Prefix, columns: Tensor) -> Prefix:
    """The columns (B, K) of a prefix."""
    picked = columns[:, None, None, :, None]
    return tuple(
        part.gather(1, columns)
        if part.ndim == 2
        else part.gather(3, picked.expand(-1, *part.shape[1:3], -1, part.shape[4]))
        for part in prefix
    )


def prefix_of(condition: object) -> Prefix | None:
    """The prefix of a condition, or None.

    Raises:
        ValueError: it was not made by `LanguageTransformer.prefill`.
    """
    prefix = getattr(condition, "prefix", None)
    if prefix is None:
        return None
    if (
        not isinstance(prefix, tuple)
        or len(prefix) < 3
        or not all(isinstance(part, Tensor) for part in prefix)
    ):
        raise ValueError(
            f"Condition.prefix must come from network.prefill(tokens), got {type(prefix).__name__}"
        )
    return prefix
