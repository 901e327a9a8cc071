"""The parts of a condition that image networks read, each checked against the network's shape."""

import torch
from torch import Tensor

from unveil.network.condition import Condition
from unveil.network.inference_layout import recording


def concatenated(name: str, x: Tensor, channels: int, cond: Condition | None) -> Tensor:
    """x (B, C, H, W) with `cond.concat` (B, `channels`, H, W) behind it; x alone for 0 channels.

    Args:
        name: of the network, for messages.
    Raises:
        ValueError: it is missing, or of another shape.
    """
    if not channels:
        return x
    wanted = (x.shape[0], channels, *x.shape[2:])
    if cond is None or cond.concat is None or cond.concat.shape != wanted:
        raise ValueError(
            f"{name}: the condition needs concat of shape {wanted}, which is concatenated with x"
        )
    return torch.cat([x, cond.concat], dim=1)


def class_labels(name: str, batch: int, classes: int, cond: Condition | None) -> Tensor:
    """`cond.label` (B,).

    Raises:
        ValueError: it is missing, of another shape, or out of range.
    """
    if cond is None or cond.label is None or cond.label.shape != (batch,):
        raise ValueError(f"{name}: the condition needs {batch} labels, one per sample")
    if not recording() and bool(((cond.label < 0) | (cond.label >= classes)).any()):
        raise ValueError(
            f"{name}: labels must lie in 0 .. {classes - 1}, got {cond.label.min()} .. {cond.label.max()}"
        )
    return cond.label


def noise_levels(name: str, batch: int, cond: Condition | None) -> Tensor:
    """`cond.concat_level` (B,).

    Raises:
        ValueError: it is missing, or of another shape.
    """
    if cond is None or cond.concat_level is None or cond.concat_level.shape != (batch,):
        raise ValueError(f"{name}: the condition needs {batch} noise levels (concat_level), one per sample")
    return cond.concat_level


def pooled_vector(name: str, batch: int, width: int, cond: Condition | None) -> Tensor:
    """`cond.vector` (B, `width`).

    Raises:
        ValueError: it is missing, or of another shape.
    """
    wanted, vector = (batch, width), None if cond is None else cond.vector
    if vector is None or vector.shape != wanted:
        found = "none" if vector is None else tuple(vector.shape)
        raise ValueError(f"{name}: the condition needs a vector of shape {wanted}, got {found}")
    return vector


def image_embedding(name: str, batch: int, width: int, cond: Condition | None) -> Tensor:
    """`cond.embedding` (B, `width`).

    Raises:
        ValueError: it is missing, or of another shape.
    """
    wanted, found = (batch, width), None if cond is None else cond.embedding
    if found is None or found.shape != wanted:
        what = "none" if found is None else tuple(found.shape)
        raise ValueError(f"{name}: the condition needs an image embedding of shape {wanted}, got {what}")
    return found


def text_tokens(
    name: str, batch: int, width: int, cond: Condition | None
) -> tuple[Tensor | None, Tensor | None]:
    """`cond.tokens` (B, N, `width`) and `cond.token_valid` (B, N) or None, if all are valid; nothing for
    width 0.

    Raises:
        ValueError: tokens are missing or of another width, or there are none; validity of another shape.
    """
    if not width:
        return None, None
    if cond is None or cond.tokens is None:
        raise ValueError(
            f"{name}: the condition needs tokens ({batch}, N, {width}), the encoded text; without text, "
            "those of the empty text"
        )
    tokens, valid = cond.tokens, cond.token_valid
    if tokens.ndim != 3 or tokens.shape[::2] != (batch, width) or not tokens.shape[1]:
        raise ValueError(
            f"{name}: tokens must be ({batch}, N, {width}), the output of the text encoder that it was made "
            f"for, got {tuple(tokens.shape)}"
        )
    if valid is not None and (valid.shape != tokens.shape[:2] or valid.dtype != torch.bool):
        raise ValueError(
            f"{name}: token_valid must be {tuple(tokens.shape[:2])} of bool, got {tuple(valid.shape)} of "
            f"{valid.dtype}"
        )
    return tokens, valid
